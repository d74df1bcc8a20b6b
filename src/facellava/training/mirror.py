"""A face as a mirror shows it: what training sees as a second face with the same labels.

Every label of the five tasks is the same on both sides, so that a picture and its mirror image share them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava.face import blendshape_names

MIRROR = "-mirror"
"""Ends the id of a mirror image's row."""


class Look(NamedTuple):
    """What the experts read of one crop.

    Attributes:
        pixels: uint8 (H, W, 3) RGB.
        landmarks: float32 (68, 2), x and y in [0, 1] of the crop.
        blendshapes: float32 (52,).
    """

    pixels: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    blendshapes: NDArray[np.float32]


_RUNS = ((0, 17), (17, 27), (31, 36), (48, 55), (55, 60), (60, 65), (65, 68))
"""Half-open runs of iBUG-68 points that a mirror turns around: jaw, brows, nostrils, outer and inner lips."""
_EYES = ((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46))
"""Points of the right eye and those that take their places."""


@lru_cache
def mirrored_points() -> NDArray[np.int64]:
    """(68,): the point of the original that lies where a point of the mirror image does."""
    order = np.arange(68)
    for start, stop in _RUNS:
        order[start:stop] = order[start:stop][::-1].copy()
    for right, left in _EYES:
        order[right], order[left] = left, right
    return order


@lru_cache
def mirrored_blendshapes() -> NDArray[np.int64]:
    """(52,): the same of MediaPipe's blendshapes: left ones and right ones change places."""
    names = blendshape_names()
    other = [
        name.removesuffix("Left") + "Right" if name.endswith("Left") else name.removesuffix("Right") + "Left"
        for name in names
    ]
    return np.array([names.index(o) if o in names else k for k, o in enumerate(other)])


def mirrored(look: Look) -> Look:
    """The mirror image of one crop."""
    points = look.landmarks[mirrored_points()]
    points[:, 0] = 1 - points[:, 0]
    return Look(np.ascontiguousarray(look.pixels[:, ::-1]), points, look.blendshapes[mirrored_blendshapes()])
