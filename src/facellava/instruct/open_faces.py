"""Readers of the open faces that train the default model: photo-like faces with recorded annotations, and renders.

A row says what is *known* about a face; what is not in it is unknown and never guessed. Layout and counts of the
folder are described in its own README (sets ``congress``, ``sfhq``, ``renders``; ``annotations.jsonl``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facellava.errors import FileMissing

# Agreement between five annotation passes above .5 (annotation_agreement.json); the rest is treated as noise.
PHOTO_UNITS = ("AU1", "AU4", "AU6", "AU12", "AU15", "AU25", "AU26", "AU43")
RENDER_UNITS = (
    *("AU1", "AU2", "AU4", "AU5", "AU7", "AU9", "AU10", "AU12", "AU15", "AU20", "AU23", "AU24", "AU25", "AU26", "AU43"),
)
WEAK_UNITS = {
    "AU2": "AU2",
    "AU5": "AU5",
    "AU7": "AU7",
    "AU9": "AU9",
    "AU10": "AU10",
    "AU20": "AU20",
    "AU23": "AU24",
    "AU24": "AU24",
}
"""Units that only renders show reliably -> the annotators' word for them. Where they do not state it, a training
photograph counts as one without the unit, so that the head does not carry over from renders what nobody sees there."""
NOISY_ATTRIBUTES = frozenset(
    ["High_Cheekbones", "Rosy_Cheeks", "Pale_Skin", "Receding_Hairline", "Oval_Face", "Narrow_Eyes", "Blurry"]
)
NOT_ASKED = frozenset(["Attractive", "Big_Lips", "Pointy_Nose"])
ACTIVE, INACTIVE = 0.25, 0.08
"""Render unit weights at or above the first count as active, at or below the second as inactive, between as unknown."""

_RENDER_EXPRESSIONS = {"sad": "sadness", "angry": "anger", "happy": "happiness"}


@dataclass(frozen=True, slots=True)
class OpenFace:
    """One picture with one face.

    Attributes:
        id, set: unique within the folder. path: absolute. split: ``train`` or ``test``. subject: never in both splits.
        box: x, y, width, height in pixels of the annotated face, None when the picture holds one face only.
        expression: one of the seven or None. action_units, attributes: known labels only. age: years or None.
        genuine: an unmanipulated photograph of a real person.
        description: a sentence by the annotator, or None.
    """

    id: str
    set: Literal["congress", "sfhq", "renders"]
    path: Path
    split: str
    subject: str
    box: tuple[float, float, float, float] | None
    expression: str | None
    action_units: Mapping[str, bool]
    attributes: Mapping[str, bool]
    age: float | None
    genuine: bool
    description: str | None


def _rows(path: Path) -> Iterator[dict]:
    if not path.is_file():
        raise FileMissing(f"{path} is missing: point --faces at the folder that holds congress.jsonl and renders.jsonl")
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def read_photos(root: Path, attribute_names: tuple[str, ...]) -> Iterator[OpenFace]:
    """The annotated photo-like faces; ``attribute_names`` are the 40 of CelebA."""
    facts = {row["id"]: row for name in ("congress", "sfhq") for row in _rows(root / f"{name}.jsonl")}
    asked = [a for a in attribute_names if a not in NOISY_ATTRIBUTES | NOT_ASKED]
    for row in _rows(root / "annotations.jsonl"):
        fact, unsure = facts[row["id"]], set(row["unsure"])
        exact = fact.get("age")
        yield OpenFace(
            id=row["id"],
            set=row["set"],
            path=root / row["file"],
            split=row["split"],
            subject=fact.get("near_duplicate_group", row["id"]),
            box=tuple(fact["face_box"]),
            expression=None if row["expression"] == "unclear" else row["expression"],
            action_units={u: u in row["action_units"] for u in PHOTO_UNITS if u not in unsure} | _weak(row),
            attributes={a: a in row["attributes"] for a in asked if a not in unsure},
            age=exact if exact is not None else row["age_estimate"],
            genuine=row["set"] == "congress",
            description=row["descriptions"][0],
        )


def _weak(row: dict) -> dict[str, bool]:
    if row["split"] != "train":
        return {}
    stated = {*row["action_units"], *row["unsure"]}
    return {unit: False for unit, word in WEAK_UNITS.items() if word not in stated}


def read_renders(root: Path) -> Iterator[OpenFace]:
    """The rendered faces: action units from morph targets, expressions where a prototype was used."""
    for row in _rows(root / "renders.jsonl"):
        weights = row["action_units"]
        units = {}
        for unit in RENDER_UNITS:
            weight = weights.get(unit, 0.0)
            if weight >= ACTIVE or weight <= INACTIVE:
                units[unit] = weight >= ACTIVE
        # Below half strength a prototype is hard to see (the folder's README), so its label is not used.
        visible = row["expression_intensity"] is None or row["expression_intensity"] >= 0.55
        expression = row["expression"] if visible else None
        yield OpenFace(
            id=row["id"],
            set="renders",
            path=root / row["file"],
            split=row["split"],
            subject=f"render-{row['identity_seed']}",
            box=None,
            expression=_RENDER_EXPRESSIONS.get(expression, expression) if expression else None,
            action_units=units,
            attributes={},
            age=None,
            genuine=False,
            description=None,
        )
