"""Networks that are changed a little before they run, made once and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from facellava.errors import NoSpace
from facellava.files import cache_dir, is_intact, seal, write_atomic


def prepared(name: str, make: Callable[[], bytes]) -> Path:
    """The file ``name`` in the cache, made there on first use and whenever it is not what was made.

    Args:
        name: with a number that rises when the making changes.

    Raises:
        NoSpace: the cache cannot be written.
    """
    target = cache_dir() / "models" / name
    mark = target.with_suffix(".sealed.json")
    if not is_intact(mark):
        model = make()
        try:
            write_atomic(target, model)
            seal(mark, [target])
        except OSError as error:
            raise NoSpace(f"cannot write {target} ({error.strerror}): set FACELLAVA_CACHE to another folder") from error
    return target
