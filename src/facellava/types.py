"""The data contracts that every part shares: frozen, no behaviour beyond validation.

Shapes: T frames, 68 landmarks in iBUG-68 order, 52 blendshapes in MediaPipe's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

CROP_SIZE = 256
N_LANDMARKS = 68
N_BLENDSHAPES = 52

MediaKind = Literal["image", "video"]
Precision = Literal["fp32", "bf16", "int8", "int4"]
"""How a model's weights are kept; 8 and 4 bits only in the language model's linear layers."""
Crop = Literal["centred", "corner"]
"""Squares around a face's box. ``centred``: on its centre, as wide as its longer side (appendix E.1). ``corner``: from
its top left corner, as wide as the mean of its sides (the official release)."""


class Frames(Protocol):
    """Decoded frames: a uint8 (T, H, W, 3) RGB, an array or a sequence that makes its items when asked for them.

    ``np.asarray`` turns either into the array.
    """

    @property
    def shape(self) -> tuple[Any, ...]:
        """(T, H, W, 3)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class Media:
    """One decoded image or video.

    Attributes:
        path: where it came from; None for media given as arrays or bytes.
        kind: ``image`` has one frame.
        frames: upright (EXIF orientation and rotation metadata already applied); see ``Frames``.
        times: float64 (T,) seconds from the start of the stream.
        sha256: of the file's bytes (of the pixels for arrays), lower-case hex.
        fps: nominal frames per second of the source, 0.0 for an image.
        duration: seconds, 0.0 for an image.
    """

    path: Path | None
    kind: MediaKind
    frames: Frames
    times: NDArray[np.float64]
    sha256: str
    fps: float
    duration: float

    def __post_init__(self) -> None:
        assert len(self.frames.shape) == 4 and self.frames.shape[-1] == 3
        assert len(self.times) == len(self.frames) > 0


@dataclass(frozen=True, slots=True)
class Quality:
    """How usable the face is, per clip (the worst frame counts for size, the median for blur and pose).

    Attributes:
        size: shorter side of the detector's box, source pixels.
        blur: variance of the Laplacian of the grey 256 x 256 crop; below 20 is soft.
        yaw, pitch, roll: head rotation in degrees; 0 is frontal.
        score: detector confidence in [0, 1].
    """

    size: float
    blur: float
    yaw: float
    pitch: float
    roll: float
    score: float


@dataclass(frozen=True, slots=True)
class Source:
    """Where a clip came from: digest of the medium, frames per second and duration in seconds."""

    sha256: str
    fps: float
    duration: float


@dataclass(frozen=True, slots=True)
class FaceClip:
    """One face through time, cropped and landmarked: what every model in this package looks at.

    Attributes:
        frames: uint8 (T, 256, 256, 3) RGB crops, a square around the detector's box, neither smoothed nor aligned
            (appendix E.1), widened by ``margin``.
        landmarks: float32 (T, 68, 2), x and y in [0, 1] of the crop (may lie slightly outside), iBUG-68 order.
        blendshapes: float32 (T, 52) in [0, 1], MediaPipe's order; measured movement, used as evidence.
        boxes: float32 (T, 4) detector boxes in source pixels, x0, y0, x1, y1.
        times: float64 (T,) seconds.
        face_id: stable number of the face within its medium, from 0, left to right at first appearance.
        quality: see Quality.
        source: see Source.
        margin: the crop's side is ``(1 + margin)`` times the longer side of the box.
        crop: where the square lies, see ``Crop``.
        spans: [start, end] seconds in which the face is present; gaps between them are explicit.
    """

    frames: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    boxes: NDArray[np.float32]
    times: NDArray[np.float64]
    face_id: int
    quality: Quality
    source: Source
    margin: float = 0.0
    spans: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    crop: Crop = "centred"

    def __post_init__(self) -> None:
        t = len(self.frames)
        assert self.frames.shape == (t, CROP_SIZE, CROP_SIZE, 3) and self.frames.dtype == np.uint8
        assert self.landmarks.shape == (t, N_LANDMARKS, 2) and self.landmarks.dtype == np.float32
        assert self.blendshapes.shape == (t, N_BLENDSHAPES) and self.blendshapes.dtype == np.float32
        assert self.boxes.shape == (t, 4) and self.times.shape == (t,) and t > 0


LabelValue = str | int | tuple[str, ...] | None
"""A label: one name (single), the active names in canonical order (multi), years (number); None is unlabelled."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled face for one task, as a dataset gives it: what the data construction starts from.

    Attributes:
        id: unique in a build and stable between runs: ``<source>/<id within the source>``, with ``#<n>`` for the n-th
            piece of a video and ``@<task>`` where one face is labelled for several tasks.
        source: name of the reader.
        split: the official split: ``train``, ``val`` or ``test``.
        task: name of one of the five tasks.
        media: absolute path of the picture or video.
        kind: ``image`` also for a single ``frame`` of a video.
        label: see ``LabelValue``; multi labels hold the active ones only.
        known: multi tasks: the labels that the annotation covers, so that the others are unknown and not absent.
        subject: identity within the source, never in two splits of ours; None where the source states none.
        window: [start, end) in seconds of the video, None for the whole of it.
        frame: index of one frame of a video that is treated as a picture.
        box: x, y, width, height in pixels of the labelled face where the source states it.
        meta: further facts of the source as plain values: native label, fold, group attributes, manipulation.
    """

    id: str
    source: str
    split: Literal["train", "val", "test"]
    task: str
    media: Path
    kind: MediaKind
    label: LabelValue
    known: tuple[str, ...] = ()
    subject: str | None = None
    window: tuple[float, float] | None = None
    frame: int | None = None
    box: tuple[float, float, float, float] | None = None
    meta: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.id.startswith(f"{self.source}/") and self.media.is_absolute()
        assert self.frame is None or self.kind == "image"
        assert not isinstance(self.label, tuple) or set(self.label) <= set(self.known)
