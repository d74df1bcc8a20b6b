"""The metrics of appendix F.3 on arrays, with weights for the bootstrap.

An answer that cannot be read is no answer that can be left out: where one label is asked for it is wrong, where several
are asked for it names none of them, and where a number is asked for it is missing from the error and shown in the
coverage beside it.

Shapes: n answers, k classes, l labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = dict[str, float]
Weights = NDArray[np.float64]


class Answers(Protocol):
    """Truth and guesses of one task in arrays."""

    def __len__(self) -> int: ...

    def metrics(self, weights: Weights | None = None) -> Values:
        """Every metric of the task by name; ``weights`` (n,) count answers several times or not at all."""
        ...

    def take(self, index: NDArray[np.int_]) -> Answers:
        """Some of the answers."""
        ...

    def exchanged(self, other: Any, where: NDArray[np.bool_]) -> Answers:
        """The guesses of another run's answers to the same samples in the places (n,) that are True."""
        ...


@dataclass(frozen=True)
class SingleAnswers:
    """One label of ``names`` each: truth int (n,), guess int (n,), -1 for an answer without a label.

    Metrics: ``accuracy``, ``war`` (equal to it: recalls weighted by class size), ``uar``, ``recall.<name>``, and with
    two labels ``f1.<name>``. UAR is over the classes that occur.
    """

    names: tuple[str, ...]
    truth: NDArray[np.int_]
    guess: NDArray[np.int_]

    def __len__(self) -> int:
        return len(self.truth)

    def metrics(self, weights: Weights | None = None) -> Values:
        """See ``Answers``."""
        w = np.ones(len(self)) if weights is None else weights
        hit = w * (self.truth == self.guess)
        sizes = np.bincount(self.truth, w, len(self.names))
        hits = np.bincount(self.truth, hit, len(self.names))
        recalls = np.divide(hits, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
        whole = float(hits.sum() / sizes.sum()) if sizes.sum() else math.nan
        found = {"accuracy": whole, "war": whole, "uar": _mean(recalls)}
        found |= {f"recall.{name}": float(r) for name, r in zip(self.names, recalls, strict=True)}
        if len(self.names) == 2:
            named = np.bincount(self.guess[self.guess >= 0], w[self.guess >= 0], 2)
            f1 = np.divide(2 * hits, sizes + named, out=np.full(2, np.nan), where=sizes + named > 0)
            found |= {f"f1.{name}": float(value) for name, value in zip(self.names, f1, strict=True)}
        return found

    def take(self, index: NDArray[np.int_]) -> SingleAnswers:
        """See ``Answers``."""
        return SingleAnswers(self.names, self.truth[index], self.guess[index])

    def exchanged(self, other: SingleAnswers, where: NDArray[np.bool_]) -> SingleAnswers:
        """See ``Answers``."""
        return replace(self, guess=np.where(where, other.guess, self.guess))

    def confusion(self) -> NDArray[np.int_]:
        """Counts (k, k + 1): truth by guess, the last column for answers without a label."""
        table = np.zeros((len(self.names), len(self.names) + 1), int)
        np.add.at(table, (self.truth, np.where(self.guess < 0, len(self.names), self.guess)), 1)
        return table


@dataclass(frozen=True)
class MultiAnswers:
    """Several labels each: truth, known and guess bool (n, l). What is not known counts for nothing.

    Metrics, each also as its mean over the labels: ``f1.<name>`` / ``mean_f1`` (of the active class),
    ``accuracy.<name>`` / ``mean_accuracy``, ``balanced.<name>`` / ``mean_balanced`` (mean of both recalls). A label
    that has no active example has no F1 and, as one with no inactive example, no balanced accuracy.
    """

    names: tuple[str, ...]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    guess: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.truth)

    def metrics(self, weights: Weights | None = None) -> Values:
        """See ``Answers``."""
        w = np.ones(len(self)) if weights is None else weights
        cells = {
            name: w @ (self.known & (self.truth == truth) & (self.guess == guess)).astype(float)
            for name, truth, guess in (("tp", 1, 1), ("fn", 1, 0), ("fp", 0, 1), ("tn", 0, 0))
        }
        active, inactive = cells["tp"] + cells["fn"], cells["tn"] + cells["fp"]
        f1 = _ratio(2 * cells["tp"], active + cells["tp"] + cells["fp"])
        accuracy = _ratio(cells["tp"] + cells["tn"], active + inactive)
        balanced = (_ratio(cells["tp"], active) + _ratio(cells["tn"], inactive)) / 2
        f1[active == 0] = np.nan
        found: Values = {}
        for kind, values in (("f1", f1), ("accuracy", accuracy), ("balanced", balanced)):
            found[f"mean_{kind}"] = _mean(values)
            found |= {f"{kind}.{name}": float(v) for name, v in zip(self.names, values, strict=True)}
        return found

    def take(self, index: NDArray[np.int_]) -> MultiAnswers:
        """See ``Answers``."""
        return MultiAnswers(self.names, self.truth[index], self.known[index], self.guess[index])

    def exchanged(self, other: MultiAnswers, where: NDArray[np.bool_]) -> MultiAnswers:
        """See ``Answers``."""
        return replace(self, guess=np.where(where[:, None], other.guess, self.guess))


@dataclass(frozen=True)
class NumberAnswers:
    """A number each: truth and guess float (n,), nan for an answer without a number; low, high: a stated range or nan.

    Metrics: ``mae`` and ``bias`` (guess minus truth) over the answers with a number, ``coverage`` (their share),
    ``in_range`` (share of truths inside the stated range, widened by half a year for rounding).
    """

    truth: NDArray[np.float64]
    guess: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.truth)

    def metrics(self, weights: Weights | None = None) -> Values:
        """See ``Answers``."""
        w = np.ones(len(self)) if weights is None else weights
        given, ranged = ~np.isnan(self.guess), ~np.isnan(self.low)
        off = np.where(given, self.guess - self.truth, 0.0)
        inside = (self.low - 0.5 <= self.truth) & (self.truth <= self.high + 0.5)
        return {
            "mae": _weighted(np.abs(off), w * given),
            "bias": _weighted(off, w * given),
            "coverage": _weighted(given.astype(float), w),
            "in_range": _weighted(inside.astype(float), w * ranged),
        }

    def take(self, index: NDArray[np.int_]) -> NumberAnswers:
        """See ``Answers``."""
        return NumberAnswers(self.truth[index], self.guess[index], self.low[index], self.high[index])

    def exchanged(self, other: NumberAnswers, where: NDArray[np.bool_]) -> NumberAnswers:
        """See ``Answers``."""
        mixed = {name: np.where(where, getattr(other, name), getattr(self, name)) for name in ("guess", "low", "high")}
        return replace(self, **mixed)


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def _weighted(values: NDArray[np.float64], weights: Weights) -> float:
    total = weights.sum()
    return float(values @ weights / total) if total else math.nan


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


# --- several folds ---


def over_folds(folds: Sequence[Values]) -> Values:
    """The mean of each metric over folds, as cross-validated results are published; nan where no fold has it."""
    names = dict.fromkeys(name for fold in folds for name in fold)
    return {name: _mean(np.array([fold.get(name, math.nan) for fold in folds])) for name in names}


# --- uncertainty ---


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with a 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    compute: Callable[[Weights], Values], groups: NDArray[np.int_], *, draws: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals from draws with replacement of whole groups, such as all pictures of one person.

    Args:
        compute: the metrics for weights (n,).
        groups: int (n,), the group of each answer; ``arange(n)`` where answers are independent.
    """
    value = compute(np.ones(len(groups)))
    if not len(groups):
        return {name: Interval(v, math.nan, math.nan) for name, v in value.items()}
    rng = np.random.default_rng(seed)
    members, inverse = np.unique(groups, return_inverse=True)
    drawn: dict[str, list[float]] = {name: [] for name in value}
    for _ in range(draws):
        counts = np.bincount(rng.integers(len(members), size=len(members)), minlength=len(members)).astype(float)
        for name, v in compute(counts[inverse]).items():
            drawn[name].append(v)
    return {name: _percentiles(value[name], np.array(values)) for name, values in drawn.items()}


def _percentiles(value: float, drawn: NDArray[np.float64]) -> Interval:
    kept = drawn[~np.isnan(drawn)]
    if not len(kept):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(kept, [2.5, 97.5])
    return Interval(value, float(low), float(high))


# --- probabilities ---


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half."""
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return math.nan
    order = np.argsort(scores, kind="stable")
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    return float((ranks[positive].sum() - ups * (ups + 1) / 2) / (ups * downs))


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of similar confidence: how many, their mean confidence, the share that came true."""

    count: int
    confidence: float
    frequency: float


def reliability(confidence: NDArray[np.float64], true: NDArray[np.bool_], bins: int = 10) -> list[Bin]:
    """Equal-width bins over [0, 1]; empty ones are left out."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    found = []
    for n in range(bins):
        inside = place == n
        if inside.any():
            found.append(Bin(int(inside.sum()), float(confidence[inside].mean()), float(true[inside].mean())))
    return found


def calibration_error(table: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance of confidence and frequency, weighted by the bins' sizes."""
    total = sum(b.count for b in table)
    return sum(b.count * abs(b.confidence - b.frequency) for b in table) / total if total else math.nan


def brier(confidence: NDArray[np.float64], true: NDArray[np.bool_]) -> float:
    """Mean squared distance of confidence and truth."""
    return float(np.mean((confidence - true) ** 2)) if len(true) else math.nan


def probability_metrics(probabilities: Sequence[Mapping[str, float]], truth: Sequence[Mapping[str, bool]]) -> Values:
    """``auc.<label>``, their mean, ``ece`` and ``brier`` over all (answer, label) pairs of which the truth is known.

    Args:
        probabilities: label -> probability, one mapping an answer. truth: label -> whether it holds, known ones only.
    """
    names = dict.fromkeys(name for row in probabilities for name in row)
    found: Values = {}
    everything: list[tuple[float, bool]] = []
    for name in names:
        pairs = [(p[name], t[name]) for p, t in zip(probabilities, truth, strict=True) if name in p and name in t]
        everything += pairs
        scores, holds = np.array([p for p, _ in pairs]), np.array([t for _, t in pairs], bool)
        found[f"auc.{name}"] = auc(scores, holds)
    found["mean_auc"] = _mean(np.array(list(found.values())))
    confidence, true = np.array([p for p, _ in everything]), np.array([t for _, t in everything], bool)
    found["ece"] = calibration_error(reliability(confidence, true, 15)) if everything else math.nan
    found["brier"] = brier(confidence, true)
    return found
