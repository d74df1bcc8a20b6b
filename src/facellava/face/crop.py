"""The square crop that every model of this package looks at, and how usable it is."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facellava.face.picture import Picture, part
from facellava.types import CROP_SIZE, Crop

__all__ = ["Square", "blur", "cut_square", "square_around"]


class Square(NamedTuple):
    """Whole source pixels: left, top and side; may reach outside the picture."""

    x: int
    y: int
    side: int

    def normalise(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Source pixels (..., 2) to [0, 1] of the square."""
        return ((points - np.array([self.x, self.y])) / self.side).astype(np.float32)


def square_around(box: NDArray[np.floating], margin: float = 0.0, crop: Crop = "centred") -> Square:
    """The square of a box: centred on it and `(1 + margin)` times its longer side wide (appendix E.1).

    `corner` starts in the box's top left corner and is as wide as the mean of its sides, `(1 + margin)` times.
    """
    if crop == "corner":
        mean = float(box[2] - box[0] + box[3] - box[1]) / 2
        return Square(round(float(box[0])), round(float(box[1])), max(1, round(mean * (1 + margin))))
    side = max(1, round(float(max(box[2] - box[0], box[3] - box[1])) * (1 + margin)))
    centre = (box[:2] + box[2:]) / 2
    return Square(round(float(centre[0]) - side / 2), round(float(centre[1]) - side / 2), side)


def cut_square(frame: Picture, square: Square) -> NDArray[np.uint8]:
    """The square as uint8 (256, 256, 3).

    Outside the picture its edge is repeated: a black bar would be a strong edge that no training face has.
    Shrinking averages areas, so that nothing aliases; enlarging is bilinear.
    """
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = square.x, square.y, square.x + square.side, square.y + square.side
    inner = part(frame, _clamp(y0, height), _clamp(y1, height, 1), _clamp(x0, width), _clamp(x1, width, 1))
    # Squares wholly outside keep the nearest row or column, so that there is an edge to repeat.
    top, left = min(max(0, -y0), square.side - 1), min(max(0, -x0), square.side - 1)
    bottom, right = square.side - top - inner.shape[0], square.side - left - inner.shape[1]
    if top or left or bottom > 0 or right > 0:
        inner = cv2.copyMakeBorder(inner, top, max(0, bottom), left, max(0, right), cv2.BORDER_REPLICATE)
    how = cv2.INTER_AREA if square.side > CROP_SIZE else cv2.INTER_LINEAR
    resized = cv2.resize(inner, (CROP_SIZE, CROP_SIZE), interpolation=how)
    return np.asarray(resized, dtype=np.uint8)


def _clamp(at: int, size: int, end: int = 0) -> int:
    """A slice's start in [0, size - 1], or its end in [1, size]."""
    return min(max(at, end), size - 1 + end)


def blur(crop: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey crop; low is soft."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
