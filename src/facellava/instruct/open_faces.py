"""Readers of the open faces that train the default model: photo-like faces with recorded annotations, and renders.

A row says what is *known* about a face; what is not in it is unknown and never guessed. Layout and counts of the
folder are described in its own README (sets ``congress``, ``sfhq``, ``renders``; ``annotations.jsonl``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from facellava.errors import FileMissing
from facellava.model.frames import frame_indices

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
VISIBLE = 0.55
"""Intensity of a prototype from which its label is used: below about half it is hard to see (the folder's README)."""

_RENDER_EXPRESSIONS = {"sad": "sadness", "angry": "anger", "happy": "happiness"}


@dataclass(frozen=True, slots=True)
class OpenFace:
    """One picture with one face.

    Attributes:
        id, set: unique within the folder. path: absolute. split: ``train`` or ``test``. subject: never in both splits.
        box: x, y, width, height in pixels of the annotated face, None when the picture holds one face only.
        expression: one of the seven or None. action_units, attributes: known labels only. age: years or None.
        genuine: an unmanipulated photograph of a real person.
        description: a sentence by the annotator, or None. time: seconds, of a clip's frame.
    """

    id: str
    set: Literal["congress", "sfhq", "renders", "clips"]
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
    time: float = 0.0


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
        intensity = 1.0 if row["expression_intensity"] is None else row["expression_intensity"]
        yield _rendered(root, row, "renders", intensity, row["action_units"])


def read_clips(root: Path, frames: int) -> Iterator[list[OpenFace]]:
    """The rendered clips, each as so many evenly spaced frames: most begin neutral and come to an expression."""
    for row in _rows(root / "clips.jsonl"):
        found = []
        for n in frame_indices(row["frames"], frames):
            share = 1.0 if row["intensity_per_frame"] is None else row["intensity_per_frame"][n]
            units = {unit: weight * share for unit, weight in (row["action_units_at_apex"] or {}).items()}
            face = _rendered(root, row, "clips", (row["expression_intensity"] or 1.0) * share, units)
            found.append(replace(face, id=f"{face.id}@{n}", time=float(n / row["fps"])))
        yield found


def _rendered(
    root: Path, row: dict, kind: Literal["renders", "clips"], intensity: float, units: Mapping[str, float]
) -> OpenFace:
    """One look of a rendered head: how much of its expression shows, and the weights of its units."""
    weights = {unit: units.get(unit, 0.0) for unit in RENDER_UNITS}
    expression: str | None = row["expression"]
    if expression is not None and intensity < VISIBLE:
        expression = "neutral" if intensity <= INACTIVE else None
    return OpenFace(
        id=row["id"],
        set=kind,
        path=root / row["file"],
        split=row["split"],
        subject=f"render-{row['identity_seed']}",
        box=None,
        expression=expression and _RENDER_EXPRESSIONS.get(expression, expression),
        action_units={u: w >= ACTIVE for u, w in weights.items() if w >= ACTIVE or w <= INACTIVE},
        attributes={},
        age=None,
        genuine=False,
        description=None,
    )
