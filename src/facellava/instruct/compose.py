"""From samples to conversations: which question goes with which sample, and several questions about one face."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from facellava import tasks
from facellava.types import Sample


def question_for(sample: Sample, seed: int) -> str:
    """One of the task's 100 questions (appendix E.3), with "image" or "video" filled in.

    Depends on the seed and the sample's id only, so that every build pairs alike, whatever the order.
    """
    return tasks.get(sample.task).ask(random.Random(f"{seed}-{sample.id}"), sample.kind)


class Turn(Protocol):
    """What a turn of a conversation is made from: a row of the dataset."""

    @property
    def id(self) -> str: ...
    @property
    def subset(self) -> str: ...
    @property
    def clip(self) -> str: ...


R = TypeVar("R", bound=Turn)


@dataclass(frozen=True, slots=True)
class Conversation(Generic[R]):
    """Rows about one clip, in the order of their turns; the clip is shown with the first."""

    rows: tuple[R, ...]

    @property
    def id(self) -> str:
        """The smallest id of its rows, with ``+n`` for n further ones."""
        first = min(row.id for row in self.rows)
        return first if len(self.rows) == 1 else f"{first}+{len(self.rows) - 1}"


def single_turn(rows: Iterable[R]) -> Iterator[Conversation[R]]:
    """Every row a conversation of its own, as in the paper."""
    for row in rows:
        yield Conversation((row,))


def multi_turn(rows: Iterable[R], turns: Counter[tuple[str, str]], seed: int) -> Iterator[Conversation[R]]:
    """The rows of one clip and subset joined into one conversation (beyond the paper).

    Args:
        rows: in a stable order; only rows of unfinished conversations are held in memory.
        turns: how many rows each (subset, clip) has in all, see ``count_turns``.
        seed: with the clip's key it fixes the order of the turns.
    """
    waiting: dict[tuple[str, str], list[R]] = {}
    for row in rows:
        key = (row.subset, row.clip)
        if not row.clip:
            yield Conversation((row,))
            continue
        waiting.setdefault(key, []).append(row)
        if len(waiting[key]) == turns[key]:
            yield Conversation(tuple(_shuffled(waiting.pop(key), seed)))
    assert not waiting, "the counts are of other rows"


def count_turns(rows: Iterable[Turn]) -> Counter[tuple[str, str]]:
    """Rows of each (subset, clip)."""
    return Counter((row.subset, row.clip) for row in rows)


def _shuffled(rows: list[R], seed: int) -> list[R]:
    ordered = sorted(rows, key=lambda row: row.id)
    random.Random(f"{seed}-{ordered[0].clip}").shuffle(ordered)
    return ordered
