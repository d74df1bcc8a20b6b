"""The data contracts that every part shares: frozen, no behaviour beyond validation.

Shapes: T frames, 68 landmarks in iBUG-68 order, 52 blendshapes in MediaPipe's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CROP_SIZE = 256
N_LANDMARKS = 68
N_BLENDSHAPES = 52

MediaKind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class Media:
    """One decoded image or video.

    Attributes:
        path: where it came from; None for media given as arrays or bytes.
        kind: ``image`` has one frame.
        frames: uint8 (T, H, W, 3) RGB, upright (EXIF orientation and rotation metadata already applied).
        times: float64 (T,) seconds from the start of the stream.
        sha256: of the file's bytes (of the pixels for arrays), lower-case hex.
        fps: nominal frames per second of the source, 0.0 for an image.
        duration: seconds, 0.0 for an image.
    """

    path: Path | None
    kind: MediaKind
    frames: NDArray[np.uint8]
    times: NDArray[np.float64]
    sha256: str
    fps: float
    duration: float

    def __post_init__(self) -> None:
        assert self.frames.dtype == np.uint8 and self.frames.ndim == 4 and self.frames.shape[-1] == 3
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

    def __post_init__(self) -> None:
        t = len(self.frames)
        assert self.frames.shape == (t, CROP_SIZE, CROP_SIZE, 3) and self.frames.dtype == np.uint8
        assert self.landmarks.shape == (t, N_LANDMARKS, 2) and self.landmarks.dtype == np.float32
        assert self.blendshapes.shape == (t, N_BLENDSHAPES) and self.blendshapes.dtype == np.float32
        assert self.boxes.shape == (t, 4) and self.times.shape == (t,) and t > 0
