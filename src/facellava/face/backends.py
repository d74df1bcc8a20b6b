"""Other landmarkers behind the same protocol: FAN, and landmarks computed elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facellava.errors import FileMissing, MissingExtra, UsageError
from facellava.face.crop import square_around
from facellava.face.detect import Detection
from facellava.face.landmarks import LandmarkResult
from facellava.face.picture import Picture
from facellava.face.pose import NO_POSE
from facellava.types import CROP_SIZE, N_BLENDSHAPES, N_LANDMARKS

__all__ = ["FanLandmarker", "PrecomputedLandmarks"]


def _points_only(points: NDArray[np.floating], score: float = 1.0) -> LandmarkResult:
    """A result of a backend that knows 68 points and nothing else."""
    return LandmarkResult(
        points68=np.asarray(points, dtype=np.float32),
        blendshapes=np.zeros(N_BLENDSHAPES, dtype=np.float32),
        mesh=None,
        pose=NO_POSE,
        score=score,
    )


class FanLandmarker:
    """FAN (the paper's landmarker) through the `face-alignment` package, which downloads its weights itself.

    Args:
        device: torch device.

    Raises:
        MissingExtra: `face-alignment` is not installed.
    """

    def __init__(self, device: str = "cpu") -> None:
        try:
            import face_alignment  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtra("fan", "the FAN landmarker") from error
        self._net: Any = face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D, device=device, flip_input=False
        )

    def __call__(self, frame: Picture, detection: Detection) -> LandmarkResult | None:
        """See `Landmarker`."""
        found = self._net.get_landmarks_from_image(np.asarray(frame), detected_faces=[detection.box.tolist()])
        return _points_only(found[0]) if found else None


class PrecomputedLandmarks:
    """Landmarks read from an `.npy` file of (68, 2) or (T, 68, 2), for media with one face.

    Frame t of the file belongs to the t-th call: make one object per medium, and decode the medium with as
    many frames as the file has. A row with a value that is not finite means "landmarks failed in this frame".

    Args:
        path: the file.
        space: `source` for pixels of the source picture, `crop` for pixels of the 256 x 256 crop (the
            release's layout).
        margin: of the crop, when space is `crop`.

    Raises:
        FileMissing: no such file.
        UsageError: another shape, or more calls than frames.
    """

    def __init__(self, path: str | Path, space: Literal["source", "crop"], margin: float = 0.0) -> None:
        try:
            points = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise FileMissing(f"{path} does not exist: check the path") from error
        except (ValueError, EOFError, OSError) as error:
            raise UsageError(f"{path} is no .npy file of numbers: save it with numpy.save") from error
        if points.ndim not in (2, 3) or points.shape[-2:] != (N_LANDMARKS, 2):
            raise UsageError(f"{path} has shape {points.shape}: (68, 2) or (T, 68, 2) is needed")
        self._points = points.reshape(-1, N_LANDMARKS, 2).astype(np.float32)
        self._name, self._space, self._margin = str(path), space, margin
        self._next = 0

    def __call__(self, frame: Picture, detection: Detection) -> LandmarkResult | None:
        """See `Landmarker`."""
        if self._next >= len(self._points):
            raise UsageError(
                f"{self._name} holds landmarks of {len(self._points)} frame(s), the medium has more: "
                "decode as many frames as the file has"
            )
        points = self._points[self._next]
        self._next += 1
        if not np.isfinite(points).all():
            return None
        if self._space == "crop":
            square = square_around(detection.box, self._margin)
            points = points / CROP_SIZE * square.side + np.array([square.x, square.y])
        return _points_only(points)
