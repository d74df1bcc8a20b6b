"""What the verbs share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facellava.errors import FacellavaError, FileMissing, MissingExtra, NoSpace, OutOfMemory, UsageError

if TYPE_CHECKING:
    from facellava.analyzer import Analyzer

__all__ = ["Bar", "loader", "need_training", "obstacles", "pairs", "report", "require_readable", "show_notice"]


def report(error: FacellavaError) -> None:
    """The one line on standard error that every failure is."""
    sys.stdout.flush()
    print(f"facellava: error: {' '.join(str(error).split())}", file=sys.stderr)


@contextmanager
def obstacles(about: str = "") -> Iterator[None]:
    """Turns what the system refuses into errors of ours: a full disk, a folder that cannot be written, no memory.

    Args:
        about: what was worked on, to begin the message with.

    Raises:
        NoSpace, OutOfMemory; FacellavaError for everything else that the system says. BrokenPipeError stays.
    """
    begin = f"{about}: " if about else ""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"{begin}not enough memory: close other programs, or give a smaller input") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _obstacle(error, begin) from error


def _obstacle(error: OSError, begin: str) -> FacellavaError:
    from facellava.weights.cache import CANNOT_WRITE, FULL

    where = error.filename2 or error.filename or "what is written"
    if error.errno in FULL:
        return NoSpace(f"{begin}no space left for {where}: free some, or choose another disk")
    if error.errno in CANNOT_WRITE:
        return NoSpace(f"{begin}cannot write {where} ({error.strerror}): choose a place that you can write")
    return FacellavaError(f"{begin}the system refused: {error}")


def show_notice() -> None:
    """The notice of responsible use on standard error, at the first run."""
    from facellava.notice import show_once

    show_once(sys.stderr)


def require_readable(path: Path) -> Path:
    """``path`` itself.

    Raises:
        FileMissing: it does not exist, is a folder, or may not be read. Told before any model is loaded.
    """
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long
        raise FileMissing(f"{path}: {error.strerror}") from error
    if not there:
        raise FileMissing(f"{path}: no such file")
    if path.is_dir():
        raise FileMissing(f"{path}: is a folder, not a picture or video")
    if not path.is_file():
        raise FileMissing(f"{path}: is a pipe or a device: save it as a file first")
    if not os.access(path, os.R_OK):
        raise FileMissing(f"{path}: no permission to read it")
    return path


def loader(threads: int | None, offline: bool, *, quiet: bool) -> Callable[[], Analyzer]:
    """A function that loads the model when it is first called, so that a wrong path is told at once."""
    loaded: list[Analyzer] = []

    def load() -> Analyzer:
        if not loaded:
            from facellava.analyzer import load as load_analyzer

            progress = sys.stderr.isatty() and not quiet
            loaded.append(load_analyzer(threads=threads, progress=progress, offline=offline or None))
        return loaded[0]

    return load


def pairs(given: list[str], what: str) -> dict[str, str]:
    """``KEY=VALUE`` texts of a repeatable option as a dictionary.

    Raises:
        UsageError: a text without key or equals sign.
    """
    found = {}
    for text in given:
        key, joint, value = text.partition("=")
        if not joint or not key:
            raise UsageError(f"{what} {text!r}: write it as KEY=VALUE")
        found[key] = value
    return found


def need_training() -> None:
    """Raises ``MissingExtra`` where the libraries of training are not installed; quiets their own bars."""
    try:
        import peft  # noqa: F401
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("train", "training") from error
    logging.disable_progress_bar()  # of loading and saving, which are quick; training shows its own


class Bar:
    """One progress line for each stage, on a terminal only."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}
        self._progress: Any = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=Console(stderr=True))
            self._progress.start()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._progress is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
