"""Face-parsing maps as pictures, for the last rows of Table 6: the parts of the face, each in one colour.

The paper takes a parsing network's maps. No ordinary package carries one, so these are drawn from the 68 landmarks:
the same parts (skin, brows, eyes, nose, lips, mouth), with outlines as good as the landmarks and no hair or ears.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facellava.types import CROP_SIZE

__all__ = ["PARTS", "draw_parsing"]

_JAW, _BROWS = list(range(17)), list(range(26, 16, -1))
_UPPER_LIP = [*range(48, 55), *range(64, 59, -1)]
_LOWER_LIP = [*range(54, 60), 48, 60, *range(67, 63, -1)]
PARTS: tuple[tuple[str, tuple[int, ...], tuple[int, int, int]], ...] = (
    ("nose", (27, 31, 32, 33, 34, 35), (60, 180, 75)),
    ("right eye", tuple(range(36, 42)), (0, 130, 200)),
    ("left eye", tuple(range(42, 48)), (70, 240, 240)),
    ("upper lip", tuple(_UPPER_LIP), (230, 25, 75)),
    ("lower lip", tuple(_LOWER_LIP), (240, 50, 230)),
    ("mouth", tuple(range(60, 68)), (255, 255, 255)),
)
"""Name, outline in landmark numbers and colour; drawn in this order over the skin."""
_SKIN, _BROW = (128, 96, 64), ((245, 130, 48), (255, 225, 25))
_FOREHEAD = 0.35
"""How far the skin reaches above the brows, in heights from brows to chin."""
_FINE = 4
"""Fractional bits of OpenCV's drawing coordinates."""


def draw_parsing(landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Landmarks (t, 68, 2) in fractions of the crop to pictures uint8 (t, 256, 256, 3) RGB."""
    return np.stack([_draw(points) for points in landmarks])


def _draw(points: NDArray[np.float32]) -> NDArray[np.uint8]:
    picture = np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8)
    pixels = points * CROP_SIZE
    lift = _FOREHEAD * (pixels[8, 1] - pixels[_BROWS, 1].mean())
    forehead = pixels[_BROWS] - np.array([0, lift], np.float32)
    _fill(picture, np.concatenate([pixels[_JAW], forehead]), _SKIN)
    width = max(2, round(0.04 * float(np.linalg.norm(pixels[0] - pixels[16]))))
    for brow, colour in zip((slice(17, 22), slice(22, 27)), _BROW, strict=True):
        cv2.polylines(picture, [_fixed(pixels[brow])], False, colour, width, cv2.LINE_8, _FINE)
    for _, outline, colour in PARTS:
        _fill(picture, pixels[list(outline)], colour)
    return picture


def _fill(picture: NDArray[np.uint8], points: NDArray[np.float32], colour: tuple[int, int, int]) -> None:
    cv2.fillPoly(picture, [_fixed(points)], colour, cv2.LINE_8, _FINE)


def _fixed(points: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.round(points * 2**_FINE).astype(np.int32)
