"""From records to numbers: votes, folds, intervals, and a count of everything that is no plain answer.

Two views of a run are scored side by side where both exist: ``text``, the protocol of the paper (words, parsed), and
``typed``, labels that the respondent states itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from facellava.errors import ProviderFailed, UsageError
from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.metrics import (
    Answers,
    Interval,
    MultiAnswers,
    NumberAnswers,
    SingleAnswers,
    Values,
    Weights,
    bootstrap,
    over_folds,
    probability_metrics,
)
from facellava.evaluation.records import Record
from facellava.types import LabelValue

View = Literal["text", "typed"]
VIEWS: tuple[View, ...] = ("text", "typed")


@dataclass(frozen=True)
class Scores:
    """What a run came to.

    Attributes:
        benchmark: name. samples: read; excluded: without a face clip, by reason; failed: without an answer, by reason.
        answered: counted in the metrics, videos where there are votes.
        views: ``text`` / ``typed`` -> metric -> value with its 95 % interval; folds averaged where there are folds.
        pooled: the same metrics over all folds together.
        strict: with excluded and failed samples counted as wrong in every label; nothing for a number, whose error has
            no worst value.
        outcomes: of parsing: found, none, tie. cut: answers that end at the limit of tokens.
        abstained: faces that the respondent would not judge.
        agreement: share of samples whose parsed text and typed label are the same (a number: inside the stated range),
            nan without both.
        probabilities: AUC, calibration error, Brier score of the typed probabilities.
    """

    benchmark: str
    samples: int
    answered: int
    excluded: Mapping[str, int]
    failed: Mapping[str, int]
    outcomes: Mapping[str, int]
    cut: int
    abstained: int
    views: Mapping[str, Mapping[str, Interval]]
    pooled: Mapping[str, Values]
    strict: Mapping[str, Values]
    agreement: float
    probabilities: Values

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is not defined is null."""
        return _without_nan(dataclasses.asdict(self))

    @property
    def view(self) -> View:
        """The headline's: the paper's protocol where there are words."""
        return "text" if "text" in self.views else "typed"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(v) for key, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def score(benchmark: Benchmark, records: Sequence[Record], *, draws: int = 1000, seed: int = 0) -> Scores:
    """Every number of a run.

    Raises:
        ProviderFailed, UsageError: there is nothing to score; the former where it was a service that did not answer.
    """
    counted = [record for record in records if record.status == "answered"]
    if not counted:
        reasons = Counter(record.message for record in records)
        why = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        by_service = any(record.code == ProviderFailed.code for record in records)
        kind = ProviderFailed if by_service else UsageError
        raise kind(f"{benchmark.name}: none of {len(records)} samples was answered{why}")
    views: list[View] = [view for view in VIEWS if any(_has(record, view) for record in counted)]
    found: dict[View, Arrays] = {view: arrays(benchmark, counted, view) for view in views}
    intervals = {view: _intervals(answers, draws, seed) for view, answers in found.items()}
    strict = {} if benchmark.spec.kind == "number" else {v: _strict(benchmark, records, v) for v in views}
    return Scores(
        benchmark=benchmark.name,
        samples=len(records),
        answered=len(next(iter(found.values())).groups),
        excluded=dict(Counter(r.code for r in records if r.status == "excluded")),
        failed=dict(Counter(r.code for r in records if r.status == "failed")),
        outcomes=dict(Counter(r.outcome for r in counted if r.text is not None)),
        cut=sum(r.cut for r in counted),
        abstained=sum(bool(r.abstained) for r in counted),
        views=intervals,
        pooled={view: answers.answers.metrics() for view, answers in found.items()},
        strict=strict,
        agreement=_agreement(counted),
        probabilities=_probabilities(benchmark, counted),
    )


@dataclass(frozen=True)
class Arrays:
    """Answers in arrays with what they belong to: fold (n,), group of the bootstrap (n,), ids."""

    answers: Answers
    folds: np.ndarray
    groups: np.ndarray
    ids: tuple[str, ...]

    def metrics(self, weights: Weights | None = None) -> Values:
        """Metrics of each fold, averaged."""
        members = np.unique(self.folds)
        if len(members) == 1:
            return self.answers.metrics(weights)
        parts = []
        for fold in members:
            index = np.flatnonzero(self.folds == fold)
            parts.append(self.answers.take(index).metrics(None if weights is None else weights[index]))
        return over_folds(parts)


def _strict(benchmark: Benchmark, records: Sequence[Record], view: View) -> Values:
    found = arrays(benchmark, records, view)
    answers = found.answers
    if isinstance(answers, MultiAnswers):
        # naming nothing would be right in most labels
        status = {r.vote or r.id: r.status for r in records}
        lost = np.array([status[name] != "answered" for name in found.ids])
        wrong = np.where(lost[:, None], ~answers.truth, answers.guess)
        found = dataclasses.replace(found, answers=dataclasses.replace(answers, guess=wrong))
    return found.metrics()


def _intervals(found: Arrays, draws: int, seed: int) -> dict[str, Interval]:
    return bootstrap(found.metrics, found.groups, draws=draws, seed=seed)


def _has(record: Record, view: View) -> bool:
    if view == "text":
        return record.text is not None
    # where only texts were asked for, abstaining is no typed answer
    return record.typed is not None or (bool(record.abstained) and record.text is None)


def predicted(record: Record, view: View) -> Any:
    """What a record says in one view; None where it says nothing."""
    if record.status != "answered":
        return None
    return record.parsed if view == "text" else record.typed


def arrays(benchmark: Benchmark, records: Sequence[Record], view: View) -> Arrays:
    """Records in arrays, one entry a sample, or a video where the benchmark takes votes."""
    entries = _voted(records, view) if benchmark.vote else [(r, predicted(r, view)) for r in records]
    kept = [record for record, _ in entries]
    guesses = [guess for _, guess in entries]
    people = {name: n for n, name in enumerate(dict.fromkeys(r.subject or r.id for r in kept))}
    return Arrays(
        _answers(benchmark, kept, guesses, view),
        np.array([r.fold for r in kept]),
        np.array([people[r.subject or r.id] for r in kept]),
        tuple(r.vote or r.id for r in kept),
    )


def _answers(benchmark: Benchmark, records: Sequence[Record], guesses: Sequence[Any], view: View) -> Answers:
    kind = benchmark.spec.kind
    if kind == "single":
        names = benchmark.names
        place = {name: n for n, name in enumerate(names)}
        truth = np.array([place[str(r.truth)] for r in records], int)
        return SingleAnswers(names, truth, np.array([place.get(str(g), -1) for g in guesses], int))
    if kind == "number":
        ranges = [(r.range if view == "typed" else None) or (math.nan, math.nan) for r in records]
        return NumberAnswers(
            np.array([float(r.truth) for r in records if isinstance(r.truth, (int, float))]),
            np.array([math.nan if g is None else float(g) for g in guesses]),
            np.array([low for low, _ in ranges]),
            np.array([high for _, high in ranges]),
        )
    known = {name for r in records for name in r.known}
    names = tuple(name for name in benchmark.names if name in known)
    return MultiAnswers(
        names,
        _table(names, [r.truth for r in records]),
        _table(names, [r.known for r in records]),
        _table(names, guesses),
    )


def _table(names: Sequence[str], rows: Sequence[LabelValue]) -> np.ndarray:
    """bool (n, l): which names each row holds; a row without an answer holds none."""
    held = [set(row) if isinstance(row, tuple) else set() for row in rows]
    return np.array([[name in row for name in names] for row in held], bool).reshape(len(rows), len(names))


def _voted(records: Sequence[Record], view: View) -> list[tuple[Record, str | None]]:
    """One (record, label) a video: the majority of its pieces; ties by mean probability, or no label."""
    videos: dict[tuple[int, str], list[Record]] = defaultdict(list)
    for record in records:
        videos[record.fold, record.vote].append(record)
    return [(pieces[0], majority(pieces, view)) for pieces in videos.values()]


def majority(pieces: Sequence[Record], view: View) -> str | None:
    """The label that most pieces of a video were given; pieces without a label do not vote."""
    votes = Counter(str(label) for r in pieces if (label := predicted(r, view)) is not None)
    if not votes:
        return None
    most = max(votes.values())
    best = [name for name, count in votes.items() if count == most]
    if len(best) == 1:
        return best[0]
    if view == "text":
        return None
    means = {name: float(np.mean([r.probabilities.get(name, 0.0) for r in pieces])) for name in best}
    top = max(means.values())
    winners = [name for name, mean in means.items() if mean == top]
    return winners[0] if len(winners) == 1 else None


def _agreement(records: Sequence[Record]) -> float:
    both = [r for r in records if r.text is not None and r.typed is not None]
    if not both:
        return math.nan
    return sum(map(_agrees, both)) / len(both)


def _agrees(record: Record) -> bool:
    """The same label, or a number inside the range that was stated with the typed one."""
    if record.range is not None and isinstance(record.parsed, (int, float)):
        return record.range[0] <= record.parsed <= record.range[1]
    return record.parsed == record.typed


def label_truth(benchmark: Benchmark, record: Record) -> dict[str, bool]:
    """label -> whether it holds, for the labels of which the truth is known."""
    if benchmark.spec.kind == "single":
        return {name: name == record.truth for name in benchmark.names}
    active = record.truth if isinstance(record.truth, tuple) else ()
    return {name: name in active for name in record.known}


def _probabilities(benchmark: Benchmark, records: Sequence[Record]) -> Values:
    scored = [r for r in records if r.probabilities]
    if not scored or benchmark.spec.kind == "number":
        return {}
    return probability_metrics([r.probabilities for r in scored], [label_truth(benchmark, r) for r in scored])
