"""What a task is: its labels, its questions, the form of its answers and how they are scored.

All text lives in ``<task>/task.toml`` and ``<task>/questions.txt``; the runtime scores labels with the same
``closed`` templates that the training conversations use, so the two cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import random
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from ..errors import UsageError
from .parse import Parsed, Reader

REGIONS = (
    "face_boundary",
    "right_brow",
    "left_brow",
    "nose",
    "nostril",
    "right_eye",
    "left_eye",
    "lips",
    "teeth",
)
"""The nine landmark groups of section 4 in the order of iBUG-68; right and left are the subject's."""

Kind = Literal["single", "multi", "number"]


@dataclass(frozen=True)
class Label:
    """One label of a task.

    Attributes:
        name: canonical name, the only spelling used in results.
        text: the label in plain words.
        regions: names out of ``REGIONS`` in which the label shows.
        synonyms: other lower-case spellings that stand for it in free text.
        patterns: regular expressions that stand for it where word order varies.
        default: False for labels that are only used when asked for by name.
    """

    name: str
    text: str
    regions: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    default: bool = True

    @property
    def spoken(self) -> str:
        """The name as it starts an answer: ``real`` -> ``Real``."""
        return self.name[:1].upper() + self.name[1:]


@dataclass(frozen=True)
class Answer:
    """The fixed head of an answer; what follows it is free text.

    Attributes:
        head: template with ``{label}`` / ``{Label}`` (single), ``{labels}`` (multi, two or more) or
            ``{years}``.
        head_one, head_none: the head for exactly one (label, year) and for no active label.
        item, last: how one label is written inside ``{labels}``, and the joint before the last one.
    """

    head: str
    head_one: str = ""
    head_none: str = ""
    item: str = "{label}"
    last: str = ", "


@dataclass(frozen=True)
class Closed:
    """The scoring template: which text follows which prompt when label probabilities are read off the model.

    Attributes:
        question: what the user asks (may hold ``{media}``).
        prefix: the answer's beginning before the candidates (single, number).
        candidate: template of a candidate, ``{label}``, ``{Label}`` or ``{years}``.
        item, yes, no: multi: one line of the checklist and its two continuations.
    """

    question: str
    prefix: str = ""
    candidate: str = ""
    item: str = ""
    yes: str = ""
    no: str = ""


@dataclass(frozen=True)
class Number:
    """Range and unit of a numeric task, and the regions that carry it."""

    minimum: int
    maximum: int
    unit: str
    regions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Task:
    """One face task; see the module's text. Instances are shared and compared by identity.

    Attributes:
        name: folder name, e.g. ``expression``.
        order: place in the canonical order of tasks.
        title: for people.
        kind: one label, several labels, or a number.
        field: key of the parsed prediction in machine-readable output.
        metric: the benchmark metric's name (appendix F.3).
        labels: canonical order; empty for a number.
        questions: templates, ``{media}`` stands for "image" or "video".
        answer, closed: see there.
        number: for kind ``number``.
        subsets: named lists of labels, e.g. ``disfa``.
        code: prefix of numeric codes (``AU``), empty without codes.
        none_patterns: regular expressions that say "none of the labels".
        protect: positive phrases that look negative -> label.
    """

    name: str
    order: int
    title: str
    kind: Kind
    field: str
    metric: str
    labels: tuple[Label, ...]
    questions: tuple[str, ...]
    answer: Answer
    closed: Closed
    number: Number | None = None
    subsets: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    code: str = ""
    none_patterns: tuple[str, ...] = ()
    protect: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical label names in canonical order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def default_names(self) -> tuple[str, ...]:
        """Names of the labels that are used unless others are asked for."""
        return tuple(label.name for label in self.labels if label.default)

    @cached_property
    def _by_name(self) -> dict[str, Label]:
        return {label.name: label for label in self.labels}

    @cached_property
    def _reader(self) -> Reader:
        return Reader.of(self)

    def label(self, name: str) -> Label:
        """The label called `name`. Raises UsageError with the known names otherwise."""
        if name not in self._by_name:
            raise UsageError(f"unknown label {name!r} of task {self.name}; known: {', '.join(self.names)}")
        return self._by_name[name]

    def subset(self, name: str) -> tuple[str, ...]:
        """The named list of labels, e.g. ``bp4d``. Raises UsageError with the known lists otherwise."""
        if name not in self.subsets:
            known = ", ".join(self.subsets) or "none"
            raise UsageError(f"unknown label list {name!r} of task {self.name}; known: {known}")
        return self.subsets[name]

    def sort(self, names: Iterable[str]) -> tuple[str, ...]:
        """`names` without repetition in canonical order; unknown names raise UsageError."""
        wanted = {self.label(name).name for name in names}
        return tuple(name for name in self.names if name in wanted)

    def ask(self, rng: random.Random, media: str = "image") -> str:
        """One question at random, with `media` ("image" or "video") filled in."""
        return fill_media(rng.choice(self.questions), media)

    def closed_question(self, media: str = "image") -> str:
        """The question under which label probabilities are scored."""
        return fill_media(self.closed.question, media)

    def candidate(self, value: str | int) -> str:
        """The text that follows ``closed.prefix`` for one label name (single) or one age (number)."""
        if self.kind == "number":
            return self.closed.candidate.format(years=value)
        label = self.label(str(value))
        return self.closed.candidate.format(label=label.name, Label=label.spoken)

    def item(self, name: str) -> str:
        """The checklist line of one label up to where " yes" or " no" is scored."""
        return self.closed.item.format(label=self.label(name).name)

    def head(self, value: str | int | Sequence[str]) -> str:
        """The answer's fixed beginning for a label name, a number of years, or a list of active labels."""
        if self.kind == "number":
            template = self.answer.head_one if value == 1 else self.answer.head
            return template.format(years=value)
        if self.kind == "single":
            label = self.label(str(value))
            return self.answer.head.format(label=label.name, Label=label.spoken)
        assert not isinstance(value, str | int)
        items = [self.answer.item.format(label=name, text=self.label(name).text) for name in self.sort(value)]
        if not items:
            return self.answer.head_none
        if len(items) == 1:
            return self.answer.head_one.format(labels=items[0])
        return self.answer.head.format(labels=", ".join(items[:-1]) + self.answer.last + items[-1])

    def parse(self, text: str) -> Parsed:
        """What an answer says about this task; see ``facellava.tasks.parse`` for the rules."""
        return self._reader.read(text)


def fill_media(template: str, media: str) -> str:
    """`template` with ``{media}`` replaced; other braces are left alone."""
    return template.replace("{media}", media)


def _label(raw: dict) -> Label:
    return Label(
        raw["name"],
        raw["text"],
        tuple(raw["regions"]),
        tuple(raw.get("synonyms", ())),
        tuple(raw.get("patterns", ())),
        raw.get("default", True),
    )


def _load(folder: Traversable) -> Task:
    raw = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))
    lines = (folder / "questions.txt").read_text(encoding="utf-8").splitlines()
    number = raw.get("number")
    return Task(
        name=folder.name,
        order=raw["order"],
        title=raw["title"],
        kind=raw["kind"],
        field=raw["field"],
        metric=raw["metric"],
        labels=tuple(_label(item) for item in raw.get("labels", ())),
        questions=tuple(line.strip() for line in lines if line.strip()),
        answer=Answer(**raw["answer"]),
        closed=Closed(**raw["closed"]),
        number=number and Number(**{**number, "regions": tuple(number["regions"])}),
        subsets={name: tuple(names) for name, names in raw.get("subsets", {}).items()},
        code=raw.get("code", ""),
        none_patterns=tuple(raw.get("none_patterns", ())),
        protect=raw.get("protect", {}),
    )


@cache
def _discover() -> tuple[Task, ...]:
    found = [
        _load(entry)
        for entry in resources.files("facellava.tasks").iterdir()
        if entry.is_dir() and (entry / "task.toml").is_file()
    ]
    return tuple(sorted(found, key=lambda task: task.order))


def all_tasks() -> dict[str, Task]:
    """Every task by name, in canonical order: expression, action_units, attributes, age, deepfake."""
    return {task.name: task for task in _discover()}


def get(name: str) -> Task:
    """The task called `name`. Raises UsageError with the known names otherwise."""
    tasks = all_tasks()
    if name not in tasks:
        raise UsageError(f"unknown task {name!r}; known: {', '.join(tasks)}")
    return tasks[name]
