"""What the calibrated expert head predicts and how its outputs become tokens in word space. No torch, no tasks.

The layout is data that travels with the weights (``expert.json``), so that a head trained for other labels needs no
code: ``single`` slots are one token, the probability-weighted mixture of their words' embeddings; ``binary`` slots are
``p * E[yes] + (1 - p) * E[no]`` plus the embedding of their name; ``number`` slots are the decimal digits of the
expected value, committed to, because a small language model copies digits well and decodes magnitudes badly.
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
        words: what each output is called in the language model's vocabulary; for ``binary`` the label's plain name.
        size: number of outputs.
    """

    name: str
    kind: SlotKind
    words: tuple[str, ...]
    size: int

    @property
    def n_tokens(self) -> int:
        return 2 if self.kind == "number" else 1


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """All slots in order; outputs and tokens are laid out in this order, one learned summary token last."""

    slots: tuple[Slot, ...]
    yes: str = " yes"
    no: str = " no"

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
        slots = [Slot(s["name"], s["kind"], tuple(s["words"]), s["size"]) for s in data["slots"]]
        return cls(tuple(slots), data["yes"], data["no"])


def single(name: str, words: Sequence[str]) -> Slot:
    return Slot(name, "single", tuple(words), len(words))


def binary(name: str, words: str) -> Slot:
    return Slot(name, "binary", (words,), 1)


def number(name: str, size: int) -> Slot:
    """``size`` <= 100: two decimal digits."""
    assert size <= 100
    return Slot(name, "number", tuple(DIGITS), size)
