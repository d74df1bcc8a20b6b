"""Reading annotation files with errors that name the file and the line."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from facellava.errors import LabelUnknown, SourceLayout, UsageError
from facellava.files import from_json, is_inside
from facellava.types import Sample

from .base import SourceInfo

Split = Literal["train", "val", "test"]
Value = TypeVar("Value")

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".flv", ".wmv")


def reader(
    info: SourceInfo, *, elsewhere: bool = False
) -> Callable[[Callable[..., Iterator[Sample]]], Callable[..., Iterator[Sample]]]:
    """Makes a ``read`` refuse splits and options that ``info`` does not name, before the first sample is asked for, and
    annotations that name files outside of the dataset's folder.

    Args:
        elsewhere: the source is made of others, whose folders the user names and whose readers look after themselves.
    """

    def wrap(read: Callable[..., Iterator[Sample]]) -> Callable[..., Iterator[Sample]]:
        @functools.wraps(read)
        def checked(root: Path, split: str, **options: object) -> Iterator[Sample]:
            check_split(info, split)
            no_options(info, options)
            samples = read(Path(root), split, **options)
            return samples if elsewhere else _inside(info, Path(root), samples)

        return checked

    return wrap


def _inside(info: SourceInfo, root: Path, samples: Iterator[Sample]) -> Iterator[Sample]:
    for sample in samples:
        if not is_inside(root, str(sample.media)):
            raise SourceLayout(f"{info.name}: {sample.id} names {sample.media}, which is not below {root}")
        yield sample


@contextmanager
def is_text(path: Path) -> Iterator[None]:
    """Turns what goes wrong with the bytes of an annotation file into SourceLayout."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceLayout(f"{path}: expected UTF-8 text; byte {error.start} is none") from error
    except csv.Error as error:
        raise SourceLayout(f"{path}: expected a table of text ({error})") from error


class Line(NamedTuple):
    """One row of an annotation file and where it stands."""

    path: Path
    number: int
    values: dict[str, str]

    def wrong(self, message: str) -> SourceLayout:
        """An error about this line."""
        return SourceLayout(f"{self.path}, line {self.number}: {message}")


def check_split(info: SourceInfo, split: str) -> Split:
    """The split as a type. Raises UsageError with the known ones."""
    if split not in info.splits:
        raise UsageError(f"{info.name} has no split {split!r}; it has {', '.join(info.splits)}")
    assert split in ("train", "val", "test")
    return split


def choice(info: SourceInfo, name: str, value: object, known: Sequence[Any]) -> Any:
    """An option's value. Raises UsageError when it is none of `known`."""
    if value not in known:
        raise UsageError(f"{info.name}: option {name} is {value!r}; known: {', '.join(map(str, known))}")
    return value


def rows(path: Path, columns: Sequence[str], *, delimiter: str = ",") -> Iterator[Line]:
    """Rows of a table with a header, which must hold `columns`; further columns are kept.

    Raises:
        SourceLayout: a column is missing, or a row is shorter than the header.
    """
    with is_text(path), path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, delimiter=delimiter)
        header = [name.strip() for name in table.fieldnames or ()]
        table.fieldnames = header
        if lacking := [name for name in columns if name not in header]:
            raise SourceLayout(f"{path}, line 1: expected the columns {', '.join(columns)}; {lacking[0]} is missing")
        for row in table:
            if None in row.values():
                raise SourceLayout(f"{path}, line {table.line_num}: expected {len(header)} values")
            yield Line(path, table.line_num, {k: str(v).strip() for k, v in row.items() if k is not None})


def fields(path: Path, names: Sequence[str], *, delimiter: str | None = None, skip: int = 0) -> Iterator[Line]:
    """Lines of a text file without a header, each of exactly the named fields; blank lines are left out."""
    with is_text(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        if number <= skip or not line.strip():
            continue
        values = [value.strip() for value in line.split(delimiter)]
        if len(values) != len(names):
            raise SourceLayout(f"{path}, line {number}: expected {' '.join(names)}, found {line.strip()!r}")
        yield Line(path, number, dict(zip(names, values, strict=True)))


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a file of JSON lines."""
    with is_text(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = from_json(line)
            except json.JSONDecodeError as error:
                raise SourceLayout(f"{path}, line {number}: expected a JSON object ({error.msg})") from error
            if not isinstance(value, dict):
                raise SourceLayout(f"{path}, line {number}: expected a JSON object, found {type(value).__name__}")
            yield number, value


def mapped(line: Line, name: str, known: Mapping[str, Value]) -> Value:
    """What a native label stands for. Raises LabelUnknown with the documented ones."""
    native = line.values[name]
    if native not in known:
        raise LabelUnknown(
            f"{line.path}, line {line.number}: {name} is {native!r}; documented are {', '.join(map(str, known))}"
        )
    return known[native]


def whole(line: Line, name: str) -> int:
    """A whole number. Raises SourceLayout for anything else."""
    text = line.values[name]
    try:
        return int(text)
    except ValueError as error:
        raise line.wrong(f"{name} is {text!r}, but must be a whole number") from error


def find_media(folder: Path, stems: Sequence[str], endings: Sequence[str]) -> Path:
    """The first file that exists of all stems and endings; else the first candidate, which preprocessing reports."""
    candidates = [folder / f"{stem}{ending}" for stem in stems for ending in endings]
    # of os, because the method raises for names that are too long
    return next((path for path in candidates if os.path.isfile(path)), candidates[0])


def no_options(info: SourceInfo, options: Mapping[str, object]) -> None:
    """Raises UsageError for options that the reader does not have."""
    if unknown := options.keys() - info.options.keys():
        known = ", ".join(info.options) or "none"
        raise UsageError(f"{info.name} has no option {min(unknown)!r}; it has {known}")


def fold_of(subject: str, folds: int) -> int:
    """A fold from 1 on for a subject, the same on every machine."""
    return int(hashlib.sha256(subject.encode()).hexdigest()[:8], 16) % folds + 1
