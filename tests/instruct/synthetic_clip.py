"""Clips whose measured movement is known, and samples to go with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facellava import tasks
from facellava.face import blendshape_names
from facellava.instruct.facts import MEASURES
from facellava.types import FaceClip, LabelValue, MediaKind, Quality, Sample, Source

SHARP = Quality(size=120.0, blur=100.0, yaw=0.0, pitch=0.0, roll=0.0, score=0.9)


def make_clip(
    frames: int = 1, *, fps: float = 10.0, quality: Quality = SHARP, **movement: float | Sequence[float]
) -> FaceClip:
    """A clip of grey frames, each a little lighter than the last.

    Args:
        movement: measure -> its value, one for all frames or one for each; what is not named stays 0.
    """
    names = blendshape_names()
    shapes = np.zeros((frames, len(names)), np.float32)
    for measure, values in movement.items():
        shapes[:, [names.index(name) for name in MEASURES[measure]]] = np.broadcast_to(values, (frames,))[:, None]
    pixels = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None] * 8, (frames, 256, 256, 3))
    return FaceClip(
        frames=np.ascontiguousarray(pixels),
        landmarks=np.full((frames, 68, 2), 0.5, np.float32),
        blendshapes=shapes,
        boxes=np.tile(np.float32([10, 10, 130, 130]), (frames, 1)),
        times=np.arange(frames) / fps,
        face_id=0,
        quality=quality,
        source=Source("0" * 64, fps if frames > 1 else 0.0, frames / fps if frames > 1 else 0.0),
    )


def make_sample(
    task: str,
    label: LabelValue,
    *,
    kind: MediaKind = "image",
    name: str = "1",
    known: tuple[str, ...] | None = None,
    **meta: str,
) -> Sample:
    """A sample of the source ``x``; several labels are known for all that the task has by default."""
    if known is None:
        known = tasks.get(task).default_names if tasks.get(task).kind == "multi" else ()
    return Sample(f"x/{name}", "x", "train", task, Path("/x/1"), kind, label, known, meta=meta)
