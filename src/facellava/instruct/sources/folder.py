"""Your own pictures and videos: a folder with ``labels.csv`` or ``labels.jsonl``, or with one folder for each class.

A row names a ``file`` below the root and whatever is known about its face: ``expression``, ``action_units``,
``attributes``, ``age``, ``authenticity``. What is not in it is unknown. Each labelled task of a row becomes a sample of
its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facellava import settings, tasks
from facellava.errors import LabelUnknown, SourceLayout, UsageError
from facellava.tasks.task import Task
from facellava.types import LabelValue, MediaKind, Sample

from .base import SourceInfo, require
from .fields import IMAGE_ENDINGS, VIDEO_ENDINGS, Split, check_split, objects, reader, rows

INFO = SourceInfo(
    name="folder",
    title="Your own pictures and videos",
    task="",
    modality="both",
    licence="yours to state with the options licence and redistribute",
    redistribute=False,
    obtain="It is yours.",
    citation="",
    layout="""
        labels.csv or labels.jsonl with a column 'file' and any of: id, split, subject, box, expression, action_units,
            known_action_units, attributes, known_attributes, unsure, age, authenticity, description, licence
        or one folder for each class of the option task: happiness/1.jpg, anger/2.mp4, ...
    """,
    splits=("train", "val", "test"),
    options={
        "file": "name of the table below the root; labels.csv or labels.jsonl by default",
        "task": "without a table: the task whose classes the folders are named after",
        "columns": "table of our field -> your column, e.g. { age = 'age_estimate' }; '' leaves a field out",
        "values": "table of your label -> ours, e.g. { happy = 'happiness' }",
        "ignore": "labels that mean unknown, e.g. ['unclear']",
        "known": "table of task -> labels that your annotation covers, where rows do not say; default: all of the task",
        "where": "table of your column -> value: other rows are left out",
        "at_least": "table of your column -> number: rows with less are left out, rows without a value are not",
        "join": "a second table below the root, whose columns are added to the rows of the same id",
        "active_from": "action_units given as strengths: active from here on",
        "inactive_to": "... and inactive up to here; unknown between",
        "groups": "table of name -> your column: who the face belongs to, for fairness: { gender = 'sex' }",
        "licence": "in a few words, goes into every row",
        "redistribute": "true: pixels may go into the dataset and its exports",
    },
    in_paper=False,
)

FIELDS = ("expression", "action_units", "attributes", "age", "authenticity")
TASK_OF = {"authenticity": "deepfake"}


@dataclass(frozen=True)
class _Options:
    file: str = ""
    task: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    join: str = ""
    active_from: float = 0.5
    inactive_to: float = 0.5
    licence: str = ""
    redistribute: bool = False


@reader(INFO)
def read(root: Path, split: str, **options: Any) -> Iterator[Sample]:
    """The samples of one split; rows without a split are ``train``. See ``Source.read``."""
    wanted = check_split(INFO, split)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    given = settings.build(_Options, plain, INFO.name)
    if given.task:
        if wanted == "train":
            yield from _by_class(root, tasks.get(given.task), given)
        return
    path = require(INFO, root, *([given.file] if given.file else ["labels.csv", "labels.jsonl"]))
    for number, row in _table(root, path, given):
        yield from _Row(root, path, number, row, given).samples(wanted)


def _table(root: Path, path: Path, given: _Options) -> Iterator[tuple[int, dict[str, Any]]]:
    beside: dict[str, dict[str, Any]] = {}
    if given.join:
        other = require(INFO, root, given.join)
        beside = {str(row.get("id")): row for _, row in _lines(other, "id")}
    for number, row in _lines(path, given.columns.get("file", "file")):
        row = {**beside.get(str(row.get("id")), {}), **row}
        if _wanted(row, given, f"{path}, line {number}"):
            yield number, row


def _lines(path: Path, column: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".jsonl":
        yield from objects(path)
    else:
        yield from ((line.number, dict(line.values)) for line in rows(path, [column]))


def _wanted(row: Mapping[str, Any], given: _Options, place: str) -> bool:
    if any(row.get(column) != value for column, value in given.where.items()):
        return False
    for column, least in given.at_least.items():
        value = row.get(column)
        if value is None or value == "":
            continue
        try:
            if float(value) < least:
                return False
        except (TypeError, ValueError) as error:
            raise SourceLayout(f"{place}: {column} is {value!r}, but at_least compares numbers") from error
    return True


@dataclass
class _Row:
    """One row of the user's table."""

    root: Path
    path: Path
    number: int
    row: Mapping[str, Any]
    given: _Options

    @property
    def place(self) -> str:
        return f"{self.path}, line {self.number}"

    def get(self, name: str) -> Any:
        """The row's value of one of our fields; None when absent or empty."""
        value = self.row.get(self.given.columns.get(name, name))
        return None if value is None or (isinstance(value, str) and not value.strip()) else value

    def samples(self, wanted: Split) -> Iterator[Sample]:
        split = str(self.get("split") or "train")
        if split not in INFO.splits:
            raise LabelUnknown(f"{self.place}: split is {split!r}; use {', '.join(INFO.splits)}")
        if split != wanted:
            return
        file = self.get("file")
        if not isinstance(file, str):
            raise SourceLayout(f"{self.place}: 'file' is missing")
        labels = [(name, *found) for name in FIELDS if (found := self.label(name)) is not None]
        for name, label, known in labels:
            task = TASK_OF.get(name, name)
            suffix = f"@{task}" if len(labels) > 1 else ""
            yield self._sample(file, wanted, task, suffix, label, known)

    def _sample(
        self, file: str, split: Split, task: str, suffix: str, label: LabelValue, known: tuple[str, ...]
    ) -> Sample:
        meta = {"description": self.get("description"), "licence": self.get("licence") or self.given.licence}
        if isinstance(meta["description"], list):
            meta["description"] = meta["description"][0] if meta["description"] else None
        for name, column in self.given.groups.items():
            meta[name] = self.row.get(column)
        meta = {name: value for name, value in meta.items() if value is not None and value != ""}
        subject = self.get("subject")
        return Sample(
            id=f"folder/{self.get('id') or file}{suffix}",
            source="folder",
            split=split,
            task=task,
            media=(self.root / file).absolute(),
            kind=kind_of(file),
            label=label,
            known=known,
            subject=None if subject is None else str(subject),
            box=self._box(),
            meta={name: str(value) for name, value in meta.items()},
        )

    def _box(self) -> tuple[float, float, float, float] | None:
        value = self.get("box") or self.get("face_box")
        if value is None:
            return None
        numbers = value.replace(";", " ").replace(",", " ").split() if isinstance(value, str) else value
        try:
            x, y, width, height = map(float, numbers)
        except (TypeError, ValueError) as error:
            raise SourceLayout(f"{self.place}: box is {value!r}, but must be x, y, width, height") from error
        return x, y, width, height

    def label(self, name: str) -> tuple[LabelValue, tuple[str, ...]] | None:
        """(label, known labels) of one field; None when unknown."""
        value, task = self.get(name), tasks.get(TASK_OF.get(name, name))
        if value is None:
            return None
        if task.kind == "number":
            return self._years(value, task), ()
        if task.kind == "single":
            native = str(value).strip()
            return None if native in self.given.ignore else (self._name(task, native), ())
        return self._several(task, name, value)

    def _years(self, value: Any, task: Task) -> int:
        assert task.number is not None
        try:
            years = round(float(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise SourceLayout(f"{self.place}: age is {value!r}, but must be a number of years") from error
        if not task.number.minimum <= years <= task.number.maximum:
            raise LabelUnknown(
                f"{self.place}: age {years} is not between {task.number.minimum} and {task.number.maximum}"
            )
        return years

    def _several(self, task: Task, name: str, value: Any) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        covered = self._names(task, self.get(f"known_{name}") or self.given.known.get(name) or task.default_names)
        unsure = {self.given.values.get(n, n) for n in self._listed(self.get("unsure") or ())}
        if isinstance(value, Mapping):
            strength = self._strengths(task, value)
            active = {n for n, s in strength.items() if s >= self.given.active_from}
            inactive = {n for n, s in strength.items() if s <= self.given.inactive_to}
            between = strength.keys() - active - inactive
        else:
            between, active = set(), set(self._names(task, value))
            if not active and self._listed(value):  # all that is said is to be ignored
                return None
        known = set(covered) - unsure - between
        return task.sort(active & known), task.sort(known)

    def _strengths(self, task: Task, value: Mapping[str, Any]) -> dict[str, float]:
        """Strengths of our labels, NaN where the row has none; other keys are not looked at."""
        ours = {self.given.values.get(key, key): number for key, number in value.items()}
        ours = {name: number for name, number in ours.items() if name in task.names}
        if value and not ours:
            raise LabelUnknown(
                f"{self.place}: {task.name} is given by {', '.join(map(repr, value))}, of which nothing is known; "
                "map yours with the option values"
            )
        try:
            return {name: math.nan if number is None else float(number) for name, number in ours.items()}
        except (TypeError, ValueError) as error:
            raise SourceLayout(f"{self.place}: {task.name} is {value!r}, but strengths are numbers") from error

    def _names(self, task: Task, value: Any) -> tuple[str, ...]:
        return tuple(self._name(task, name) for name in self._listed(value) if name not in self.given.ignore)

    def _listed(self, value: Any) -> list[str]:
        """A list, or the parts of a text between semicolons (or spaces, where there are none)."""
        if isinstance(value, str):
            parts = value.split(";") if ";" in value else value.split()
            return [part.strip() for part in parts if part.strip()]
        if not isinstance(value, Sequence):
            raise SourceLayout(f"{self.place}: found {value!r} where names of labels are expected")
        return [str(item) for item in value]

    def _name(self, task: Task, native: str) -> str:
        name = self.given.values.get(native, native)
        if name not in task.names:
            raise LabelUnknown(
                f"{self.place}: {task.name} is {native!r}; known: {', '.join(task.names)}. "
                "Map yours with the option values, or list it under ignore"
            )
        return name


def _by_class(root: Path, task: Task, given: _Options) -> Iterator[Sample]:
    if task.kind == "multi":
        raise UsageError(f"folder: classes by folder need a task of one label, and {task.name} has several")
    if not root.is_dir():
        raise SourceLayout(f"folder: {root} is no folder; expected one with a folder for each class of {task.name}")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise SourceLayout(f"folder: {root} holds no folders; expected one for each class of {task.name}")
    for folder in folders:
        name = given.values.get(folder.name, folder.name)
        if name in given.ignore:
            continue
        if task.kind == "number" and name.isdecimal():
            label: LabelValue = int(name)
        elif name in task.names:
            label = name
        else:
            raise LabelUnknown(f"{folder} is named after no class of {task.name}; known: {', '.join(task.names)}")
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in IMAGE_ENDINGS + VIDEO_ENDINGS:
                relative = file.relative_to(root).as_posix()
                meta = {"licence": given.licence} if given.licence else {}
                media = file.absolute()
                yield Sample(
                    f"folder/{relative}", "folder", "train", task.name, media, kind_of(relative), label, meta=meta
                )


def kind_of(file: str) -> MediaKind:
    """By the name's ending; preprocessing looks at the content."""
    return "video" if Path(file).suffix.lower() in VIDEO_ENDINGS else "image"
