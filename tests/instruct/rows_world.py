"""Rows of a dataset with their clips, made without a build, for tests of stores, exports and statistics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from synthetic_clip import make_clip

from facellava import tasks
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.records import Annotation, Instruction, Rating
from facellava.types import LabelValue, Sample


def make_row(
    name: str,
    task: str = "expression",
    label: LabelValue = "happiness",
    *,
    overall: int | None = 8,
    subject: str | None = None,
    source: str = "dfew",
    clip: str = "",
    subset: Any = "train",
    description: str = "The displayed expression is happiness. The lip corners are raised.",
    **sample: Any,
) -> Instruction:
    """One row; everything that is not named has a plain value that follows from the name."""
    known = tasks.get(task).default_names if isinstance(label, tuple) else ()
    plain: dict[str, Any] = {
        "split": "train",
        "media": Path(f"/x/{source}/{name}.png"),
        "kind": "image",
        "known": known,
    }
    made = Sample(id=f"{source}/{name}", source=source, task=task, label=label, subject=subject, **{**plain, **sample})
    rating = None if overall is None else Rating(7, 8, 9, overall, "clear", "rules")
    length = 0.0 if made.kind == "image" else 1.2
    return Instruction(
        made, subset, clip or f"{source}-{name}", length, "What is it?", Annotation(description, "evidence"), rating
    )


def stored(rows: list[Instruction], folder: Path) -> ClipStore:
    """A store that holds a clip for each row: one frame of a picture, twelve of a video."""
    store = ClipStore(folder)
    for row in rows:
        if row.clip not in store:
            clip = make_clip(12 if row.sample.kind == "video" else 1, jaw_open=0.5)
            # every frame and point different, so that an order that is lost is seen
            points = clip.landmarks.copy()
            points += (len(row.clip) + sum(map(ord, row.clip))) % 97 / 1000
            points[:, :, 0] += 0.001 * (1 + clip.times[:, None].astype("float32"))
            store.save(row.clip, dataclasses.replace(clip, landmarks=points))
    return store
