"""Crops to pixel values for CLIP-type towers. Shapes: t frames, h x w pixels of the crop, s pixels a side.

The release resizes images and videos differently (they differ by up to 0.097); ``pixels="official"`` reproduces both,
``pixels="paper"`` uses its image path, which does not alias, for everything.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["CLIP_MEAN", "CLIP_STD", "antialiased_bicubic", "normalised_bilinear", "pixel_values"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def _normalise(frames: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 3 h w"]:
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    return (frames - mean) / std


def _resize(
    frames: Float[Tensor, "t 3 h w"], size: int, mode: Literal["bicubic", "bilinear"], antialias: bool
) -> Float[Tensor, "t 3 s s"]:
    """Short side to ``size``, then the centre."""
    h, w = frames.shape[-2:]
    scaled = (size, int(size * w / h)) if h <= w else (int(size * h / w), size)
    frames = interpolate(frames, scaled, mode=mode, align_corners=False, antialias=antialias)
    top, left = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return frames[..., top : top + size, left : left + size]


def antialiased_bicubic(frames: Float[Tensor, "t 3 h w"], size: int) -> Float[Tensor, "t 3 s s"]:
    """The release's image path: values in [0, 1] -> resize -> CLIP normalisation."""
    return _normalise(_resize(frames, size, "bicubic", antialias=True))


def normalised_bilinear(frames: Float[Tensor, "t 3 h w"], size: int) -> Float[Tensor, "t 3 s s"]:
    """The release's video path: values in [0, 1] -> CLIP normalisation -> resize without antialiasing."""
    return _resize(_normalise(frames), size, "bilinear", antialias=False)


def pixel_values(
    frames: UInt8[np.ndarray, "t h w 3"], size: int, pixels: Literal["paper", "official"], video: bool
) -> Float[Tensor, "t 3 s s"]:
    """RGB crops to what the tower reads; ``video`` chooses the path of the official profile."""
    scaled = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    if pixels == "official" and video:
        return normalised_bilinear(scaled, size)
    return antialiased_bicubic(scaled, size)
