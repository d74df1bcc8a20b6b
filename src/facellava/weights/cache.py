"""The cache folder: where it is, locks between processes, whole-file writes, and remembered hash checks.

A file is hashed in full before its first use. The result is remembered in the cache as (size, modification
time), so that a warm start does not read 98 MB again. The trade: bits that rot on disk without touching size
or time are not noticed until ``facellava weights verify``, which always reads everything.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from facellava.errors import NoSpace
from facellava.files import cache_dir

__all__ = ["CANNOT_WRITE", "FULL", "cache_dir", "check", "clear_mark", "file_sha256", "locked", "writing"]

CHUNK = 1 << 20

CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def writing(target: Path, elsewhere: str = "set FACELLAVA_CACHE to a folder") -> Iterator[None]:
    """Turn the operating system's write errors into NoSpace, naming ``target`` and what to do.

    Args:
        elsewhere: how the user chooses another place, completed by "on a larger disk" or "that you can write".

    Raises:
        NoSpace: the disk or quota is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace(f"no space left for {target}: free some, or {elsewhere} on a larger disk") from error
        if error.errno in CANNOT_WRITE:
            reason = os.strerror(error.errno)
            raise NoSpace(f"cannot write {target} ({reason}): {elsewhere} that you can write") from error
        raise


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold an exclusive lock on ``path`` between processes; released by the system when a process dies.

    Args:
        path: lock file, created when absent and left behind (removing it would race with a waiting process).
        waiting: called once when another process holds the lock.

    Yields:
        False where the file system has no locks (some network mounts): the caller must then not share paths.

    Raises:
        NoSpace: the lock file cannot be created.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b")
    with handle:
        yield _lock(handle, waiting)
        # closing the file releases the lock


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: IO[bytes], waiting: Callable[[], None] | None) -> bool:
        import time

        handle.seek(0)
        told = False
        while True:
            try:
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if waiting and not told:
                    waiting()
                told = True
                time.sleep(0.2)

else:
    import fcntl

    def _lock(handle: IO[bytes], waiting: Callable[[], None] | None) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP):
                return False
            raise
        return True


def file_sha256(path: Path) -> str:
    """Lower-case hex SHA-256 of a file, read in pieces of 1 MiB."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _mark_path(path: Path) -> Path:
    return cache_dir() / "verified" / (hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24] + ".json")


def _state(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def check(path: Path, sha256: str, size: int, *, fresh: bool = False) -> bool:
    """Whether the file has the given size and SHA-256.

    Args:
        fresh: hash even when an earlier check of the same size and modification time is remembered.
    """
    state = _state(path)
    if state["size"] != size:
        return False
    mark = _mark_path(path)
    wanted = json.dumps({"sha256": sha256, **state})
    with contextlib.suppress(OSError):  # no mark, or not ours to read: hash
        if not fresh and mark.read_bytes() == wanted.encode():
            return True
    if file_sha256(path) != sha256:
        clear_mark(path)
        return False
    with contextlib.suppress(OSError):  # a read-only cache costs a hash each time, nothing else
        mark.parent.mkdir(parents=True, exist_ok=True)
        temporary = mark.with_suffix(f".{os.getpid()}")
        temporary.write_text(wanted, encoding="utf-8")
        temporary.replace(mark)
    return True


def clear_mark(path: Path) -> None:
    """Forget a remembered check, so that the next use hashes the file."""
    with contextlib.suppress(OSError):
        _mark_path(path).unlink(missing_ok=True)
