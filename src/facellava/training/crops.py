"""Crops as exported datasets hold them, back to face clips."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava import weights
from facellava.errors import DamagedMedia
from facellava.face import FaceFrontEnd, read_media
from facellava.face.crop import square_around
from facellava.types import CROP_SIZE, N_BLENDSHAPES, Crop, FaceClip, Media, Quality, Source

ALL_FRAMES = 100_000
"""More than a clip has."""


class Known(NamedTuple):
    """landmarks (T, 68, 2) in [0, 1] of the crop and blendshapes (T, 52), None where they are not known."""

    landmarks: NDArray[np.float32] | None
    blendshapes: NDArray[np.float32] | None


def crop_clip(
    media: bytes | Path, known: Known, blendshapes: bool, *, margin: float, crop: Crop, name: str
) -> FaceClip:
    """A clip of crops that were cut before.

    Args:
        media: the crops, 256 x 256, as a file or its bytes.
        known: what is None is measured on the crops; blendshapes only with ``blendshapes``, else they are zero.
        margin, crop: how the crops were cut. name: for messages.

    Raises:
        DamagedMedia: crops of another size, or landmarks of another number. Errors of ``read_media``, and of the front
            end where something has to be measured.
    """
    seen = read_media(media, max_frames=ALL_FRAMES)
    count = len(seen.frames)
    if tuple(seen.frames.shape[1:3]) != (CROP_SIZE, CROP_SIZE):
        raise DamagedMedia(
            f"{name}: a picture of {seen.frames.shape[2]} x {seen.frames.shape[1]} pixels, but crops are 256 x 256: "
            "build the data with 'facellava data build'"
        )
    points, shapes = known
    if points is None or (shapes is None and blendshapes):
        measured = _measure(seen, name)
        points = measured.landmarks if points is None else points
        shapes = measured.blendshapes if shapes is None else shapes
    if shapes is None:
        shapes = np.zeros((count, N_BLENDSHAPES), np.float32)
    if len(points) != count or len(shapes) != count:
        raise DamagedMedia(f"{name}: {len(points)} sets of landmarks for {count} crops: build the data again")
    return FaceClip(
        frames=np.asarray(seen.frames),
        landmarks=np.ascontiguousarray(points, np.float32),
        blendshapes=np.ascontiguousarray(shapes, np.float32),
        boxes=np.tile(np.array([0, 0, CROP_SIZE, CROP_SIZE], np.float32), (count, 1)),
        times=seen.times,
        face_id=0,
        quality=Quality(CROP_SIZE, 100.0, 0.0, 0.0, 0.0, 1.0),
        source=Source(seen.sha256, seen.fps, seen.duration),
        margin=margin,
        crop=crop,
    )


class Measured(NamedTuple):
    """landmarks (T, 68, 2) in [0, 1] of the crop, blendshapes (T, 52)."""

    landmarks: NDArray[np.float32]
    blendshapes: NDArray[np.float32]


def _measure(seen: Media, name: str) -> Measured:
    clip = max(_front_end().clips(seen), key=lambda clip: len(clip.times))
    if len(clip.times) != len(seen.frames):
        raise DamagedMedia(f"{name}: landmarks in {len(clip.times)} of {len(seen.frames)} crops only: leave it out")
    # the front end cut the face out once more: back to the coordinates of what it was given
    squares = [square_around(box) for box in clip.boxes]
    points = [p * q.side + np.array([q.x, q.y]) for p, q in zip(clip.landmarks, squares, strict=True)]
    return Measured((np.stack(points) / CROP_SIZE).astype(np.float32), clip.blendshapes)


@functools.cache
def _front_end() -> FaceFrontEnd:
    return FaceFrontEnd(weights.resolve)
