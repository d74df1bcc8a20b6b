"""Inputs of the right shapes that show nothing: padding, and what a model's memory is measured with."""

from __future__ import annotations

import torch
from torch import Tensor

from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig

__all__ = ["zero_inputs"]


def zero_inputs(config: FaceLlavaConfig, frames: int, cached: bool) -> dict[str, Tensor]:
    """One clip's visual inputs by name, each with a leading axis of frames.

    Args:
        cached: the tower's features in place of pixels, for towers of CLIP type.
    """
    vision, fusion = config.vision, config.fusion
    tokens = vision.grid**2 + vision.has_cls(frames)
    maps = torch.zeros(frames, tokens, vision.width)
    if cached or isinstance(vision, ExpertVisionConfig):
        result = {"vision_features": maps}
    else:
        result = {"pixel_values": torch.zeros(frames, 3, vision.image_size, vision.image_size)}
    if fusion.uses_landmarks:
        result["landmarks"] = torch.full((frames, 68, 2), 0.5)
    if fusion.uses_parsing:
        result["parsing_values"] = torch.zeros_like(next(iter(result.values())))
    return result
