"""How the labels of samples are distributed, and how far two distributions are apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from facellava import tasks
from facellava.types import LabelValue, Sample

AGE_BIN = 10
"""Years in one class of a numeric task (Fig. 11)."""


def age_bin(years: int) -> str:
    """The class of an age: 34 -> ``30-39``."""
    low = years // AGE_BIN * AGE_BIN
    return f"{low}-{low + AGE_BIN - 1}"


def classes_of(label: LabelValue) -> tuple[str, ...]:
    """The classes that a label belongs to: one for a name or an age, every active one of several, none for None."""
    if label is None:
        return ()
    if isinstance(label, tuple):
        return label
    return (age_bin(label) if isinstance(label, int) else label,)


@dataclass
class Distribution:
    """Labels of one task, counted.

    Attributes:
        task: its name.
        n: labelled samples. unlabelled: those without.
        counts: class -> samples (active ones for a multi-label task).
        known: multi-label tasks: class -> samples whose annotation covers it.
    """

    task: str
    n: int = 0
    unlabelled: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)

    def add(self, label: LabelValue, known: tuple[str, ...] = ()) -> None:
        """Count one sample."""
        if label is None:
            self.unlabelled += 1
            return
        self.n += 1
        self.counts.update(classes_of(label))
        self.known.update(known)

    @property
    def names(self) -> list[str]:
        """The classes that occur, in the task's order; bins of ages upwards."""
        found = self.counts.keys() | self.known.keys()
        task = tasks.get(self.task)
        if task.kind == "number":
            return sorted(found, key=lambda name: int(name.split("-")[0]))
        return [name for name in task.names if name in found] + sorted(found - set(task.names))

    def rates(self) -> dict[str, float]:
        """Share of each class among the samples; multi-label: active share of the samples that cover it."""
        of = self.known if tasks.get(self.task).kind == "multi" else Counter(dict.fromkeys(self.names, self.n))
        return {name: self.counts[name] / of[name] for name in self.names if of[name]}

    def to_json(self) -> dict[str, Any]:
        """Counts in the task's order."""
        record: dict[str, Any] = {"n": self.n, "unlabelled": self.unlabelled}
        record["counts"] = {name: self.counts[name] for name in self.names}
        if self.known:
            record["known"] = {name: self.known[name] for name in self.names}
        return record


def distribution(task: str, samples: Iterable[Sample]) -> Distribution:
    """The labels of those samples that are of `task`."""
    found = Distribution(task)
    for sample in samples:
        if sample.task == task:
            found.add(sample.label, sample.known)
    return found


class Distance(NamedTuple):
    """How far two distributions are apart, from 0 (the same) to 1.

    One label or a number: total variation; ``worst`` is the class with the largest difference of shares. Several
    labels: the mean over labels of the difference of their active rates (total variation of each label's yes and no).
    """

    value: float
    worst: str
    worst_value: float


def distance(one: Distribution, other: Distribution) -> Distance:
    """Between two distributions of the same task; 0 where one of them is empty on a label."""
    a, b = one.rates(), other.rates()
    multi = tasks.get(one.task).kind == "multi"
    names = [name for name in a if name in b] if multi else sorted(a.keys() | b.keys())
    gaps = {name: abs(a.get(name, 0.0) - b.get(name, 0.0)) for name in names}
    if not gaps:
        return Distance(0.0, "", 0.0)
    worst = max(gaps, key=lambda name: gaps[name])
    value = sum(gaps.values()) / (len(gaps) if multi else 2)
    return Distance(value, worst, gaps[worst])
