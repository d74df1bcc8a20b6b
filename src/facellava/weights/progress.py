"""Download progress for people: one rewritten line on a terminal, silence everywhere else."""

from __future__ import annotations

import sys
from typing import TextIO

__all__ = ["TerminalProgress"]

_WIDTH = 24


class TerminalProgress:
    """A ``progress`` callback for :func:`facellava.weights.resolve`; writes only to a terminal.

    Use as a context manager: leaving it clears the line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._on = self._stream.isatty()
        self._length = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show ``what`` with ``done`` of ``total`` bytes; ``total`` 0 means unknown."""
        if not self._on:
            return
        if total:
            filled = min(_WIDTH, _WIDTH * done // total)
            line = f"{what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done / 1e6:.1f}/{total / 1e6:.1f} MB"
        else:
            line = what
        self._write(line)

    def _write(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._length))
        self._stream.flush()
        self._length = len(line)

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on and self._length:
            self._write("")
            self._stream.write("\r")
