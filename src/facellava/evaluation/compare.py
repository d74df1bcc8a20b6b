"""Two runs on the same samples: how far apart they are, and how often chance alone would put them so far apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.metrics import Interval, NumberAnswers, Values, Weights, bootstrap
from facellava.evaluation.records import Record
from facellava.evaluation.score import Arrays, View, arrays


@dataclass(frozen=True, slots=True)
class Comparison:
    """First minus second.

    Attributes:
        difference: of the metric, averaged over folds as in the tables, with its interval over people.
        p_value: of a permutation test that exchanges the two runs' answers, all of a person's at once; NaN where the
            difference is.
        n: answers that were compared, videos where there are votes.
    """

    difference: Interval
    p_value: float
    n: int


def compare_runs(
    benchmark: Benchmark,
    first: Sequence[Record],
    second: Sequence[Record],
    views: tuple[View, View],
    metric: str,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison | None:
    """Compare two runs on what both answered; None where that is nothing.

    Args:
        first, second: the runs' records. views: which of their answers are compared.
        metric: a name that ``metrics`` returns.
    """
    one = {r.id: r for r in first if r.status == "answered"}
    two = {r.id: r for r in second if r.status == "answered"}
    shared = [name for name in one if name in two and one[name].truth == two[name].truth]
    if not shared:
        return None
    a = arrays(benchmark, [one[name] for name in shared], views[0])
    b = arrays(benchmark, [two[name] for name in shared], views[1])
    if isinstance(a.answers, NumberAnswers) and isinstance(b.answers, NumberAnswers):
        # an error is compared where both have one
        index = np.flatnonzero(~np.isnan(a.answers.guess) & ~np.isnan(b.answers.guess))
        if not len(index):
            return None
        a, b = _taken(a, index), _taken(b, index)
    return compare(a, b, metric, draws=draws, seed=seed)


def _taken(found: Arrays, index: np.ndarray) -> Arrays:
    ids = tuple(found.ids[i] for i in index)
    return Arrays(found.answers.take(index), found.folds[index], found.groups[index], ids)


def compare(first: Arrays, second: Arrays, metric: str, *, draws: int = 1000, seed: int = 0) -> Comparison:
    """Compare two runs' answers to the same samples, in the same order."""
    assert first.ids == second.ids

    def gap(weights: Weights) -> Values:
        return {metric: first.metrics(weights)[metric] - second.metrics(weights)[metric]}

    interval = bootstrap(gap, first.groups, draws=draws, seed=seed)[metric]
    if math.isnan(interval.value):
        return Comparison(interval, math.nan, len(first.ids))
    rng = np.random.default_rng(seed)
    people = int(first.groups.max()) + 1
    at_least = 1
    for _ in range(draws):
        swap = (rng.random(people) < 0.5)[first.groups]
        one = replace(first, answers=first.answers.exchanged(second.answers, swap))
        two = replace(second, answers=second.answers.exchanged(first.answers, swap))
        drawn = one.metrics()[metric] - two.metrics()[metric]
        at_least += abs(drawn) >= abs(interval.value) - 1e-12
    return Comparison(interval, at_least / (draws + 1), len(first.ids))
