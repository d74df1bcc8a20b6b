"""Files that are either whole or not there, how damage is told, and the folder for files that can be made again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facellava.errors import DamagedCheckpoint, DamagedFile, FacellavaError, UsageError


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


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Makes what the system says while safetensors writes ``path`` (a full disk) the OSError that it is."""
    from safetensors import SafetensorError  # here: the command line starts without it

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextmanager
def reading(
    path: Path, advice: str = "delete it and make it again", kind: type[FacellavaError] = DamagedFile
) -> Iterator[None]:
    """Turns what goes wrong with the bytes of ``path`` (JSON, safetensors, Parquet) into one line.

    Args:
        advice: what to do, in a few words. kind: of the error.
    """
    from safetensors import SafetensorError  # here: the command line starts without it

    broken = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, EOFError, RecursionError)
    try:
        yield
    except (*broken, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, not the content's
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise kind(f"{path} was cut off or changed ({reason[:200]}): {advice}") from error


def read_text(path: Path) -> str:
    """A text that a person or a spreadsheet wrote: UTF-8, with or without its mark at the start.

    Raises:
        UsageError: it is something else.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from error


def from_json(text: str | bytes) -> Any:
    """As ``json.loads``, for what others wrote: nesting that is deeper than Python can follow is no JSON either.

    Raises:
        json.JSONDecodeError, or UnicodeDecodeError for bytes.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds.

    Raises:
        DamagedFile: it is no JSON.
    """
    with reading(path):
        return from_json(path.read_bytes())


def read_object(
    path: Path, advice: str = "get the folder again", kind: type[FacellavaError] = DamagedCheckpoint
) -> dict[str, Any]:
    """The object in a JSON file of a model's or a run's folder; arguments as :func:`reading`.

    Raises:
        DamagedCheckpoint: or what ``kind`` is: it is no JSON object.
    """
    with reading(path, advice, kind):
        found = from_json(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    return found


def json_row(line: bytes) -> dict[str, Any] | None:
    """The object in a line of an append-only file; None for a line that a power cut or a disk has damaged."""
    try:
        row = from_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def is_inside(folder: Path, name: str) -> bool:
    """Whether a name out of somebody's list stays below the folder that it is relative to.

    Names alone are looked at: links in the folder are the user's own and may lead anywhere.
    """
    top = os.path.normpath(folder.absolute())
    return "\0" not in name and os.path.normpath(os.path.join(top, name)).startswith(top.rstrip(os.sep) + os.sep)


def seal(mark: Path, files: Iterable[Path]) -> None:
    """Remember sizes, times and SHA-256 of files that lie beside ``mark``; see :func:`is_intact`."""
    facts = {}
    for path in files:
        state = path.stat()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        facts[path.name] = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": digest}
    write_atomic(mark, json.dumps(facts, indent=1) + "\n")


def is_intact(mark: Path) -> bool:
    """Whether the files that were sealed are what they were; False without a seal.

    A file of the same size and time is trusted, any other is hashed: a warm start reads nothing, and a copied folder
    stays good. Bits that change without touching size or time are not noticed.
    """
    try:
        facts = json.loads(mark.read_bytes())
        return all(_is_the_same(mark.parent / name, fact) for name, fact in facts.items())
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return False


def _is_the_same(path: Path, fact: dict[str, Any]) -> bool:
    state = path.stat()
    if state.st_size != fact["size"]:
        return False
    if state.st_mtime_ns == fact["mtime_ns"]:
        return True
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == fact["sha256"]


def cache_dir() -> Path:
    """``FACELLAVA_CACHE`` when set, else ``facellava`` in the user's cache folder of the platform."""
    if override := os.environ.get("FACELLAVA_CACHE"):
        return Path(override).expanduser()
    from platformdirs import user_cache_path  # 10 ms that a set FACELLAVA_CACHE saves

    return user_cache_path("facellava", appauthor=False)
