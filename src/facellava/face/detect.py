"""Face detection with the BlazeFace networks, reproducing MediaPipe's pipeline step by step.

Letterbox to a square, SSD anchors, sigmoid, weighted suppression, letterbox removed. Source of the constants:
MediaPipe's face detection graphs (Apache-2.0),
https://ai.google.dev/edge/mediapipe/solutions/vision/face_detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facellava.errors import WeightsUnavailable
from facellava.face._litert import TfliteModel
from facellava.face.nms import weighted_nms
from facellava.face.picture import Picture
from facellava.face.warp import Region, letterbox_region

__all__ = ["BlazeFaceDetector", "Detection", "Detector", "anchors"]

SCORE_CLIP = 100.0
NMS_IOU = 0.3
N_KEYPOINTS = 6

_ANCHOR_LAYERS = {
    # input size: ((grid side, anchors per cell), ...)
    128: ((16, 2), (8, 6)),  # short range: stride 8, then three layers of stride 16 sharing one grid
    192: ((48, 1),),  # full range: stride 4
}


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face in one picture.

    Attributes:
        box: float32 (4,) x0, y0, x1, y1 in source pixels; may reach outside the picture.
        score: confidence in [0, 1].
        keypoints: float32 (6, 2) source pixels: right eye, left eye, nose tip, mouth, right ear, left ear
            (the subject's right and left).
    """

    box: NDArray[np.float32]
    score: float
    keypoints: NDArray[np.float32]

    @property
    def centre(self) -> NDArray[np.float32]:
        """(2,) centre of the box, source pixels."""
        return (self.box[:2] + self.box[2:]) / np.float32(2)

    @property
    def side(self) -> float:
        """The longer side of the box, source pixels."""
        return float(np.max(self.box[2:] - self.box[:2]))


class Detector(Protocol):
    """Anything that finds faces."""

    def detect(self, frame: Picture) -> list[Detection]:
        """Faces of one picture, best score first; empty when there is none. ``np.asarray(frame)`` is its RGB form."""
        ...


def anchors(size: int) -> NDArray[np.float32]:
    """(A, 2) anchor centres in [0, 1] for a `size` x `size` input; all anchors have unit size."""
    layers = []
    for side, per_cell in _ANCHOR_LAYERS[size]:
        centre = (np.arange(side, dtype=np.float32) + 0.5) / side
        x, y = np.meshgrid(centre, centre)
        layers.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), per_cell, axis=0))
    return np.concatenate(layers)


class BlazeFaceDetector:
    """BlazeFace, short range (128 px) or full range (192 px), told apart by the model's input.

    Args:
        path: the `.tflite` file.
        threads: CPU threads.
        min_score: candidates below it are dropped.

    Raises:
        WeightsUnavailable: no such file, or not a BlazeFace network.
    """

    def __init__(self, path: Path, threads: int = 1, min_score: float = 0.5) -> None:
        self._net = TfliteModel(path, threads)
        self._size = self._net.input_shape[1]
        if self._size not in _ANCHOR_LAYERS:
            raise WeightsUnavailable(f"{path} is not a BlazeFace network: its input is {self._net.input_shape}")
        self._anchors = anchors(self._size)
        self._min_score = min_score

    def detect(self, frame: Picture) -> list[Detection]:
        """Faces of one picture, best score first."""
        return self.detect_region(frame, letterbox_region(*frame.shape[:2]))

    def detect_region(self, frame: Picture, region: Region) -> list[Detection]:
        """Faces inside one square of the picture; coordinates are those of the whole picture."""
        tensor = region.cut(frame, self._size) / np.float32(127.5) - np.float32(1)
        raw, logits = self._net(tensor[None])
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -SCORE_CLIP, SCORE_CLIP).astype(np.float64)))
        passed = scores >= self._min_score
        values, scores = weighted_nms(self._decode(raw[0], passed), scores[passed], NMS_IOU)
        return [self._detection(v, s, region) for v, s in zip(values, scores, strict=True)]

    def _decode(self, raw: NDArray[np.float32], passed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Offsets from anchors to corners and keypoints (P, 16), in [0, 1] of the square."""
        pairs = raw[passed].astype(np.float64).reshape(-1, 2 + N_KEYPOINTS, 2) / self._size
        centre = pairs[:, 0] + self._anchors[passed]
        half = pairs[:, 1] / 2
        points = pairs[:, 2:] + self._anchors[passed][:, None]
        return np.concatenate([centre - half, centre + half, points.reshape(-1, 2 * N_KEYPOINTS)], axis=1)

    def _detection(self, values: NDArray[np.floating], score: float, region: Region) -> Detection:
        points = region.project(values.reshape(-1, 2) * self._size, self._size)
        return Detection(box=points[:2].reshape(4), score=float(score), keypoints=points[2:])
