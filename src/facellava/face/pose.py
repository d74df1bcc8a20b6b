"""Head rotation from the face mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_POSE", "Pose", "pose_from_mesh"]

RIGHT_SIDE, LEFT_SIDE, FOREHEAD, CHIN = 234, 454, 10, 152

# The line from forehead to chin is not vertical in a level head, and the mesh exaggerates depth along it.
# Both numbers were fitted to 175 rendered heads of known pose and checked on level official portraits; half
# the rendered heads lie within 3 degrees.
PITCH_ZERO = 9.0
PITCH_SLOPE = 0.7


class Pose(NamedTuple):
    """Head rotation in degrees; (0, 0, 0) looks straight into the camera.

    Attributes:
        yaw: above 0 the face turns to the viewer's right.
        pitch: above 0 it looks down.
        roll: above 0 it is tilted counter-clockwise, as the viewer sees it.
    """

    yaw: float
    pitch: float
    roll: float


NO_POSE = Pose(float("nan"), float("nan"), float("nan"))
"""Stands for "this backend does not measure the pose"."""


def pose_from_mesh(mesh: NDArray[np.float32]) -> Pose:
    """Rotation of the axes through the sides of the face and through forehead and chin.

    Args:
        mesh: (478, 3) as in `LandmarkResult.mesh`: x right, y down, depth growing away from the camera.
    """
    points = mesh.astype(np.float64)
    across = _unit(points[LEFT_SIDE] - points[RIGHT_SIDE])
    down = points[CHIN] - points[FOREHEAD]
    down = _unit(down - across * (across @ down))
    inward = np.cross(across, down)
    yaw = np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1])))
    pitch = PITCH_SLOPE * (np.degrees(np.arctan2(down[2], inward[2])) - PITCH_ZERO)
    roll = np.degrees(np.arctan2(-across[1], across[0]))
    return Pose(float(yaw), float(pitch), float(roll))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
