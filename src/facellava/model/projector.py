"""Vision projector P_V of eq. 1: two layers with an exact GELU between (appendix G.1)."""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["VisionProjector"]


class VisionProjector(nn.Module):
    """From the vision tower's width to the language model's, token by token.

    Args:
        vision_dim: width c of the tower's features.
        dim: width d of the language model.
    """

    def __init__(self, vision_dim: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(vision_dim, dim)
        self.act = nn.GELU(approximate="none")
        self.second = nn.Linear(dim, dim)

    def forward(self, features: Float[Tensor, "b t n c"]) -> Float[Tensor, "b t n d"]:
        """Eq. 1, h_v."""
        return self.second(self.act(self.first(features)))
