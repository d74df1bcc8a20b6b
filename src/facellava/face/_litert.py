"""One thin wrapper around a LiteRT interpreter: array in, arrays out."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellava.errors import WeightsUnavailable

__all__ = ["TfliteModel"]


class TfliteModel:
    """A `.tflite` network with one float input.

    Not safe to call from two threads at once (the interpreter owns its buffers): make one per thread.

    Args:
        path: the `.tflite` file.
        threads: threads of the CPU kernels.

    Raises:
        WeightsUnavailable: the file is missing or is no LiteRT model.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        # Imported here: it takes 50 ms that `facellava --help` need not pay.
        from ai_edge_litert.interpreter import Interpreter

        if not Path(path).is_file():
            raise WeightsUnavailable(f"weight file {path} does not exist: run `facellava weights pull`")
        try:
            with _without_first_notice():
                self._net = Interpreter(model_path=str(path), num_threads=threads)
                self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsUnavailable(
                f"weight file {path} is no LiteRT model ({_first_line(error)}): `facellava weights verify`"
            ) from error
        self._input = self._net.get_input_details()[0]
        self._ordered = [o["index"] for o in self._net.get_output_details()]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input tensor, batch axis first."""
        return tuple(int(n) for n in self._input["shape"])

    def __call__(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run once; the results are copies, in the model's order."""
        self._net.set_tensor(self._input["index"], np.ascontiguousarray(x, dtype=np.float32))
        self._net.invoke()
        return [self._net.get_tensor(index) for index in self._ordered]


_first = threading.Lock()  # taken once and never given back


@contextlib.contextmanager
def _without_first_notice() -> Iterator[None]:
    """LiteRT writes one INFO line to the process's standard error with its first network and has no switch.

    Ours is for errors of one line each, so the descriptor leads nowhere for those few milliseconds.
    """
    if not _first.acquire(blocking=False):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # the process has no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
