"""An append-only file of JSON lines that survives being killed at any point.

One process appends (the build folder is locked), a line is handed to the operating system before the next one is
written, and a torn last line is cut off when the file is opened again. Later rows replace earlier ones of the same key.
Lines that a disk has damaged are told and left out, so that their work is done again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from facellava.errors import BuildLocked
from facellava.files import json_row

SYNC_SECONDS = 2.0
"""A power cut may lose this much; SIGKILL loses nothing that was appended."""

Row = Mapping[str, Any]
_log = logging.getLogger(__name__)


class Journal:
    """Rows by key, on disk and in memory. Use as a context manager.

    Args:
        path: of the ``.jsonl`` file, made when missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows: dict[str, Row] = {}
        self._file: IO[bytes] | None = None
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        self._file = self.path.open("ab+")
        self._file.truncate(self._load(self._file))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None

    def _load(self, file: IO[bytes]) -> int:
        """Read all whole lines; where the last one ends."""
        file.seek(0)
        end = damaged = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            row = json_row(line)
            if row is None or "key" not in row:
                damaged += 1
            else:
                self.rows[row["key"]] = row
        if damaged:
            _log.warning("%s: %d damaged line(s): what they held is done again", self.path, damaged)
        return end

    def append(self, key: str, record: Row) -> Row:
        """Write one row; it is safe from SIGKILL when this returns."""
        assert self._file is not None, "not open"
        row = {"key": key, **record}
        self._file.write(json_line(row))
        self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        self.rows[key] = row
        return row


def json_line(row: Row) -> bytes:
    """One line of JSON in UTF-8; half a surrogate pair, which UTF-8 cannot hold, makes it ASCII with escapes."""
    try:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the build folder for this process; the lock goes with the process, however it ends.

    Raises:
        BuildLocked: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BuildLocked(f"{folder} is in use by process {holder}: wait for it or choose another --out") from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
