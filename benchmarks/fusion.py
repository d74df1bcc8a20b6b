"""FRGCA at the width of a 7B model beside the blocks that the official release trains, on the same weights and tokens.

The peers are written from the description of the release: ``simple`` is torch's MultiheadAttention, a residual, a
LayerNorm and a projection, times 0.1; the masked one has its own three projections and adds a softmax over negative
distances to the scores. Ours computes the same formulas with its query and output projections folded; the largest
difference of the outputs stands beside the ratio.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import Row, medians, row
from torch import Tensor, nn

from facellava.model.frgca import FaceRegionGuidedCrossAttention
from facellava.model.regions import REGIONS

DIM, HEADS, GRID, FRAMES = 4096, 8, 16, 8
TOKENS = GRID**2 + 1
"""A frame of the release's video tower: the patches and a CLS token."""


class SimplePeer(nn.Module):
    """The block that the release's training scripts use; frames are the batch."""

    def __init__(self, ours: FaceRegionGuidedCrossAttention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        joint = (ours.query, ours.key, ours.value)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat([layer.weight for layer in joint]))
            self.attention.in_proj_bias.copy_(torch.cat([layer.bias for layer in joint]))
        self.attention.out_proj.load_state_dict(ours.out.state_dict())
        self.norm, self.branch = ours.norm, ours.branch

    def forward(self, visual: Tensor, regions: Tensor, landmarks: Tensor) -> Tensor:
        """Visual (t, n, d), regions (t, 9, d); places are not looked at."""
        attended, _ = self.attention(visual, regions, regions, need_weights=False)
        return visual + 0.1 * self.branch(self.norm(visual + attended))


class MaskedPeer(nn.Module):
    """The release's masked class, with its axes of the grid in the right order."""

    def __init__(self, ours: FaceRegionGuidedCrossAttention) -> None:
        super().__init__()
        self.query, self.key, self.value = ours.query, ours.key, ours.value
        self.norm, self.branch = ours.norm, ours.branch

    def forward(self, visual: Tensor, regions: Tensor, landmarks: Tensor) -> Tensor:
        """Visual (t, n, d), regions (t, 9, d), landmarks (t, 68, 2)."""
        q, k, v = (
            layer(x).view(len(x), -1, HEADS, DIM // HEADS).transpose(1, 2)
            for layer, x in ((self.query, visual), (self.key, regions), (self.value, regions))
        )
        near = (-self.distances(landmarks)).softmax(-1)
        scores = q @ k.transpose(-1, -2) * (DIM // HEADS) ** -0.5 + near[:, None]
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(visual.shape)
        return visual + 0.1 * self.branch(self.norm(visual + attended))

    def distances(self, landmarks: Tensor) -> Tensor:
        """(t, n, 9) from patch centres to centroids, zero for the CLS token."""
        steps = (torch.arange(GRID) + 0.5) / GRID
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        patches = torch.stack([columns, rows], -1).view(1, -1, 2).expand(len(landmarks), -1, -1)
        centroids = torch.stack([landmarks[:, r.start : r.stop].mean(1) for r in REGIONS], 1)
        far = torch.cdist(patches, centroids, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.cat([torch.zeros(len(far), 1, far.shape[2]), far], 1)


@torch.no_grad()
def compare(kind: str, peer_of: Callable[[FaceRegionGuidedCrossAttention], nn.Module], goal: float, rounds: int) -> Row:
    """One formula both ways."""
    torch.manual_seed(0)
    ours = FaceRegionGuidedCrossAttention(DIM, HEADS, kind, grid=GRID, has_cls=True).eval()  # pyright: ignore
    peer = peer_of(ours).eval()
    visual, regions = torch.randn(1, FRAMES, TOKENS, DIM), torch.randn(1, FRAMES, len(REGIONS), DIM)
    landmarks = torch.rand(1, FRAMES, 68, 2)

    def run_ours() -> Tensor:
        return ours(visual, regions, landmarks).visual[0]

    def run_peer() -> Tensor:
        return peer(visual[0], regions[0], landmarks[0])

    with torch.no_grad():
        difference = float((run_ours() - run_peer()).abs().max())
        times = medians(run_ours, run_peer, rounds)
    name = f"FRGCA {kind}, {FRAMES} frames of {TOKENS} tokens, width {DIM}"
    return row(name, "the release's block", times, goal, f"differs by at most {difference:.0e}", 1)


@torch.no_grad()
def unfolded(rounds: int) -> Row:
    """The paper's formula, which the release lacks, beside its own products in the order in which they are written."""
    torch.manual_seed(0)
    ours = FaceRegionGuidedCrossAttention(DIM, HEADS, "paper", grid=GRID, has_cls=True).eval()
    visual, regions = torch.randn(1, FRAMES, TOKENS, DIM), torch.randn(1, FRAMES, len(REGIONS), DIM)
    landmarks = torch.rand(1, FRAMES, 68, 2)

    def run_ours() -> Tensor:
        return ours.eval()(visual, regions, landmarks).visual

    def run_peer() -> Tensor:
        return ours.train()(visual, regions, landmarks).visual

    difference = float((run_ours() - run_peer()).abs().max())
    name = f"FRGCA paper, {FRAMES} frames of {TOKENS} tokens, width {DIM}"
    times = medians(run_ours, run_peer, rounds)
    return row(name, "ours as in training", times, 2.4, f"differs by at most {difference:.0e}", 1)


def rows(rounds: int) -> list[Row]:
    """The release's two formulas beside the release's blocks, and the paper's beside itself."""
    torch.set_num_threads(1)
    return [
        compare("official_simple", SimplePeer, 2.4, rounds),
        compare("official_masked", MaskedPeer, 1.7, rounds),
        unfolded(rounds),
    ]
