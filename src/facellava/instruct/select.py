"""Section 3.4: the test set. Top-rated samples first, classes distributed as in the source, nobody on both sides.

A *group* is everything that shares a subject, a medium or a clip; it lies on one side as a whole. Rows of a test group
that were not chosen leave the dataset. So that few chosen rows do not empty the training set, at most a stated share of
a task's rows, and of each class, may go this way; then the test set is smaller, and says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facellava import tasks
from facellava.errors import UsageError
from facellava.instruct.distribution import Distance, Distribution, classes_of, distance, distribution
from facellava.instruct.recipe import HeldOutConfig
from facellava.instruct.records import Instruction, Rejection
from facellava.types import Sample

PAPER_SOURCES = ("dfew", "disfa", "celeba", "utkface", "faceforensics")
"""The sources of the paper's test set, by the names of their readers."""
POOL = 20
"""Several labels: rows are drawn from the best-rated so many times the wanted number."""


@dataclass
class Selection:
    """What became of the rows.

    Attributes:
        rows: all that stay, in order of their ids, each with its subset.
        rejected: rows that had to go: their group is in the test set, or they are of an official test split.
        notes: for people: what was asked, what was taken, how far the distributions are apart.
        distances: task -> between the test rows and the source.
    """

    rows: list[Instruction]
    rejected: list[Rejection]
    notes: list[str] = field(default_factory=list)
    distances: dict[str, Distance] = field(default_factory=dict)


def select(
    rows: Sequence[Instruction], config: HeldOutConfig, *, seed: int = 0, read: Iterable[Sample] | None = None
) -> Selection:
    """Choose the test rows; deterministic for the same set of rows, whatever their order.

    Args:
        rows: all rows that survived.
        config: how many a task, from which sources, and the share that may leave training.
        seed: breaks ties between equal ratings.
        read: the samples as they were read, whose distribution the test set follows; the rows' own by default.

    Raises:
        UsageError: a named source has no rows of any task.
    """
    ordered = sorted(rows, key=lambda row: row.sample.id)
    if unknown := set(config.sources) - {row.sample.source for row in ordered}:
        raise UsageError(f"test.sources names {min(unknown)!r}, of which no sample is left for a test set")
    if config.per_task == 0 or not ordered:
        return _divide(_State(ordered, seed), config, Selection([], []))
    state = _State(ordered, seed)
    originals = list(read) if read is not None else [row.sample for row in ordered]
    result = Selection([], [])
    for name in tasks.all_tasks():
        _select_task(name, state, config, originals, result)
    return _divide(state, config, result)


class _State:
    """Rows, their groups, and what is taken so far."""

    def __init__(self, rows: list[Instruction], seed: int) -> None:
        self.rows = rows
        self.group = _groups(rows)
        self.test: set[int] = set()
        self.held: set[int] = set()
        self.tie = [hashlib.sha256(f"{seed}-{row.sample.id}".encode()).digest() for row in rows]

    def rank(self, index: int) -> tuple[bool, bool, int, bytes]:
        """Order of preference: groups that are lost to training anyway, official test samples, rating, chance."""
        row = self.rows[index]
        rating = row.rating.overall if row.rating else 0
        return self.group[index] not in self.held, row.sample.split != "test", -rating, self.tie[index]


def _groups(rows: list[Instruction]) -> list[int]:
    """For each row the smallest index of a row that it is linked to by subject, medium or clip."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, ...], int] = {}
    for i, row in enumerate(rows):
        links: list[tuple[str, ...]] = [("medium", str(row.sample.media)), ("clip", row.clip)]
        if row.sample.subject is not None:
            links.append(("subject", row.sample.source, row.sample.subject))
        for link in links:
            a, b = root(i), root(first.setdefault(link, i))
            parent[max(a, b)] = min(a, b)
    return [root(i) for i in range(len(rows))]


def _sources(config: HeldOutConfig, rows: list[Instruction], of_task: list[int]) -> list[str]:
    """The named ones; else those with an official test split; else all."""
    present = {rows[i].sample.source for i in of_task}
    if config.sources:
        return [name for name in config.sources if name in present]
    with_test = {rows[i].sample.source for i in of_task if rows[i].sample.split == "test"}
    return sorted(with_test or present)


def _select_task(name: str, state: _State, config: HeldOutConfig, originals: list[Sample], result: Selection) -> None:
    of_task = [i for i, row in enumerate(state.rows) if row.sample.task == name]
    sources = _sources(config, state.rows, of_task)
    wanted = [i for i in of_task if state.rows[i].sample.source in sources and state.rows[i].sample.label is not None]
    if not wanted:
        if of_task:
            result.notes.append(f"{name}: no test set, as none of its sources is named and labelled")
        return
    target = distribution(name, (s for s in originals if s.source in sources))
    allowance = _Allowance(state, wanted, config.share)
    if tasks.get(name).kind == "multi":
        chosen = _by_rates(state, wanted, min(config.per_task, allowance.rows), target, allowance)
    else:
        chosen = _by_quota(state, wanted, _quotas(config, state, wanted, target), allowance)
    state.test.update(chosen)
    state.held.update(state.group[i] for i in chosen)
    found = distribution(name, (state.rows[i].sample for i in chosen))
    if chosen:
        result.distances[name] = distance(found, target)
    result.notes.append(_note(name, len(chosen), config, found, target, sources))


class _Allowance:
    """How many of the candidates may leave training: chosen, or because their group was chosen."""

    def __init__(self, state: _State, candidates: list[int], share: float) -> None:
        self.group, self.held = state.group, set(state.held)
        self.sizes = Counter(state.group[i] for i in candidates)
        self.rows = int(share * len(candidates))
        self.gone = sum(self.sizes[g] for g in self.held)

    def take(self, index: int) -> bool:
        """Whether the row may go; counts its whole group."""
        group = self.group[index]
        if group in self.held:
            return True
        if self.gone + self.sizes[group] > self.rows:
            return False
        self.held.add(group)
        self.gone += self.sizes[group]
        return True


def largest_remainder(shares: dict[str, float], total: int) -> dict[str, int]:
    """`total` seats given out in proportion to `shares` (Hamilton's method; ties to the earlier class)."""
    whole = sum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    seats = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: (seats[name] - exact[name], list(exact).index(name)))
    for name in by_rest[: total - sum(seats.values())]:
        seats[name] += 1
    return seats


def _quotas(config: HeldOutConfig, state: _State, wanted: list[int], target: Distribution) -> dict[str, int]:
    """Rows of each class: as in the source, and no more than the share of each class allows."""
    there = Counter(classes_of(state.rows[i].sample.label)[0] for i in wanted)
    shares = {name: rate for name, rate in target.rates().items() if rate > 0}
    most = {name: int(config.share * there[name]) for name in shares}
    total = min(config.per_task, sum(most.values()))
    seats = largest_remainder(shares, total)
    # a class that cannot fill its seats makes all smaller, but for classes that have hardly anything
    filled = {name: most[name] / shares[name] for name in shares if shares[name] * total >= 1}
    fitting = int(min([total, *filled.values()])) if filled else total
    if fitting < total and fitting >= total / 2:
        seats = largest_remainder(shares, fitting)
    return {name: min(count, most[name]) for name, count in seats.items()}


def _by_quota(state: _State, wanted: list[int], quotas: dict[str, int], allowance: _Allowance) -> list[int]:
    left, chosen = dict(quotas), []
    for i in sorted(wanted, key=state.rank):
        name = classes_of(state.rows[i].sample.label)[0]
        if left.get(name, 0) > 0 and allowance.take(i):
            left[name] -= 1
            chosen.append(i)
    return chosen


def _by_rates(state: _State, wanted: list[int], count: int, target: Distribution, allowance: _Allowance) -> list[int]:
    """Greedy: always the row that brings the active rates nearest to the source's; the better-ranked one of equals."""
    rates = target.rates()
    names = list(rates)
    pool = _pool(state, wanted, count)
    active = _indicator([classes_of(state.rows[i].sample.label) for i in pool], names)
    known = _indicator([state.rows[i].sample.known for i in pool], names)
    goal = np.array([rates[name] for name in names], np.float32)
    counts, covered = np.zeros(len(names), np.float32), np.zeros(len(names), np.float32)
    groups, free = np.array([state.group[i] for i in pool]), np.ones(len(pool), bool)
    chosen: list[int] = []
    while len(chosen) < count and free.any():
        gaps = np.abs((counts + active) / np.maximum(covered + known, 1) - goal).sum(1)
        gaps[~free] = np.inf
        best = int(np.argmin(gaps))
        free[best] = False
        if not allowance.take(pool[best]):
            # its group is too large now and will not get smaller
            free &= groups != groups[best]
            continue
        counts, covered = counts + active[best], covered + known[best]
        chosen.append(pool[best])
    return chosen


def _pool(state: _State, wanted: list[int], count: int) -> list[int]:
    """The best-ranked rows, ``POOL`` for each one wanted: enough to choose from, and none of a low rating."""
    return sorted(wanted, key=state.rank)[: max(POOL * count, 1000)]


def _indicator(sets: list[tuple[str, ...]], names: list[str]) -> NDArray[np.float32]:
    place = {name: n for n, name in enumerate(names)}
    table = np.zeros((len(sets), len(names)), np.float32)
    for row, members in enumerate(sets):
        table[row, [place[name] for name in members if name in place]] = 1
    return table


def _divide(state: _State, config: HeldOutConfig, result: Selection) -> Selection:
    """Every row into the test set, the training set, or the ledger."""
    witness: dict[int, list[int]] = defaultdict(list)
    for i in sorted(state.test):
        witness[state.group[i]].append(i)
    for i, row in enumerate(state.rows):
        if i in state.test:
            result.rows.append(dataclasses.replace(row, subset="test"))
        elif state.group[i] in witness:
            result.rejected.append(_rejection(row, [state.rows[j] for j in witness[state.group[i]]]))
        elif row.sample.split == "test" and config.official == "leave":
            message = "of an official test split, and not chosen for the test set"
            result.rejected.append(_dropped(row, "official_test", message))
        else:
            result.rows.append(dataclasses.replace(row, subset="train"))
    tested = Counter(r.sample.source for r in result.rows if r.subset == "train" and r.sample.split == "test")
    if tested:
        count = ", ".join(f"{n:,} of {name}" for name, n in sorted(tested.items()))
        result.notes.append(
            f"training rows of official test splits: {count}; a model that is trained on them has seen what a "
            'benchmark of the same source tests (test.official = "leave" drops them)'
        )
    return result


def _rejection(row: Instruction, chosen: list[Instruction]) -> Rejection:
    sample = row.sample
    reasons = (
        ("test_subject", "subject", lambda o: sample.subject is not None and _person(o.sample) == _person(sample)),
        ("test_clip", "clip", lambda o: o.clip == row.clip),
        ("test_medium", "medium", lambda o: o.sample.media == sample.media),
        ("test_subject", "subject, through other samples,", lambda o: True),
    )
    code, shared, other = next((c, w, o) for c, w, test in reasons for o in chosen if test(o))
    return _dropped(row, code, f"shares its {shared} with {other.sample.id} of the test set")


def _dropped(row: Instruction, code: str, message: str) -> Rejection:
    sample = row.sample
    return Rejection(sample.id, sample.source, sample.task, "select", code, message)


def _person(sample: Sample) -> tuple[str, str | None]:
    return sample.source, sample.subject


def _note(
    name: str, count: int, config: HeldOutConfig, found: Distribution, target: Distribution, sources: list[str]
) -> str:
    text = f"{name}: {count} of {config.per_task} test samples from {', '.join(sources)}"
    if count < config.per_task:
        text += f" (at most {config.share:.0%} of a class and of the task's samples may leave training)"
    if not count:
        return text
    gap = distance(found, target)
    if tasks.get(name).kind == "multi":
        return text + f"; active rates differ by {gap.value:.3f} on average, by {gap.worst_value:.3f} for {gap.worst}"
    missing = [c for c in target.names if not found.counts[c]]
    text += f"; total variation distance to the source's classes {gap.value:.3f}"
    return text + (f"; without {', '.join(missing)}" if missing else "")
