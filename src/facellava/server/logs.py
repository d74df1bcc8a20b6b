"""One line a request on standard error: no addresses, no file names, no words and no pixels of anybody."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

__all__ = ["configuration", "log_request"]

logger = logging.getLogger("facellava.server")


class Discreet(logging.Formatter):
    """Says where an error happened and of what type it is; its words may quote a request."""

    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatException(  # noqa: N802 - the library's name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Type and places, without words."""
        kind, _, trace = ei
        places = [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
        return "\n".join([f"  {kind.__name__ if kind else 'error'}", *places])


def configuration(level: str = "INFO") -> dict[str, Any]:
    """For ``logging.config.dictConfig``: our lines, and the web server's warnings, in one form."""
    handler = {"class": "logging.StreamHandler", "formatter": "discreet", "stream": sys.stderr}
    quiet = {"handlers": ["stderr"], "level": "WARNING", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"discreet": {"()": Discreet}},
        "handlers": {"stderr": handler},
        "loggers": {
            "facellava.server": {**quiet, "level": level},
            "uvicorn": quiet,
            "uvicorn.error": {"level": "WARNING"},
            "asyncio": quiet,
        },
    }


def log_request(name: str, method: str, route: str, status: int, seconds: float, received: int) -> None:
    """What happened, in numbers."""
    # methods are whatever a client writes
    known = method if method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH") else "other"
    logger.info("%s %s %d %.3fs %d bytes in, id %s", known, route, status, seconds, received, name)
