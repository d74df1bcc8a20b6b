"""Files that are either whole or not there, and the folder for those that can be made again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its name when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(target: Path, data: bytes | str) -> None:
    """Write ``data`` so that ``target`` never holds a part of it."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def cache_dir() -> Path:
    """``FACELLAVA_CACHE`` when set, else ``facellava`` in the user's cache folder of the platform."""
    if override := os.environ.get("FACELLAVA_CACHE"):
        return Path(override).expanduser()
    from platformdirs import user_cache_path  # 10 ms that a set FACELLAVA_CACHE saves

    return user_cache_path("facellava", appauthor=False)
