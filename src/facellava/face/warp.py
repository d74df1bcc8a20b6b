"""Cutting a rotated square out of a picture the way MediaPipe does, for networks that were trained on it.

MediaPipe maps the corners of the region onto (0, 0) and (size, size) of the tensor and samples bilinearly at
integer positions, without a half-pixel shift and without smoothing before shrinking. Its networks expect that
aliasing: an area filter here moves the detector's boxes (mean IoU to MediaPipe
0.96 instead of 0.999 on official portraits).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facellava.face.picture import Picture, warp

__all__ = ["Region", "letterbox_region"]


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the source picture: centre and side in pixels, rotation in radians, clockwise."""

    cx: float
    cy: float
    side: float
    angle: float = 0.0

    def cut(self, frame: Picture, size: int, border: int = cv2.BORDER_CONSTANT) -> NDArray[np.float32]:
        """The region as float32 (size, size, 3) in 0..255, bilinear. Outside the picture: `border`."""
        return warp(frame, self.to_source(size), size, border).astype(np.float32)

    def to_source(self, size: int) -> NDArray[np.float64]:
        """(2, 3) matrix that takes tensor pixels of a `size` x `size` cut to source pixels."""
        scale = self.side / size
        c, s = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        half = size / 2
        return np.array(
            [
                [c, -s, self.cx - c * half + s * half],
                [s, c, self.cy - s * half - c * half],
            ]
        )

    def project(self, points: NDArray[np.floating], size: int) -> NDArray[np.float32]:
        """Tensor pixels (..., 2) of a cut to source pixels (..., 2)."""
        matrix = self.to_source(size)
        return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def letterbox_region(height: int, width: int) -> Region:
    """The smallest square that holds the whole picture, centred on it."""
    return Region(cx=width / 2, cy=height / 2, side=float(max(height, width)))
