"""Which conversations make which optimizer step: by length and kind, the same whatever the number of processes.

A *step* is a fixed list of conversations. Processes and accumulation only cut it into micro-batches, so that eight
cards and two cores compute the same gradient. Steps hold clips of one number of frames and of similar length. Every
conversation of a pass is seen once: what does not fill a step is filled up with rows that carry no label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava.training.recipe import StageConfig

SPAN = 2048
"""Conversations that are mixed with each other, at least, where pixels are read group by group."""
GROUPS_AT_ONCE = 6
"""Groups that are mixed, at most: a few fewer than a folder keeps in memory."""


class Ref(NamedTuple):
    """A conversation in a step: its number, the pass, and whether it only fills up."""

    index: int
    epoch: int
    filler: bool = False


class Lengths(Sequence[int]):
    """Tokens of conversations, counted when they are asked for: a short stage looks at few of many.

    Args:
        count: of conversations.
        measure: a conversation's number -> its tokens.

    Attributes:
        known: those that were counted so far, by number.
    """

    def __init__(self, count: int, measure: Callable[[int], int]) -> None:
        self._count, self._measure = count, measure
        self.known: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        if index not in self.known:
            self.known[index] = self._measure(index)
        return self.known[index]


class Facts(NamedTuple):
    """What ordering looks at, one value a conversation: tokens, frames, group on disk, source."""

    lengths: Sequence[int] | NDArray[np.int64]
    frames: NDArray[np.int64]
    groups: NDArray[np.int64]
    sources: Sequence[str]


def steps(
    facts: Facts,
    stage: StageConfig,
    *,
    seed: int,
    window: int = 32,
    shares: Mapping[str, Any] | None = None,
    by_group: bool = True,
) -> list[list[Ref]]:
    """All optimizer steps of a stage. A conversation that is longer than ``stage.context`` is in none.

    Args:
        window: batches within which conversations are sorted by length.
        shares: source -> share of its conversations in a pass.
        by_group: mix only conversations that lie near each other on disk (False where pixels are not read).
    """
    wanted = stage.conversations or len(facts.sources) * stage.epochs
    found: list[list[Ref]] = []
    epoch = seen = 0
    while seen < wanted and (stage.conversations or epoch < stage.epochs):
        rng = np.random.default_rng([seed, epoch])
        chosen = _one_pass(facts, stage.batch * window, rng, shares or {}, by_group)
        before = seen
        for step in _batches(facts, chosen, stage, epoch, rng, window):
            if seen >= wanted:
                break
            found.append(step)
            seen += sum(not ref.filler for ref in step)
        if seen == before and not _anything_fits(facts, stage, shares or {}):
            break
        epoch += 1
    return found


def _anything_fits(facts: Facts, stage: StageConfig, shares: Mapping[str, Any]) -> bool:
    """Whether a further pass can find something where one has found nothing."""
    wanted = (i for i, source in enumerate(facts.sources) if float(shares.get(source, 1.0)) > 0)
    return any(facts.lengths[i] <= stage.context for i in wanted)


def _one_pass(
    facts: Facts, span: int, rng: np.random.Generator, shares: Mapping[str, Any], by_group: bool
) -> list[NDArray[np.int64]]:
    """The conversations of a pass in windows: mixed within stretches of the disk, or altogether."""
    count = len(facts.sources)
    share = np.array([float(shares.get(source, 1.0)) for source in facts.sources])
    kept = np.flatnonzero(rng.random(count) < share)
    if not by_group:
        order = rng.permutation(kept)
        return [order[i : i + span] for i in range(0, len(order), span)]
    groups = rng.permutation(np.unique(facts.groups[kept]))
    rank = np.empty(int(facts.groups.max()) + 1, np.int64)
    rank[groups] = np.arange(len(groups))
    order = kept[np.argsort(rank[facts.groups[kept]], kind="stable")]
    result = []
    for stretch in _stretches(order, facts.groups):
        mixed = rng.permutation(stretch)
        result += [mixed[i : i + span] for i in range(0, len(mixed), span)]
    return result


def _stretches(order: NDArray[np.int64], groups: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Runs of whole groups: at least ``SPAN`` conversations or ``GROUPS_AT_ONCE`` groups."""
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    start, held = 0, 0
    for border in [*borders.tolist(), len(order)]:
        held += 1
        if border - start >= SPAN or held == GROUPS_AT_ONCE or border == len(order):
            yield order[start:border]
            start, held = border, 0


def _batches(
    facts: Facts,
    windows: list[NDArray[np.int64]],
    stage: StageConfig,
    epoch: int,
    rng: np.random.Generator,
    window: int,
) -> Iterator[list[Ref]]:
    """Steps of one kind each; what is left over of a window waits for the next one."""
    size = stage.batch
    waiting: dict[int, list[int]] = defaultdict(list)
    for number, members in enumerate(windows):
        made: list[list[Ref]] = []
        for index in members.tolist():
            if facts.lengths[index] <= stage.context:
                waiting[int(facts.frames[index])].append(index)
        for kind, held in waiting.items():
            held.sort(key=lambda i: (facts.lengths[i], i))
            last = number == len(windows) - 1
            full = len(held) if last else len(held) - len(held) % size
            # of what does not fill a step a random stretch waits, not always the longest
            skip = 0 if last else int(rng.integers(len(held) - full + 1))
            taken = held[skip : skip + full]
            made += [[Ref(i, epoch) for i in taken[k : k + size]] for k in range(0, len(taken), size)]
            waiting[kind] = held[:skip] + held[skip + full :]
        for k in rng.permutation(len(made)):
            yield _filled(made[k], size)


def _filled(step: list[Ref], size: int) -> list[Ref]:
    return step + [step[i % len(step)]._replace(filler=True) for i in range(size - len(step))]


class StepSampler:
    """The micro-batches of all steps in order, for a ``DataLoader``'s ``batch_sampler``.

    Args:
        steps: from :func:`steps`.
        micro_batch: conversations of one forward pass; divides the steps.
    """

    drop_last = False

    def __init__(self, steps: list[list[Ref]], micro_batch: int) -> None:
        assert all(len(step) % micro_batch == 0 for step in steps)
        self.steps, self.batch_size = steps, micro_batch

    def __len__(self) -> int:
        return sum(len(step) // self.batch_size for step in self.steps)

    def __iter__(self) -> Iterator[list[Ref]]:
        for step in self.steps:
            for start in range(0, len(step), self.batch_size):
                yield step[start : start + self.batch_size]
