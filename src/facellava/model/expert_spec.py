"""What the calibrated expert head predicts and how its outputs become tokens in word space. No torch, no tasks.

The outputs are written into the prompt as a report in the very words that answers use (``AU12: yes``), because a small
language model copies what stands in its context well and learns new codes slowly. Only the values are soft: a
``single`` value is the probability-weighted mixture of its words' embeddings, a ``binary`` one ``p * E[yes] +
(1 - p) * E[no]``, and a ``number`` the two digits of the expected value, committed to. The layout is data that travels
with the weights (``expert.json``), so a head for other labels needs no code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

SlotKind = Literal["single", "binary", "number"]
DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class Slot:
    """One group of head outputs.

    Attributes:
        name: task or label name, unique.
        kind: ``single`` (softmax over ``words``), ``binary`` (one probability), ``number`` (softmax over 0..size-1).
        words: what each output is called in the language model's vocabulary; for ``binary`` yes and no.
        size: number of outputs.
        before, after: ids of the fixed text around the value.
    """

    name: str
    kind: SlotKind
    words: tuple[str, ...]
    size: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def n_tokens(self) -> int:
        value = 2 if self.kind == "number" else 1
        return len(self.before) + value + len(self.after)

    @property
    def n_rows(self) -> int:
        """Word embeddings that the slot needs: text before, words, text after."""
        return len(self.before) + len(self.words) + len(self.after)


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """All slots in order; outputs and tokens are laid out in this order, one learned summary token last."""

    slots: tuple[Slot, ...]
    yes: str = " yes"
    no: str = " no"

    @property
    def n_rows(self) -> int:
        return sum(slot.n_rows for slot in self.slots)

    @property
    def n_outputs(self) -> int:
        return sum(slot.size for slot in self.slots)

    @property
    def n_tokens(self) -> int:
        return sum(slot.n_tokens for slot in self.slots) + 1

    def offsets(self) -> dict[str, slice]:
        """Where each slot's outputs lie."""
        result, start = {}, 0
        for slot in self.slots:
            result[slot.name] = slice(start, start + slot.size)
            start += slot.size
        return result

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> ExpertSpec:
        slots = [
            Slot(s["name"], s["kind"], tuple(s["words"]), s["size"], tuple(s["before"]), tuple(s["after"]))
            for s in data["slots"]
        ]
        return cls(tuple(slots), data["yes"], data["no"])


Ids = Sequence[int]


def single(name: str, words: Sequence[str], before: Ids = (), after: Ids = ()) -> Slot:
    return Slot(name, "single", tuple(words), len(words), tuple(before), tuple(after))


def binary(name: str, before: Ids = (), *, yes: str = " yes", no: str = " no") -> Slot:
    return Slot(name, "binary", (yes, no), 1, tuple(before))


def number(name: str, size: int, before: Ids = (), after: Ids = ()) -> Slot:
    """``size`` <= 100: two decimal digits."""
    assert size <= 100
    return Slot(name, "number", tuple(DIGITS), size, tuple(before), tuple(after))
