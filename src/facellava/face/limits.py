"""What is refused before decoding, and what a decoder returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava.errors import MediaTooLarge
from facellava.types import Frames

__all__ = ["Decoded", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused from the header, before anything is decoded.

    Attributes:
        max_pixels: width times height of a picture or of one video frame. Pillow's own ceiling of 179 million
            pixels holds for pictures whatever is set here.
        max_bytes: size of the file.
        max_duration: length of a video in seconds.
        max_count: frames of a video or an animation, kept or not.
        max_memory: bytes of decoded frames; a video of larger frames is sampled at fewer moments.
    """

    max_pixels: int = 100_000_000
    max_bytes: int = 4 * 2**30
    max_duration: float = 4 * 3600.0
    max_count: int = 4_000_000
    max_memory: int = 2 * 2**30

    def check_size(self, name: str, width: int, height: int) -> None:
        """Raise MediaTooLarge for a picture of this many pixels."""
        if width * height > self.max_pixels:
            raise MediaTooLarge(
                f"{name} has {width} x {height} pixels, more than the limit of {self.max_pixels:,}: "
                "scale it down or raise the limit"
            )

    def check_duration(self, name: str, seconds: float) -> None:
        """Raise MediaTooLarge for a video of this length."""
        if seconds > self.max_duration:
            raise MediaTooLarge(
                f"{name} lasts {seconds:.0f} s, more than the limit of {self.max_duration:.0f} s: "
                "cut it or raise the limit"
            )

    def check_count(self, name: str, frames: int) -> None:
        """Raise MediaTooLarge for a video of this many frames."""
        if frames > self.max_count:
            raise MediaTooLarge(
                f"{name} has {frames:,} frames, more than the limit of {self.max_count:,}: cut it or raise the limit"
            )

    def frames_that_fit(self, width: int, height: int, wanted: int) -> int:
        """How many frames of this size to keep, at least one and at most `wanted`."""
        return max(1, min(wanted, self.max_memory // max(1, width * height * 3)))


class Decoded(NamedTuple):
    """What a decoder returns: frames, times (T,), and rate and duration of the source."""

    frames: Frames
    times: NDArray[np.float64]
    fps: float = 0.0
    duration: float = 0.0
