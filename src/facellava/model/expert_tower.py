"""The vision tower of the small default: maps of frozen experts, standardised for the projector.

``ExpertEncoder`` (numpy) runs the frozen networks; what they find is stated in words (see ``expert_report``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facellava.model.expert_report import OUTLIER


class ExpertVisionTower(nn.Module):
    """Standardises maps with the training set's moments.

    Args:
        width: channels of the maps.
    """

    map_mean: Tensor
    map_std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("map_mean", torch.zeros(width))
        self.register_buffer("map_std", torch.ones(width))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (..., C) standardised; outliers are clipped."""
        return ((maps - self.map_mean) / self.map_std).clamp(-OUTLIER, OUTLIER)
