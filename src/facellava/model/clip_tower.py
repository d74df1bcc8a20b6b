"""CLIP-type vision transformer, with attention across frames for videos: LanguageBind's image and video towers.

Shapes: b clips, t frames, n tokens a frame (patches, with CLS first when kept), c width, s pixels a side.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .config import ClipVisionConfig

__all__ = ["ClipTower", "ClipVisionTower"]


class _SelfAttention(nn.Module):
    """Multi-head attention over the second axis of (batch, length, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "z l c"]) -> Float[Tensor, "z l c"]:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """Optional attention across time at every position, then across space, then the MLP; norms come first."""

    def __init__(self, config: ClipVisionConfig, temporal: bool) -> None:
        super().__init__()
        width = config.width
        self.temporal = temporal
        if temporal:
            self.time_embedding = nn.Parameter(torch.zeros(1, config.frames, width))
            self.time_norm = nn.LayerNorm(width, eps=config.norm_eps)
            self.time_attn = _SelfAttention(width, config.heads)
        self.attn_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.attn = _SelfAttention(width, config.heads)
        self.mlp_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = nn.Sequential(nn.Linear(width, config.mlp), nn.GELU(), nn.Linear(config.mlp, width))

    def forward(self, x: Float[Tensor, "b t n c"]) -> Float[Tensor, "b t n c"]:
        if self.temporal:
            x = self._across_time(x)
        b, t = x.shape[:2]
        flat = x.flatten(0, 1)
        flat = flat + self.attn(self.attn_norm(flat))
        flat = flat + self.mlp(self.mlp_norm(flat))
        return flat.unflatten(0, (b, t))

    def _across_time(self, x: Float[Tensor, "b t n c"]) -> Float[Tensor, "b t n c"]:
        b, n = x.shape[0], x.shape[2]
        steps = x.transpose(1, 2).flatten(0, 1) + self.time_embedding
        steps = steps + self.time_attn(self.time_norm(steps))
        return steps.unflatten(0, (b, n)).transpose(1, 2)


class ClipTower(nn.Module):
    """One tower; layers after the selected hidden state are not built.

    Args:
        config: sizes.
        temporal: attend across frames (needs clips of exactly ``config.frames`` frames).
        keep_cls: return the CLS token in front of the patches.
    """

    def __init__(self, config: ClipVisionConfig, *, temporal: bool, keep_cls: bool) -> None:
        super().__init__()
        self.frames, self.temporal, self.keep_cls = config.frames, temporal, keep_cls
        self.cls = nn.Parameter(torch.zeros(config.width))
        self.patch = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.position = nn.Parameter(torch.zeros(config.grid**2 + 1, config.width))
        self.pre_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.layers = nn.ModuleList(_Layer(config, temporal) for _ in range(config.depth))

    def embed(self, pixel_values: Float[Tensor, "b t 3 s s"]) -> Float[Tensor, "b t n c"]:
        """Patches row by row behind the CLS token, with positions, normalised."""
        b, t = pixel_values.shape[:2]
        patches = self.patch(pixel_values.flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(patches), 1, -1), patches], dim=1)
        return self.pre_norm(tokens + self.position).unflatten(0, (b, t))

    def forward(self, pixel_values: Float[Tensor, "b t 3 s s"]) -> Float[Tensor, "b t n c"]:
        """Features of the selected layer.

        Raises:
            ValueError: when a temporal tower gets another number of frames than it has embeddings for.
        """
        if self.temporal and pixel_values.shape[1] != self.frames:
            raise ValueError(f"this tower attends across {self.frames} frames, got {pixel_values.shape[1]}")
        hidden = self.embed(pixel_values)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden if self.keep_cls else hidden[:, :, 1:]


class ClipVisionTower(nn.Module):
    """The towers of a configuration; one frame is an image, several are a video (see ``ClipVisionConfig.towers``)."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.config = config
        if config.towers != "video":
            self.image = ClipTower(config, temporal=False, keep_cls=config.image_cls)
        if config.towers != "image":
            self.video = ClipTower(config, temporal=config.temporal, keep_cls=config.video_cls)

    def forward(self, pixel_values: Float[Tensor, "b t 3 s s"]) -> Float[Tensor, "b t n c"]:
        """Features of the tower that fits the number of frames."""
        return getattr(self, self.config.tower_for(pixel_values.shape[1]))(pixel_values)
