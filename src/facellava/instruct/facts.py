"""What is known about a face, and the plain clauses that follow from it.

A fact (``evidence.toml``) is shown, absent or unknown. Action units, an attribute and a measured movement
may each have a say; where they contradict each other the fact is unknown, so nothing is said about it.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@cache
def texts(name: str) -> dict:
    """One of the text files beside this module (``evidence``, ``questions``), parsed."""
    return tomllib.loads((resources.files("facellava.instruct") / f"{name}.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class FaceEvidence:
    """What is known about one face. None (or a missing key) means unknown: it is neither asked about nor
    mentioned.

    Attributes:
        expression: one of the seven displayed expressions.
        action_units: known units -> active.
        attributes: known CelebA attributes -> present.
        age: years.
        authenticity: ``real`` or ``fake``.
        measures: measured movement in [0, 1], keys of ``MEASURES``; see ``measures_from_blendshapes``.
        description: one plain sentence about the face, may be quoted in answers.
        manipulation: how a fake was made (``self_blend``, ``swap``, ``warp``, ``generated``), when known.
        course: expressions that follow each other in a clip, a single one where it stays; empty of a still.
    """

    expression: str | None
    action_units: Mapping[str, bool] | None
    attributes: Mapping[str, bool] | None
    age: int | None
    authenticity: Literal["real", "fake"] | None
    measures: Mapping[str, float]
    description: str | None = None
    manipulation: Literal["self_blend", "swap", "warp", "generated"] | None = None
    course: tuple[str, ...] = ()


MEASURES: Mapping[str, tuple[str, ...]] = {
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "brow_lower": ("browDownLeft", "browDownRight"),
    "eye_closed": ("eyeBlinkLeft", "eyeBlinkRight"),
    "eye_wide": ("eyeWideLeft", "eyeWideRight"),
    "frown": ("mouthFrownLeft", "mouthFrownRight"),
    "nose_sneer": ("noseSneerLeft", "noseSneerRight"),
    "lip_press": ("mouthPressLeft", "mouthPressRight"),
    "cheek_squint": ("cheekSquintLeft", "cheekSquintRight"),
    "jaw_open": ("jawOpen",),
    "brow_raise": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "mouth_open": (
        "jawOpen",
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthUpperUpLeft",
        "mouthUpperUpRight",
    ),
}
"""Measure -> the blendshapes of which it is the mean (``brow_raise`` and ``mouth_open``: the larger group's
mean)."""


def measures_from_blendshapes(values: NDArray[np.floating], names: Sequence[str]) -> dict[str, float]:
    """Named movement measures in [0, 1] of one frame.

    Args:
        values: (52,) blendshape coefficients in [0, 1].
        names: their 52 names in the same order (MediaPipe's, e.g. ``mouthSmileLeft``).

    Returns:
        one value per key of ``MEASURES``. A missing name raises KeyError.
    """
    assert values.shape == (len(names),)
    by_name = dict(zip(names, map(float, values), strict=True))
    measures = {key: sum(by_name[n] for n in used) / len(used) for key, used in MEASURES.items()}
    outer = (by_name["browOuterUpLeft"] + by_name["browOuterUpRight"]) / 2
    measures["brow_raise"] = max(by_name["browInnerUp"], outer)
    lower = (by_name["mouthLowerDownLeft"] + by_name["mouthLowerDownRight"]) / 2
    upper = (by_name["mouthUpperUpLeft"] + by_name["mouthUpperUpRight"]) / 2
    measures["mouth_open"] = max(by_name["jawOpen"], lower, upper)
    return {key: min(max(value, 0.0), 1.0) for key, value in measures.items()}


class Facts:
    """The facts of one face, each shown (True), absent (False) or unknown (None)."""

    def __init__(self, evidence: FaceEvidence) -> None:
        self.evidence = evidence
        self.status: dict[str, bool | None] = {
            name: self._status(fact) for name, fact in texts("evidence")["facts"].items()
        }

    def _status(self, fact: dict) -> bool | None:
        units, attributes = self.evidence.action_units or {}, self.evidence.attributes or {}
        says: list[bool | None] = [attributes.get(fact.get("attribute", ""))]
        if any(units.get(unit) for unit in fact["units"]):
            says.append(True)
        elif all(units.get(unit) is False for unit in fact.get("absent_units", fact["units"])):
            says.append(False)
        value = self.evidence.measures.get(fact.get("measure", ""))
        if value is not None and value >= fact.get("high", 2.0):
            says.append(True)
        elif value is not None and value <= fact.get("low", -1.0):
            says.append(False)
        known = {say for say in says if say is not None}
        return known.pop() if len(known) == 1 else None

    @cached_property
    def shown(self) -> list[str]:
        """Names of the facts that are shown."""
        return [name for name, status in self.status.items() if status]

    @cached_property
    def absent(self) -> list[str]:
        """Names of the facts that are known to be absent and have words for it."""
        facts = texts("evidence")["facts"]
        return [name for name, status in self.status.items() if status is False and facts[name]["no"]]

    def clause(self, name: str, rng: random.Random) -> str:
        """A clause that states the known fact `name`, lower case, without a full stop."""
        assert self.status[name] is not None
        return rng.choice(texts("evidence")["facts"][name]["yes" if self.status[name] else "no"])

    def in_region(self, region: str) -> list[str]:
        """Facts of "mouth", "eyes", "brows" or "nose" that can be stated, the shown ones first."""
        facts = texts("evidence")["facts"]
        return [name for name in self.shown + self.absent if facts[name]["region"] == region]

    def strength(self, name: str) -> float:
        """How strong a shown fact is, in [0, 1]: 0.5 at its threshold or where only a label speaks for it."""
        fact = texts("evidence")["facts"][name]
        value = self.evidence.measures.get(fact.get("measure", ""))
        if value is None or value < fact["high"]:
            return 0.5
        return 0.5 + 0.5 * (value - fact["high"]) / (1 - fact["high"])

    def strongest(self) -> str | None:
        """The shown fact with the largest measure; None when nothing is shown."""
        return max(self.shown, key=self.strength, default=None)


def upper_first(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def join_items(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def join_clauses(clauses: Sequence[str], rng: random.Random) -> str:
    """One to three clauses in one sentence without its full stop."""
    if len(clauses) == 1:
        return clauses[0]
    joint = " and " if len(clauses) > 2 else rng.choice(texts("evidence")["join"]["joints"])
    return ", ".join(clauses[:-1]) + joint + clauses[-1]
