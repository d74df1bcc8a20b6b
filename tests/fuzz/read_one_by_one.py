"""Reads media named on standard input in a process that may die: one line of JSON for each, as soon as it is known.

A line is the path of a damaged file, a tab, and the path of the good file that it was made from.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellava.errors import FacellavaError
from facellava.face import Limits, read_media

MEMORY = 6 * 10**9
"""Bytes of address space; threads and mapped libraries take most of it."""
LIMITS = Limits(max_pixels=10_000_000, max_count=2000)


def _frames(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what would be printed is no one line
        media = read_media(path, limits=LIMITS, max_frames=8)
    return np.asarray(media.frames), media.times


@cache
def _good(path: Path) -> NDArray[np.uint8]:
    return _frames(path)[0]


def told(path: Path, good: Path) -> dict[str, object]:
    """``outcome``: the code of the error, ``same`` (every pixel as in the good file) or ``other``.

    ``problem``: what is wrong with it, "" for nothing.
    """
    begun = time.process_time()
    try:
        frames, times = _frames(path)
    except FacellavaError as error:
        message = str(error)
        problem = "" if message and "\n" not in message else "the message is not one line"
        return {"outcome": error.code, "problem": problem, "seconds": time.process_time() - begun}
    problem = ""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        problem = f"frames are {frames.dtype} {frames.shape}"
    if len(frames) != len(times) or not np.isfinite(times).all():
        problem = "times do not fit the frames"
    outcome = "same" if np.array_equal(frames, _good(good)) else "other"
    return {"outcome": outcome, "problem": problem, "seconds": time.process_time() - begun}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        path, good = line.rstrip("\n").split("\t")
        print(json.dumps({"path": path, **told(Path(path), Path(good))}), flush=True)


if __name__ == "__main__":
    main()
