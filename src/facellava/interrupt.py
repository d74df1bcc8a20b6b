"""Long work that somebody else may end: loops ask whether to go on, and whoever waits for the result decides.

Front end and language model call :func:`poll` between frames and between passes. Nobody listens by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["poll", "watched"]

_check: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


@contextmanager
def watched(check: Callable[[], None]) -> Iterator[None]:
    """Within, this thread's work calls ``check`` many times a second; what it raises ends the work."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def poll() -> None:
    """Raise what the surrounding :func:`watched` wants raised; nothing outside of it."""
    check = _check.get()
    if check is not None:
        check()
