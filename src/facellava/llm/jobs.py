"""Batch jobs under way, on disk: whoever starts again waits for them instead of paying twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from facellava.files import reading, write_atomic

_LOCK = threading.Lock()
"""Clients of several services share one file."""


@dataclass(frozen=True)
class Job:
    """A batch job: the service's host, the service's name of the job, and the keys of its requests in their order."""

    service: str
    name: str
    keys: tuple[str, ...]


class Jobs:
    """The jobs whose answers have not all been kept yet.

    Args:
        path: of the JSON file; None keeps nothing beyond this object.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: list[Job] = []

    def holding(self, service: str, keys: Collection[str]) -> list[Job]:
        """The service's jobs that hold at least one of these requests, oldest first."""
        with _LOCK:
            return [job for job in self._read() if job.service == service and not set(job.keys).isdisjoint(keys)]

    def put(self, job: Job) -> None:
        """Remember a job that was started."""
        with _LOCK:
            self._write([*self._read(), job])

    def forget(self, job: Job) -> None:
        """Every answer of the job is kept by whoever asked, or the service no longer has it."""
        with _LOCK:
            self._write([other for other in self._read() if (other.service, other.name) != (job.service, job.name)])

    def _read(self) -> list[Job]:
        if self._path is None:
            return self._kept
        if not self._path.is_file():
            return []
        with reading(self._path, "delete it; batch jobs that were started are then asked anew"):
            rows = json.loads(self._path.read_bytes())
            return [Job(row["service"], row["name"], tuple(row["keys"])) for row in rows]

    def _write(self, jobs: list[Job]) -> None:
        self._kept = jobs
        if self._path is not None:
            write_atomic(self._path, json.dumps([asdict(job) for job in jobs], indent=1))
