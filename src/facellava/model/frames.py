"""Which frames of a clip are looked at, in numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["frame_indices"]


def frame_indices(available: int, wanted: int = 8) -> NDArray[np.int64]:
    """Evenly spaced frame numbers from first to last, truncated to whole numbers; short clips repeat frames.

    As the official release samples: ``linspace(0, available - 1, wanted)``. One wanted frame is the first.
    """
    return np.linspace(0, available - 1, wanted).astype(np.int64)
