"""The vision tower of the small default: frozen experts, a calibrated head, its outputs in word space.

``ExpertEncoder`` (numpy) runs the frozen networks; this module normalises their maps for the projector and turns
their numbers into tokens that a small language model can read. Legend: b batch, t frames, n patches, c map width,
e expert values, o head outputs, k expert tokens, d hidden size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from facellava.model.expert_spec import ExpertSpec


class ExpertOutput(NamedTuple):
    """maps (B, T, N, C) normalised, tokens (B, K, D), probabilities (B, O); the latter two None without a report."""

    maps: Tensor
    tokens: Tensor | None
    probabilities: Tensor | None


class ExpertHead(nn.Module):
    """Expert values and maps to calibrated probabilities: one hidden layer plus a linear path from the values.

    Args:
        n_values, map_width, n_patches: sizes of the encoder's outputs.
        spec: which outputs.
        squeeze, hidden: widths.
    """

    def __init__(
        self, n_values: int, map_width: int, n_patches: int, spec: ExpertSpec, squeeze: int = 12, hidden: int = 160
    ) -> None:
        super().__init__()
        self.squeeze = nn.Linear(map_width, squeeze)
        self.hidden = nn.Linear(n_values + n_patches * squeeze, hidden)
        self.out = nn.Linear(hidden, spec.n_outputs)
        self.skip = nn.Linear(n_values, spec.n_outputs)
        self.dropout = nn.Dropout(0.3)

    def forward(self, maps: Tensor, values: Tensor) -> Tensor:
        """Normalised maps (..., N, C) and values (..., E) to logits (..., O)."""
        squeezed = torch.tanh(self.squeeze(maps)).flatten(-2)
        hidden = nn.functional.gelu(self.hidden(self.dropout(torch.cat([values, squeezed], -1))))
        return self.out(self.dropout(hidden)) + self.skip(self.dropout(values))


def probabilities(logits: Tensor, spec: ExpertSpec) -> Tensor:
    """Softmax within single and number slots, sigmoid for binary ones: (..., O) to (..., O)."""
    parts = []
    for slot, where in zip(spec.slots, spec.offsets().values(), strict=True):
        part = logits[..., where]
        parts.append(part.sigmoid() if slot.kind == "binary" else part.softmax(-1))
    return torch.cat(parts, -1)


class WordSpaceTokens(nn.Module):
    """Head outputs to tokens (see ``expert_spec``); words are constants of the language model, slots are learned."""

    words: Tensor

    def __init__(self, spec: ExpertSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("words", torch.zeros(spec.n_rows, dim))
        self.slots = nn.Parameter(torch.zeros(spec.n_tokens, dim))
        self.summary = nn.Linear(spec.n_outputs, dim)

    def forward(self, p: Tensor) -> Tensor:
        """(B, O) probabilities to (B, K, D) tokens."""
        tokens, row = [], 0
        for slot, where in zip(self.spec.slots, self.spec.offsets().values(), strict=True):
            sizes = [len(slot.before), len(slot.words), len(slot.after)]
            before, words, after = self.words[row : row + slot.n_rows].split(sizes)
            row += slot.n_rows
            part = p[:, where]
            if slot.kind == "number":
                expected = (part * torch.arange(slot.size, device=p.device, dtype=p.dtype)).sum(-1)
                rounded = (expected + 0.5).floor().long().clamp(0, slot.size - 1)
                value = torch.stack([words[rounded // 10], words[rounded % 10]], 1)
            elif slot.kind == "binary":
                value = (part * words[0] + (1 - part) * words[1])[:, None]
            else:
                value = (part @ words)[:, None]
            tokens += [before.expand(len(p), -1, -1), value, after.expand(len(p), -1, -1)]
        tokens.append(self.summary(p)[:, None])
        return torch.cat(tokens, 1) + self.slots


class ExpertVisionTower(nn.Module):
    """Normalisation, an ensemble of heads (one a training fold, averaged) and word-space tokens.

    Args:
        spec: head outputs; n_values, map_width, n_patches: encoder sizes; dim: hidden size of the language model;
        folds: heads in the ensemble. A training sample uses only the head of the fold that never saw it
            (``fold`` in forward), so that the language model learns how far to trust the experts on new faces.
        report: False leaves out heads and words: the tower only normalises the maps.
    """

    map_mean: Tensor
    map_std: Tensor
    value_mean: Tensor
    value_std: Tensor

    def __init__(
        self,
        spec: ExpertSpec,
        n_values: int,
        map_width: int,
        n_patches: int,
        dim: int,
        folds: int = 4,
        report: bool = True,
    ) -> None:
        super().__init__()
        self.spec, self.report = spec, report
        for name, width in (("map", map_width), ("value", n_values)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))
        if report:
            self.heads = nn.ModuleList(ExpertHead(n_values, map_width, n_patches, spec) for _ in range(folds))
            self.words = WordSpaceTokens(spec, dim)

    @property
    def num_tokens(self) -> int:
        return self.spec.n_tokens if self.report else 0

    def normalise_maps(self, maps: Tensor) -> Tensor:
        """Standardise maps (..., C) with the training set's moments; outliers are clipped at four deviations."""
        return ((maps - self.map_mean) / self.map_std).clamp(-4, 4)

    def normalise(self, maps: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """``normalise_maps``, and the same for the values (..., E)."""
        return self.normalise_maps(maps), ((values - self.value_mean) / self.value_std).clamp(-4, 4)

    def forward(
        self,
        vision_features: Tensor,
        expert_values: Tensor,
        fold: Tensor | None = None,
        drop_words: Tensor | None = None,
    ) -> ExpertOutput:
        """Maps (B, T, N, C) and values (B, T, E) of a clip.

        Args:
            fold: (B,) picks one head a sample; None averages all.
            drop_words: bool (B,), in training: tokens without words, so that maps and landmarks must serve.
        """
        maps, values = self.normalise(vision_features, expert_values)
        if not self.report:
            return ExpertOutput(maps, None, None)
        p = torch.stack([probabilities(head(maps, values), self.spec) for head in self.heads])
        # Over time the mean: the strongest frame would bias towards presence in long clips.
        p = p.mean(2)
        p = p.mean(0) if fold is None else p[fold, torch.arange(p.shape[1], device=p.device)]
        tokens = self.words(p)
        if drop_words is not None:
            tokens = torch.where(drop_words[:, None, None], self.words.slots, tokens)
        return ExpertOutput(maps, tokens, p)
