"""Face-Region Guided Cross-Attention: visual tokens ask landmark tokens (section 4.2, eq. 5-6; appendix G.1).

Shapes: b clips, t frames, n visual tokens a frame, m landmark tokens a frame, h heads, d width.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .frgca_folded import Projections, attend_folded, pays
from .regions import N_REGIONS, REGIONS

__all__ = ["FUSIONS", "FaceRegionGuidedCrossAttention", "Fusion", "FusionOutput", "region_distances"]

Fusion = Literal["paper", "official_simple", "official_masked", "none"]
FUSIONS: tuple[str, ...] = get_args(Fusion)

OFFICIAL_BRANCH_SCALE = 0.1
"""The release multiplies its fusion branch by this constant; the paper does not."""


class FusionOutput(NamedTuple):
    """Enriched visual tokens (b, t, n, d) and, when asked for, attention weights (b, t, h, n, m)."""

    visual: Tensor
    attention: Tensor | None


def region_distances(
    landmarks: Float[Tensor, "b t 68 2"], grid: int, has_cls: bool = False, transposed: bool = False
) -> Float[Tensor, "b t n 9"]:
    """Euclidean distance from every patch centre to every region's centroid (eq. 5 without its sign).

    Args:
        landmarks: fractions of the crop.
        grid: patches a side.
        has_cls: a leading CLS token has no place; its row is zero, so that it prefers no region.
        transposed: swap x and y of the patch centres, as the official release does.
    """
    centroids = torch.stack([landmarks[:, :, r.start : r.stop].mean(dim=2) for r in REGIONS], dim=2)
    steps = (torch.arange(grid, dtype=landmarks.dtype, device=landmarks.device) + 0.5) / grid
    rows, cols = steps.repeat_interleave(grid), steps.repeat(grid)
    patches = torch.stack([rows, cols] if transposed else [cols, rows], dim=-1)
    offsets = patches[None, None, :, None, :] - centroids[:, :, None, :, :]
    distances = offsets.square().sum(dim=-1).sqrt()
    return nn.functional.pad(distances, (0, 0, 1, 0)) if has_cls else distances


class FaceRegionGuidedCrossAttention(nn.Module):
    """One block of cross-attention from visual tokens to landmark tokens.

    Args:
        dim: width d.
        heads: attention heads; must divide ``dim``.
        fusion: ``paper``: ``h_v + Linear(softmax(QK'/s - distance) V)``, eq. 6.
            ``official_simple``: what the release trains, ``h_v + 0.1 Linear(LayerNorm(h_v + Attention))``, no mask.
            ``official_masked``: the release's masked class; its mask is ``softmax_regions(-distance)``.
            ``none``: visual tokens pass through; the module has no parameters.
        grid: patches a side, used by the mask.
        has_cls: the visual tokens of a frame start with a CLS token.
        mask: the region-patch proximity mask of eq. 5; without it ``paper`` is Table 6's "simple" row.
        scale: s is the square root of the width of one ``head`` (usual) or of the whole ``model`` (eq. 6 as printed).
        transposed_grid: reproduce the swapped axes of ``official_masked``; wrong for anything but its checkpoints.

    Raises:
        ValueError: for an unknown or contradictory setting.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        fusion: Fusion = "paper",
        *,
        grid: int,
        has_cls: bool = False,
        mask: bool = True,
        scale: Literal["head", "model"] = "head",
        transposed_grid: bool = False,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; choose one of {', '.join(FUSIONS)}")
        if heads < 1 or dim % heads:
            raise ValueError(f"heads={heads} does not divide dim={dim}")
        if transposed_grid and fusion != "official_masked":
            raise ValueError("transposed_grid only applies to fusion='official_masked'")
        self.heads, self.fusion, self.grid, self.has_cls = heads, fusion, grid, has_cls
        self.masked = fusion == "official_masked" or (fusion == "paper" and mask)
        self.transposed_grid = transposed_grid
        self.scale = (dim // heads if scale == "head" else dim) ** -0.5
        if fusion == "none":
            return
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        if fusion != "official_masked":
            self.out = nn.Linear(dim, dim)
        if fusion != "paper":
            self.norm = nn.LayerNorm(dim)
            self.branch = nn.Linear(dim, dim)

    def forward(
        self,
        visual: Float[Tensor, "b t n d"],
        regions: Float[Tensor, "b t m d"],
        landmarks: Float[Tensor, "b t 68 2"] | None = None,
        need_attention: bool = False,
        has_cls: bool | None = None,
    ) -> FusionOutput:
        """Enrich the visual tokens; landmarks place the regions for the mask and are only read by it.

        ``has_cls`` overrides the module's setting for this call (towers for images and videos may differ). Without
        gradients, in evaluation, the query and output projections are folded into the regions' side where that is
        cheaper (``frgca_folded``): the same numbers up to rounding.

        Raises:
            ValueError: when a mask is used and the token counts do not fit the grid and the nine regions.
        """
        if self.fusion == "none":
            return FusionOutput(visual, None)
        bias = None
        if self.masked:
            if landmarks is None:
                raise ValueError("the proximity mask needs landmarks")
            bias = self.proximity(landmarks, visual.shape[2], regions.shape[2], has_cls)
        enriched, attention = self._attend(visual, regions, bias)
        if self.fusion != "paper":
            enriched = visual + OFFICIAL_BRANCH_SCALE * self.branch(self.norm(enriched))
        return FusionOutput(enriched, attention if need_attention else None)

    def proximity(
        self,
        landmarks: Float[Tensor, "b t 68 2"],
        tokens: int,
        regions: int = N_REGIONS,
        has_cls: bool | None = None,
    ) -> Float[Tensor, "b t n 9"]:
        """The mask added to the scores: eq. 5, or its softmax over regions for ``official_masked``.

        Raises:
            ValueError: when ``tokens`` or ``regions`` do not fit.
        """
        has_cls = self.has_cls if has_cls is None else has_cls
        expected = self.grid**2 + has_cls
        if tokens != expected:
            raise ValueError(
                f"the proximity mask expects {expected} visual tokens a frame (grid {self.grid}, "
                f"CLS {'kept' if has_cls else 'dropped'}), got {tokens}"
            )
        if regions != N_REGIONS:
            raise ValueError(f"the proximity mask needs {N_REGIONS} region tokens a frame, got {regions}")
        mask = -region_distances(landmarks, self.grid, has_cls, self.transposed_grid)
        return mask.softmax(dim=-1) if self.fusion == "official_masked" else mask

    def _attend(
        self,
        visual: Float[Tensor, "b t n d"],
        regions: Float[Tensor, "b t m d"],
        bias: Float[Tensor, "b t n m"] | None,
    ) -> tuple[Float[Tensor, "b t n d"], Float[Tensor, "b t h n m"]]:
        """The tokens plus what they gather from the regions, projected unless ``official_masked``, and the weights."""
        out = None if self.fusion == "official_masked" else self.out
        if not (self.training or torch.is_grad_enabled()):
            layers = Projections(self.query, self.key, self.value, out)
            if pays(layers, visual, regions.shape[2], self.heads):
                return attend_folded(layers, visual, regions, bias, self.heads, self.scale)
        q_bthnc = self._split(self.query(visual))
        k_bthmc = self._split(self.key(regions))
        v_bthmc = self._split(self.value(regions))
        scores = q_bthnc @ k_bthmc.transpose(-1, -2) * self.scale
        if bias is not None:
            scores = scores + bias.unsqueeze(2)
        attention = scores.softmax(dim=-1)
        context = (attention @ v_bthmc).transpose(2, 3).flatten(3)
        return visual + (context if out is None else out(context)), attention

    def _split(self, tokens: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t h n c"]:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(2, 3)
