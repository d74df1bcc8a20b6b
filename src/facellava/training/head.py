"""Trains the calibrated expert head, one copy a fold, before any language is involved (minutes on two cores)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from facellava.model.expert_spec import ExpertSpec
from facellava.model.expert_tower import ExpertHead, ExpertVisionTower
from facellava.training.samples import Samples, head_targets


def fit_normalisation(tower: ExpertVisionTower, samples: Samples, indices: list[int]) -> None:
    """Means and deviations of maps and values over the given rows."""
    maps, values = samples.maps[indices].flatten(0, 1), samples.values[indices]
    tower.map_mean.copy_(maps.mean(0))
    tower.map_std.copy_(maps.std(0).clamp_min(1e-3))
    tower.value_mean.copy_(values.mean(0))
    tower.value_std.copy_(values.std(0).clamp_min(1e-3))


def head_loss(logits: Tensor, targets: Tensor, weights: Tensor, spec: ExpertSpec, balance: Tensor) -> Tensor:
    """Masked cross-entropies summed over slots; ``balance`` (O,) weighs rare classes and positives."""
    every = torch.arange(spec.n_outputs)
    columns = torch.cat([every[:0], *(every[w] for w, kind in _places(spec) if kind == "binary")])
    known = weights[:, columns]
    # Balance is a square root (see balance_weights), so probabilities lean towards the rare class only half way.
    each = nn.functional.binary_cross_entropy_with_logits(
        logits[:, columns], targets[:, columns], pos_weight=balance[columns], reduction="none"
    )
    total = 0.5 * ((each * known).sum(0) / known.sum(0).clamp_min(1)).sum()
    for where, kind in _places(spec):
        if kind == "binary":
            continue
        z, t, seen = logits[:, where], targets[:, where], weights[:, where.start]
        count = seen.sum().clamp_min(1)
        total = total + (-(t * z.log_softmax(-1) * balance[where]).sum(-1) * seen).sum() / count
        if kind == "number":
            grid = torch.arange(z.shape[1], dtype=z.dtype)
            error = ((z.softmax(-1) * grid).sum(-1) - (t * grid).sum(-1)).abs()
            total = total + 0.05 * (error * seen).sum() / count
    return total


def _places(spec: ExpertSpec) -> list[tuple[slice, str]]:
    return [(where, slot.kind) for where, slot in zip(spec.offsets().values(), spec.slots, strict=True)]


def balance_weights(targets: Tensor, weights: Tensor, spec: ExpertSpec) -> Tensor:
    """Square roots of inverse class frequencies, at most 4: half way between the data's and equal class priors."""
    balance = torch.ones(spec.n_outputs)
    for slot, where in zip(spec.slots, spec.offsets().values(), strict=True):
        known = weights[:, where.start].bool()
        t = targets[known][:, where]
        if slot.kind == "binary" and len(t):
            positive = t.mean().clamp(1e-3, 1 - 1e-3)
            balance[where] = ((1 - positive) / positive).sqrt().clamp(0.5, 4.0)
        elif slot.kind == "single" and len(t):
            frequency = t.mean(0).clamp_min(1e-3)
            balance[where] = (1 / (len(slot.words) * frequency)).sqrt().clamp(0.3, 4.0)
    return balance


def fit_head(
    head: ExpertHead,
    maps: Tensor,
    values: Tensor,
    targets: Tensor,
    weights: Tensor,
    spec: ExpertSpec,
    *,
    epochs: int,
    seed: int,
    lr: float = 1.5e-3,
) -> None:
    """Train one head in place on normalised maps (n, N, C) and values (n, E)."""
    generator = torch.Generator().manual_seed(seed)
    balance = balance_weights(targets, weights, spec)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * (len(maps) // 128 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    head.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(maps), generator=generator).split(128):
            noisy = values[batch] + 0.05 * torch.randn(values[batch].shape, generator=generator)
            loss = head_loss(head(maps[batch], noisy), targets[batch], weights[batch], spec, balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    head.eval()


def fit_tower(tower: ExpertVisionTower, samples: Samples, *, epochs: int = 30, seed: int = 0) -> None:
    """Fit normalisation and all heads; head f never sees the subjects of fold f."""
    train = samples.indices("train")
    fit_normalisation(tower, samples, train)
    with torch.no_grad():
        maps, values = tower.normalise(samples.maps, samples.values)
    targets, weights = head_targets(samples, tower.spec)
    folds = len(tower.heads)
    for f, head in enumerate(tower.heads):
        seen = [i for i in train if samples.fold_of(i, folds) != f]
        assert isinstance(head, ExpertHead)
        fit_head(head, maps[seen], values[seen], targets[seen], weights[seen], tower.spec, epochs=epochs, seed=seed + f)


@torch.no_grad()
def head_report(tower: ExpertVisionTower, samples: Samples, indices: list[int]) -> dict[str, float]:
    """Balanced accuracy a slot (mean recall), MAE for numbers, on the given rows with the whole ensemble."""
    tower.eval()
    out = tower(samples.maps[indices][:, None], samples.values[indices][:, None]).probabilities
    targets, weights = head_targets(samples, tower.spec)
    targets, weights = targets[indices], weights[indices]
    report = {}
    for slot, where in zip(tower.spec.slots, tower.spec.offsets().values(), strict=True):
        known = weights[:, where.start].bool()
        p, t = out[known][:, where], targets[known][:, where]
        if not len(p):
            continue
        if slot.kind == "number":
            grid = torch.arange(slot.size, dtype=p.dtype)
            report[slot.name] = float(((p * grid).sum(-1) - (t * grid).sum(-1)).abs().mean())
            continue
        truth = (t[:, 0] > 0.5).long() if slot.kind == "binary" else t.argmax(-1)
        guess = (p[:, 0] > 0.5).long() if slot.kind == "binary" else p.argmax(-1)
        recalls = [float((guess[truth == c] == c).float().mean()) for c in truth.unique()]
        report[slot.name] = float(np.mean(recalls))
    return report
