"""The nine landmark regions of section 4.1 and where patches and regions lie, in numpy only.

Left and right are the person's own, as in FACS and in MediaPipe's blendshape names: in an unmirrored picture of a
frontal face the right eye is on the viewer's left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "N_POINTS",
    "N_REGIONS",
    "REGIONS",
    "REGION_NAMES",
    "Region",
    "patch_centroids",
    "region_centroids",
]

N_POINTS = 68


class Region(NamedTuple):
    """A run of iBUG-68 points.

    Attributes:
        name: ours.
        official: the name in the official release's checkpoint keys.
        start, stop: half-open range of point numbers.
    """

    name: str
    official: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of points."""
        return self.stop - self.start


REGIONS = (
    Region("face_boundary", "face", 0, 17),
    Region("right_brow", "eyebrow1", 17, 22),
    Region("left_brow", "eyebrow2", 22, 27),
    Region("nose", "nose", 27, 31),
    Region("nostril", "nostril", 31, 36),
    Region("right_eye", "eye1", 36, 42),
    Region("left_eye", "eye2", 42, 48),
    Region("lips", "lips", 48, 60),
    Region("teeth", "teeth", 60, 68),
)
REGION_NAMES = tuple(region.name for region in REGIONS)
N_REGIONS = len(REGIONS)


def region_centroids(landmarks: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean point of every region: (..., 68, 2) in [0, 1] of the crop -> (..., 9, 2), same unit and dtype."""
    return np.stack([landmarks[..., r.start : r.stop, :].mean(axis=-2) for r in REGIONS], axis=-2)


def patch_centroids(grid: int) -> NDArray[np.float64]:
    """Centres of a grid x grid tiling of the unit square, row by row: (grid * grid, 2) as x, y.

    Patch ``row * grid + col`` lies at ``((col + 0.5) / grid, (row + 0.5) / grid)``.
    """
    steps = (np.arange(grid) + 0.5) / grid
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=-1)
