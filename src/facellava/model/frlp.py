"""Face-Region Landmark Projector: landmarks to one token per face region (section 4.1, eq. 2-4; appendix G.1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .regions import N_POINTS, N_REGIONS, REGIONS

__all__ = ["FaceRegionLandmarkProjector"]


class FaceRegionLandmarkProjector(nn.Module):
    """Single-layer projections of the 68 points: one per region (local), one of the whole face (global), added.

    Args:
        dim: width d of the tokens, the language model's hidden size.
        use_local: eq. 2; nine tokens a frame.
        use_global: eq. 3; alone it gives one token a frame ("only global" in Table 6).

    Raises:
        ValueError: when both parts are switched off.
    """

    def __init__(self, dim: int, use_local: bool = True, use_global: bool = True) -> None:
        super().__init__()
        if not (use_local or use_global):
            raise ValueError("the landmark projector needs use_local, use_global or both")
        self.use_local, self.use_global = use_local, use_global
        if use_local:
            self.regions = nn.ModuleDict({r.name: nn.Linear(2 * r.size, dim) for r in REGIONS})
        if use_global:
            self.whole = nn.Linear(2 * N_POINTS, dim)

    @property
    def num_tokens(self) -> int:
        """Tokens a frame: 9, or 1 when only the global part is used."""
        return N_REGIONS if self.use_local else 1

    def local_tokens(self, landmarks: Float[Tensor, "b t 68 2"]) -> Float[Tensor, "b t 9 d"]:
        """Eq. 2: each region's points, flattened as x0, y0, x1, y1, ..., through that region's own layer."""
        tokens = [self.regions[r.name](landmarks[:, :, r.start : r.stop].flatten(2)) for r in REGIONS]
        return torch.stack(tokens, dim=2)

    def global_token(self, landmarks: Float[Tensor, "b t 68 2"]) -> Float[Tensor, "b t 1 d"]:
        """Eq. 3: all points through one layer."""
        return self.whole(landmarks.flatten(2)).unsqueeze(2)

    def forward(self, landmarks: Float[Tensor, "b t 68 2"]) -> Float[Tensor, "b t m d"]:
        """Landmark tokens, eq. 4; coordinates are fractions of the crop."""
        if not self.use_global:
            return self.local_tokens(landmarks)
        if not self.use_local:
            return self.global_token(landmarks)
        return self.local_tokens(landmarks) + self.global_token(landmarks)
