"""Batch jobs under way, on disk: whoever starts again waits for them instead of paying twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from facellava.files import write_atomic


class Jobs:
    """Names of jobs by the requests that they hold.

    Args:
        path: of the JSON file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._names: dict[str, str] = {}
        if path is not None and path.is_file():
            self._names = json.loads(path.read_text(encoding="utf-8"))

    def get(self, keys: Iterable[str]) -> str | None:
        """The job that holds exactly these requests."""
        return self._names.get(_digest(keys))

    def put(self, keys: Iterable[str], name: str) -> None:
        """Remember a job that was started."""
        self._names[_digest(keys)] = name
        self._save()

    def forget(self, keys: Iterable[str]) -> None:
        """The job's answers are about to be read; they stay with the service."""
        self._names.pop(_digest(keys), None)
        self._save()

    def _save(self) -> None:
        if self._path is not None:
            write_atomic(self._path, json.dumps(self._names, indent=1))


def _digest(keys: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
