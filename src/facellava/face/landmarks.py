"""Landmarks: one protocol, and the default backend, MediaPipe's 478-point mesh in LiteRT."""

from __future__ import annotations

import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facellava.face._litert import TfliteModel
from facellava.face.detect import Detection
from facellava.face.picture import Picture
from facellava.face.pose import Pose, pose_from_mesh
from facellava.face.warp import Region
from facellava.types import N_BLENDSHAPES

__all__ = ["LandmarkResult", "Landmarker", "MeshLandmarker", "blendshape_names", "face_region"]

CROP_SCALE = 1.5
RIGHT_EYE, LEFT_EYE = 0, 1  # of the detector's keypoints


class LandmarkResult(NamedTuple):
    """What a landmarker says about one face.

    Attributes:
        points68: float32 (68, 2) source pixels, iBUG-68 order.
        blendshapes: float32 (52,) in [0, 1], MediaPipe's order; zeros where the backend has none.
        mesh: float32 (478, 3) source pixels, depth in the same unit, smaller is nearer; None if the backend
            has none.
        pose: head rotation in degrees.
        score: confidence in [0, 1] that the crop shows a face.
    """

    points68: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    mesh: NDArray[np.float32] | None
    pose: Pose
    score: float


class Landmarker(Protocol):
    """Anything that puts 68 landmarks on a detected face."""

    def __call__(self, frame: Picture, detection: Detection) -> LandmarkResult | None:
        """Landmarks of one face, None when they cannot be found. ``np.asarray(frame)`` is the picture's RGB form."""
        ...


class MeshLandmarker:
    """The 478-point face mesh, 68 points read from it, and 52 blendshapes.

    The mesh's jaw points lie on the mesh outline and so differ from FAN- or dlib-style jaw points by 4 to 9 %
    of the distance between the eyes.

    Args:
        mesh_path: `face_landmarks_detector.tflite`, (1, 256, 256, 3) in 0..1 to 478 x 3 and a presence logit.
        blendshape_path: `face_blendshapes.tflite`, (1, 146, 2) to 52.
        threads: CPU threads.
        min_score: presence below it means "no face here": None is returned.
        refinements: how often to cut again around the found landmarks (MediaPipe does not do
            it for single images, and it made the error on rendered heads slightly larger).

    Raises:
        WeightsUnavailable: a file is missing or is no LiteRT model.
    """

    def __init__(
        self,
        mesh_path: Path,
        blendshape_path: Path,
        threads: int = 1,
        *,
        min_score: float = 0.5,
        refinements: int = 0,
    ) -> None:
        self._mesh = TfliteModel(mesh_path, threads)
        self._blendshapes = TfliteModel(blendshape_path, threads)
        self._size = self._mesh.input_shape[1]
        self._min_score = min_score
        self._refinements = refinements

    def __call__(self, frame: Picture, detection: Detection) -> LandmarkResult | None:
        """See `Landmarker`."""
        right, left = detection.keypoints[RIGHT_EYE], detection.keypoints[LEFT_EYE]
        region = face_region(detection.centre, detection.side, right, left)
        mesh, score = self._run(frame, region)
        for _ in range(self._refinements):
            if score < self._min_score:
                break
            mesh, score = self._run(frame, _region_of_mesh(mesh))
        if score < self._min_score:
            return None
        facts = _facts()
        vertices = mesh[facts.blendshape_vertices, :2]
        blendshapes = self._blendshapes(vertices[None])[0].reshape(N_BLENDSHAPES)
        return LandmarkResult(
            points68=np.ascontiguousarray(mesh[facts.ibug68, :2]),
            blendshapes=np.clip(blendshapes, 0, 1).astype(np.float32),
            mesh=mesh,
            pose=pose_from_mesh(mesh),
            score=score,
        )

    def _run(self, frame: Picture, region: Region) -> tuple[NDArray[np.float32], float]:
        tensor = region.cut(frame, self._size, cv2.BORDER_REPLICATE) / np.float32(255)
        flat, logit = self._mesh(tensor[None])[:2]
        points = flat.reshape(-1, 3)
        xy = region.project(points[:, :2], self._size)
        z = points[:, 2:] * np.float32(region.side / self._size)
        return np.concatenate([xy, z], axis=1), float(1 / (1 + np.exp(-logit.reshape(()))))


def face_region(
    centre: NDArray[np.floating], side: float, right_eye: NDArray[np.floating], left_eye: NDArray[np.floating]
) -> Region:
    """The square that the mesh network expects: 1.5 times `side`, turned so that the eyes are level."""
    dx, dy = left_eye - right_eye
    return Region(float(centre[0]), float(centre[1]), CROP_SCALE * side, float(np.arctan2(dy, dx)))


def _region_of_mesh(mesh: NDArray[np.float32]) -> Region:
    """MediaPipe's region for the next frame of a video: around the mesh, level by the outer eye corners."""
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    return face_region((low + high) / 2, float((high - low).max()), mesh[33, :2], mesh[263, :2])


class _Facts(NamedTuple):
    ibug68: NDArray[np.intp]
    blendshape_vertices: NDArray[np.intp]
    blendshape_names: tuple[str, ...]


@functools.cache
def _facts() -> _Facts:
    text = resources.files("facellava.face").joinpath("mesh_facts.json").read_text(encoding="utf-8")
    raw: dict[str, Any] = json.loads(text)
    return _Facts(
        np.array(raw["mesh_to_ibug68"], dtype=np.intp),
        np.array(raw["blendshape_input_vertices"], dtype=np.intp),
        tuple(raw["blendshape_names"]),
    )


def blendshape_names() -> tuple[str, ...]:
    """The 52 names in MediaPipe's order; left and right are the subject's."""
    return _facts().blendshape_names
