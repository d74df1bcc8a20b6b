"""Errors by group of a dataset's own annotations, with group sizes and intervals, by fairlearn's ``MetricFrame``.

Groups come from annotations and never from predictions of ours. A group of a few faces says nothing: it is shown with
its size and left out of the gap.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facellava.errors import MissingExtra, UsageError
from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.metrics import Answers, Interval
from facellava.evaluation.records import Record, read_records
from facellava.evaluation.score import VIEWS, View, arrays
from facellava.evaluation.summary import HEADINGS, VIEW_NAMES, shown

LEAST = 20
"""Faces that a group must have to count in the gap."""
QUANTILES = [0.025, 0.975]


@dataclass(frozen=True, slots=True)
class Group:
    """A group's number of faces and its metric."""

    name: str
    faces: int
    value: Interval


@dataclass(frozen=True)
class Grouping:
    """One annotation: its groups, and the gap between the best and the worst of those that are large enough.

    Attributes:
        by: name of the annotation. metric, view: what was measured, on which answers.
        unknown: faces without the annotation.
    """

    by: str
    metric: str
    view: View
    groups: tuple[Group, ...]
    gap: Interval
    unknown: int


@dataclass(frozen=True)
class Fairness:
    """All groupings of a run."""

    groupings: tuple[Grouping, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """JSON values; what is not defined is null."""
        return [_plain(dataclasses.asdict(grouping)) for grouping in self.groupings]

    def text(self) -> str:
        """For people."""
        lines = []
        for g in self.groupings:
            name = HEADINGS.get(g.metric, g.metric)
            lines.append(f"by {g.by}: {name} of {VIEW_NAMES[g.view]}, gap {shown(g.gap)}, {g.unknown} faces unknown")
            for group in g.groups:
                few = "" if group.faces >= LEAST else f"  (fewer than {LEAST}: not in the gap)"
                lines.append(f"  {group.name:<16} n={group.faces:<6} {shown(group.value)}{few}")
        return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def check_groups(benchmark: Benchmark, names: Sequence[str]) -> None:
    """Raises UsageError for annotations that the benchmark lacks, MissingExtra where fairlearn is not installed."""
    if unknown := set(names) - set(benchmark.groups):
        has = ", ".join(benchmark.groups) or "none"
        raise UsageError(f"{benchmark.name} has no annotation {min(unknown)!r}; it has: {has}")
    if names:
        try:
            import fairlearn  # noqa: F401
        except ImportError as error:
            raise MissingExtra("eval", "errors by group") from error


def by_group(
    benchmark: Benchmark, run: Path, names: Sequence[str] = (), *, draws: int = 300, seed: int = 0
) -> Fairness:
    """The headline metric by group.

    Args:
        names: annotations out of ``benchmark.groups``; all by default.
        draws, seed: of the bootstrap over faces.

    Raises:
        UsageError: the benchmark has no such annotation. MissingExtra: fairlearn is not installed.
    """
    check_groups(benchmark, names or list(benchmark.groups))
    records = [r for r in read_records(run) if r.status == "answered"]
    view: View = next(v for v in VIEWS if any(r.text is not None if v == "text" else True for r in records))
    found = []
    for name in names or benchmark.groups:
        having = [r for r in records if name in r.groups]
        if having:
            found.append(_grouping(benchmark, having, name, view, draws, seed, len(records) - len(having)))
    return Fairness(tuple(found))


def _grouping(
    benchmark: Benchmark, records: Sequence[Record], by: str, view: View, draws: int, seed: int, unknown: int
) -> Grouping:
    metric = benchmark.metrics[0]
    found = arrays(benchmark, records, view)
    group_of = {r.vote or r.id: r.groups[by] for r in records}
    groups = np.array([group_of[name] for name in found.ids])
    sizes = Counter(groups.tolist())
    values, gap = _frame(found.answers, metric, groups, draws, seed)
    large = np.isin(groups, [name for name, count in sizes.items() if count >= LEAST])
    if len(set(groups[large])) < 2:
        gap = Interval(math.nan, math.nan, math.nan)
    elif not large.all():
        index = np.flatnonzero(large)
        gap = _frame(found.answers.take(index), metric, groups[index], draws, seed)[1]
    listed = tuple(Group(name, sizes[name], values[name]) for name in sorted(sizes))
    return Grouping(by, metric, view, listed, gap, unknown)


def _frame(
    answers: Answers, metric: str, groups: np.ndarray, draws: int, seed: int
) -> tuple[dict[str, Interval], Interval]:
    """(metric by group, largest difference between groups), each with its interval."""
    from fairlearn.metrics import MetricFrame

    def measure(chosen: np.ndarray, _: np.ndarray) -> float:
        return answers.take(np.asarray(chosen, int)).metrics()[metric]

    index = np.arange(len(answers))
    with warnings.catch_warnings():
        # a draw may leave a small group without a class: its metric is undefined in that draw and left out
        warnings.simplefilter("ignore", RuntimeWarning)
        frame: Any = MetricFrame(
            metrics=measure,
            y_true=index,
            y_pred=index,
            sensitive_features=groups,
            n_boot=draws,
            ci_quantiles=QUANTILES,
            random_state=seed,
        )
        low, high = frame.by_group_ci
        values = {
            str(name): Interval(float(value), float(low[name]), float(high[name]))
            for name, value in frame.by_group.items()
        }
        from_, to = frame.difference_ci()
        return values, Interval(float(frame.difference()), float(from_), float(to))
