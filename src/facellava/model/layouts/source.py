"""Checkpoints on disk: names, shapes and types first, tensors one at a time, pickles only as far as they hold tensors.

``model.safetensors``, ``pytorch_model.bin``, shards of either with their index, or one file. A ``.bin`` is read by
``torch.load(weights_only=True, mmap=True)``, which runs no code
(https://docs.pytorch.org/docs/stable/generated/torch.load.html).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from facellava.errors import DamagedCheckpoint, FileMissing
from facellava.files import read_object

__all__ = ["Entry", "Source", "open_source", "read_json"]

NAMES = ("model.safetensors", "pytorch_model.bin")
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_BROKEN_PICKLE = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError)
"""What PyTorch raises for files that are cut off or no archive."""


@dataclass(frozen=True)
class Entry:
    """A tensor that has not been read.

    Attributes:
        shape, dtype: of the tensor.
        read: the tensor; of a checkpoint's it is a view of the file.
        file: where it is, so that files can be read one after the other.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    file: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()

    def rows(self, start: int, stop: int) -> Entry:
        """Some rows of it."""
        shape = (stop - start, *self.shape[1:])
        return Entry(shape, self.dtype, lambda: self.read()[start:stop], self.file)

    def cast(self, dtype: torch.dtype) -> Entry:
        """In another type."""
        return Entry(self.shape, dtype, lambda: self.read().to(dtype), self.file)

    @classmethod
    def filled(cls, shape: tuple[int, ...], dtype: torch.dtype, value: float) -> Entry:
        """One that is on no disk."""
        return cls(shape, dtype, lambda: torch.full(shape, value, dtype=dtype))

    @classmethod
    def stacked(cls, parts: list[Entry]) -> Entry:
        """Several, one under the other."""
        first = parts[0]
        shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
        return cls(shape, first.dtype, lambda: torch.cat([part.read() for part in parts]), first.file)


class _Files:
    """Open files of tensors; ``close`` lets go of what they have mapped into memory."""

    def __init__(self) -> None:
        self._open: dict[Path, Any] = {}

    def close(self) -> None:
        self._open.clear()

    def tensor(self, path: Path, key: str) -> Tensor:
        if path not in self._open:
            self._open[path] = _open(path)
        file = self._open[path]
        return file[key] if isinstance(file, dict) else file.get_tensor(key)

    def entries(self, path: Path) -> dict[str, Entry]:
        """What a file holds, by name."""
        file = _open(path)
        if isinstance(file, dict):
            known = {key: (tuple(value.shape), value.dtype) for key, value in file.items()}
        else:
            known = {key: _declared(file, key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        return {
            key: Entry(shape, dtype, lambda key=key: self.tensor(path, key), path.name)
            for key, (shape, dtype) in known.items()
        }


def _declared(file: Any, key: str) -> tuple[tuple[int, ...], torch.dtype]:
    part = file.get_slice(key)
    kind = part.get_dtype()
    if kind not in _TYPES:
        raise DamagedCheckpoint(f"{key} is of type {kind}, which is not supported")
    return tuple(part.get_shape()), _TYPES[kind]


def _open(path: Path) -> Any:
    """A file of safetensors, or the dictionary of a ``.bin``."""
    if path.suffix == ".safetensors":
        try:
            return safe_open(path, "pt")
        except (SafetensorError, OSError) as error:
            raise DamagedCheckpoint(f"{path} is cut off or no safetensors file ({error})") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise DamagedCheckpoint(f"{path} holds more than tensors, or is damaged: nothing of it was run") from error
    except _BROKEN_PICKLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedCheckpoint(f"{path} is cut off or no file of PyTorch 1.6 or later ({reason})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DamagedCheckpoint(f"{path} holds other things than named tensors")
    return {str(key): value for key, value in found.items()}


@dataclass(frozen=True)
class Source:
    """A checkpoint: its tensors by name, in the order of its files, and its config.json."""

    path: Path
    folder: Path
    entries: Mapping[str, Entry]
    config: Mapping[str, Any]
    close: Callable[[], None]


def open_source(path: Path) -> Source:
    """Open a folder or a file of tensors.

    Raises:
        FileMissing: nothing is there, or it holds no tensors. DamagedCheckpoint: files are broken or missing, or hold
            other tensors than the index says.
    """
    if not path.exists():
        raise FileMissing(f"{path}: no such file or folder")
    folder = path.parent if path.is_file() else path
    files = _Files()
    listed = _listed(path)
    entries: dict[str, Entry] = {}
    for name, keys in listed.items():
        found = files.entries(folder / name)
        if keys is not None and (wrong := found.keys() ^ keys):
            where = "lacks" if min(wrong) in keys else "holds, against the index,"
            raise DamagedCheckpoint(f"{folder / name} {where} {min(wrong)} ({len(wrong)} differ from the index)")
        entries |= found
    if not entries:
        raise DamagedCheckpoint(f"{path} holds no tensors")
    return Source(path, folder, entries, read_json(folder / "config.json"), files.close)


def _listed(path: Path) -> dict[str, set[str] | None]:
    """Files of a checkpoint, and the keys that each should hold where an index says so."""
    if path.is_file():
        if path.suffix not in (".safetensors", ".bin"):
            raise FileMissing(f"{path}: give a folder, a .safetensors or a .bin file")
        return {path.name: None}
    for name in NAMES:
        if (path / name).is_file():
            return {name: None}
        if (path / f"{name}.index.json").is_file():
            return _index(path / f"{name}.index.json")
    raise FileMissing(f"{path} holds none of {', '.join(NAMES)}, nor an index of shards (NAME.index.json)")


def _index(path: Path) -> dict[str, set[str] | None]:
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise DamagedCheckpoint(f"{path} has no 'weight_map' of names to files")
    files: dict[str, set[str] | None] = {name: set() for name in sorted(set(places.values()))}
    for name in files:
        if Path(name).name != name or not (path.parent / name).is_file():
            raise DamagedCheckpoint(f"{path} names {name}, which is not beside it")
        files[name] = {key for key, place in places.items() if place == name}
    return files


def read_json(path: Path) -> dict[str, Any]:
    """A file's object; empty without the file.

    Raises:
        DamagedCheckpoint: it is no JSON object.
    """
    if not path.is_file():
        return {}
    return read_object(path)
