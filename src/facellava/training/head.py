"""Fits the expert head, one network a fold, before any language is involved (minutes on two cores)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facellava import tasks
from facellava.model.expert_report import OUTLIER, ExpertHead, HeadSpec, read_years, region_weights
from facellava.model.regions import N_REGIONS
from facellava.runtime.report import MULTI
from facellava.training.samples import Samples, head_targets

FOLDS = 8
Look = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""Landmarks (b, 68, 2) and the number of patches -> weights (b, r, n)."""
THRESHOLDS = np.arange(0.05, 0.96, 0.025)
TOGETHER = 256
"""Rows that are judged in one go."""
FEWEST = 5
"""Faces with and without a label that a threshold is chosen from."""
NEIGHBOURS = 5
"""Thresholds that a curve is averaged over, because the best of a jagged curve is luck."""
PARTS, PEERS = 4, 3
"""People are cut into so many parts, and each part is judged by so many networks that never saw it: the mean of an
ensemble is less extreme than one network, so that one network's thresholds would be too high for it."""


class HeadNetwork(nn.Module):
    """Expert values, maps and region summaries to logits: one hidden layer plus a linear path from the values.

    Args:
        n_values, map_width, n_patches: sizes of the encoder's outputs. n_outputs: logits.
        patch, region, hidden: widths.
    """

    def __init__(
        self,
        n_values: int,
        map_width: int,
        n_patches: int,
        n_outputs: int,
        patch: int = 12,
        region: int = 128,
        hidden: int = 320,
    ) -> None:
        super().__init__()
        self.patches = nn.Linear(map_width, patch)
        self.regions = nn.Linear(map_width, region)
        self.hidden = nn.Linear(n_values + n_patches * patch + N_REGIONS * region, hidden)
        self.out = nn.Linear(hidden, n_outputs)
        self.skip = nn.Linear(n_values, n_outputs)
        self.dropout = nn.Dropout(0.3)

    def forward(self, maps: Tensor, values: Tensor, weights: Tensor) -> Tensor:
        """Standardised maps (B, N, C), values (B, E) and the regions' weights (B, R, N) to logits (B, O)."""
        patches = torch.tanh(self.patches(maps)).flatten(1)
        regions = torch.tanh(self.regions(weights @ maps)).flatten(1)
        hidden = self.hidden(self.dropout(torch.cat([values, patches, regions], -1)))
        hidden = nn.functional.gelu(hidden, approximate="tanh")
        return self.out(self.dropout(hidden)) + self.skip(self.dropout(values))


def moments(samples: Samples, indices: Sequence[int]) -> dict[str, Tensor]:
    """Means and deviations of maps and values over the given rows."""
    found = {}
    for name, rows in (("map", samples.maps[indices].flatten(0, 1)), ("value", samples.values[indices])):
        found[f"{name}_mean"] = rows.float().mean(0)
        found[f"{name}_std"] = rows.float().std(0).clamp_min(1e-3)
    return found


def head_loss(logits: Tensor, targets: Tensor, weights: Tensor, spec: HeadSpec, balance: Tensor) -> Tensor:
    """Masked cross-entropies summed over slots; ``balance`` (O,) weighs rare classes and positives."""
    every = torch.arange(spec.n_outputs)
    columns = torch.cat([every[:0], *(every[w] for w, kind in _places(spec) if kind == "binary")])
    known = weights[:, columns]
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


def _places(spec: HeadSpec) -> list[tuple[slice, str]]:
    return [(where, slot.kind) for where, slot in zip(spec.offsets().values(), spec.slots, strict=True)]


def balance_weights(targets: Tensor, weights: Tensor, spec: HeadSpec) -> Tensor:
    """Rare classes weigh more: a power of the inverse class frequency, .5 for yes and no, .75 for single labels."""
    balance = torch.ones(spec.n_outputs)
    for slot, where in zip(spec.slots, spec.offsets().values(), strict=True):
        known = weights[:, where.start].bool()
        t = targets[known][:, where]
        if slot.kind == "binary" and len(t):
            positive = t.mean().clamp(1e-3, 1 - 1e-3)
            balance[where] = ((1 - positive) / positive).sqrt().clamp(0.5, 4.0)
        elif slot.kind == "single" and len(t):
            frequency = t.mean(0).clamp_min(1e-3)
            balance[where] = (1 / (slot.size * frequency)).pow(0.75).clamp(0.1, 12.0)
    return balance


def fit_network(
    network: HeadNetwork,
    samples: Samples,
    rows: Sequence[int],
    scale: dict[str, Tensor],
    spec: HeadSpec,
    aims: tuple[Tensor, Tensor],
    *,
    epochs: int,
    seed: int,
    lr: float = 1.5e-3,
    look: Look = region_weights,
) -> None:
    """Train one network in place on the given rows.

    Args:
        aims: ``head_targets`` of all samples. look: says where, for ablations.
    """
    generator = torch.Generator().manual_seed(seed)
    targets, weights = aims
    chosen = torch.tensor(rows)
    balance = balance_weights(targets[chosen], weights[chosen], spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * (len(rows) // 128 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    network.train()
    for _ in range(epochs):
        for batch in chosen[torch.randperm(len(rows), generator=generator)].split(128):
            maps, values = standardised(samples, batch, scale)
            values = values + 0.05 * torch.randn(values.shape, generator=generator)
            where = torch.from_numpy(look(samples.landmarks[batch].numpy(), maps.shape[1]))
            loss = head_loss(network(maps, values, where), targets[batch], weights[batch], spec, balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def standardised(samples: Samples, batch: Tensor, scale: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Maps and values of rows, in the moments of ``scale``."""
    maps = (samples.maps[batch].float() - scale["map_mean"]) / scale["map_std"]
    values = (samples.values[batch] - scale["value_mean"]) / scale["value_std"]
    return maps.clamp(-OUTLIER, OUTLIER), values.clamp(-OUTLIER, OUTLIER)


def fit_head(samples: Samples, spec: HeadSpec, *, folds: int = FOLDS, epochs: int = 14, seed: int = 0) -> ExpertHead:
    """Fit an ensemble on the training rows; network f never sees the subjects of fold f.

    Thresholds are chosen on training faces, each judged by other networks (``PARTS``, ``PEERS``) that never saw its
    person and do not ship.
    """
    head = fit_ensemble(samples, spec, [(seed + f, f) for f in range(folds)], folds, epochs=epochs)
    p = unseen(samples, spec, epochs=epochs, seed=seed + folds)
    return head.with_thresholds(choose_thresholds(p, spec, samples, labelled(samples)))


def labelled(samples: Samples) -> list[int]:
    """Training rows of which something is known."""
    return [i for i in samples.indices("train") if samples.rows[i]["labels"]]


def unseen(samples: Samples, spec: HeadSpec, *, epochs: int, seed: int) -> NDArray[np.float32]:
    """Probabilities (n, O) of the training rows, each the mean of ``PEERS`` networks that never saw its person.

    With so few people that one part holds them all, they were seen (:func:`fit_ensemble`).
    """
    train = labelled(samples)
    parts = [samples.fold_of(i, PARTS) for i in train]
    networks = [(seed + part * PEERS + k, part) for part in sorted(set(parts)) for k in range(PEERS)]
    peers = fit_ensemble(samples, spec, networks, PARTS, epochs=epochs)
    p = np.zeros((len(train), spec.n_outputs), np.float32)
    for f, (_, part) in enumerate(networks):
        places = [n for n, own in enumerate(parts) if own == part]
        p[places] += _judged(peers, samples, [train[n] for n in places], f) / PEERS
    return p


def fit_ensemble(
    samples: Samples, spec: HeadSpec, networks: Sequence[tuple[int, int]], folds: int, *, epochs: int
) -> ExpertHead:
    """A head of one network for each (seed, fold that it never sees) of ``folds`` folds of people."""
    train = labelled(samples)
    scale = moments(samples, train)
    arrays, aims = dict(scale), head_targets(samples, spec)
    for f, (seed, left_out) in enumerate(networks):
        torch.manual_seed(seed)
        network = HeadNetwork(samples.values.shape[1], samples.maps.shape[2], samples.maps.shape[1], spec.n_outputs)
        # with so few people that one fold holds all of them out, its network sees everybody
        seen = [i for i in train if folds == 1 or samples.fold_of(i, folds) != left_out] or train
        fit_network(network, samples, seen, scale, spec, aims, epochs=epochs, seed=seed)
        arrays |= {f"heads.{f}.{name}": value.detach() for name, value in network.state_dict().items()}
    return ExpertHead(spec, {name: value.numpy().astype(np.float32) for name, value in arrays.items()})


def predict(head: ExpertHead, samples: Samples, rows: Sequence[int], *, unseen: bool = False) -> NDArray[np.float32]:
    """Probabilities (n, O) of rows; ``unseen``: each by the network that never saw its person, else by all."""
    found = np.empty((len(rows), head.spec.n_outputs), np.float32)
    folds = [samples.fold_of(i, head.folds) if unseen else None for i in rows]
    for fold in dict.fromkeys(folds):
        places = [n for n, own in enumerate(folds) if own == fold]
        found[places] = _judged(head, samples, [rows[n] for n in places], fold)
    return found


def _judged(head: ExpertHead, samples: Samples, rows: Sequence[int], fold: int | None) -> NDArray[np.float32]:
    """Probabilities (n, O) of rows by one network, or by all where ``fold`` is None."""
    found = []
    for some in torch.tensor(rows).split(TOGETHER):
        inputs = (part[some].float().numpy() for part in (samples.maps, samples.values, samples.landmarks))
        found.append(head.frames(*inputs, fold=fold))
    return np.concatenate(found)


def choose_thresholds(
    p: NDArray[np.float32], spec: HeadSpec, samples: Samples, rows: Sequence[int]
) -> dict[str, float]:
    """Label -> the probability with the best F1 (action units, as their benchmarks count) or balanced accuracy.

    ``p`` (n, O) is what the rows got. A mean over sources is maximised, because base rates differ between them and F1
    follows the base rate; a source weighs as the root of its rarer answer's count: how well its curve is known.
    """
    places = spec.offsets()
    chosen = {}
    for task in MULTI:
        f1 = "f1" in tasks.get(task).metric
        for name in spec.labels(task):
            by_source: dict[str, list[tuple[bool, float]]] = {}
            for i, row in zip(rows, p[:, places[name].start], strict=True):
                labels = samples.rows[i]["labels"]
                if name in labels:
                    by_source.setdefault(samples.rows[i]["set"], []).append((bool(labels[name]), float(row)))
            curves = [curve for pairs in by_source.values() if (curve := threshold_curve(pairs, f1=f1)) is not None]
            if curves:
                chosen[name] = best_threshold(curves)
    return chosen


def best_threshold(curves: Sequence[tuple[NDArray[np.float64], int]]) -> float:
    """The best of the sources together; each curve is what :func:`threshold_curve` gives."""
    mean = np.average([values for values, _ in curves], 0, weights=[count**0.5 for _, count in curves])
    smooth = np.convolve(np.pad(mean, NEIGHBOURS // 2, mode="edge"), np.full(NEIGHBOURS, 1 / NEIGHBOURS), "valid")
    return round(float(THRESHOLDS[smooth.argmax()]), 3)


def threshold_curve(pairs: Sequence[tuple[bool, float]], *, f1: bool) -> tuple[NDArray[np.float64], int] | None:
    """F1 or balanced accuracy at each of ``THRESHOLDS`` of (present, probability), and the rarer answer's count.

    None where faces are too few.
    """
    truth, p = np.array([t for t, _ in pairs]), np.array([q for _, q in pairs])
    rarer = int(min(truth.sum(), (~truth).sum()))
    if rarer < FEWEST:
        return None
    above = p[None] >= THRESHOLDS[:, None]
    if f1:
        hit, wrong = above[:, truth].sum(1), (above != truth).sum(1)
        return 2 * hit / (2 * hit + wrong), rarer
    return (above[:, truth].mean(1) + 1 - above[:, ~truth].mean(1)) / 2, rarer


def head_report(head: ExpertHead, samples: Samples, rows: Sequence[int]) -> dict[str, float]:
    """Mean recall a slot at the head's decisions, MAE of years, on the given rows with the whole ensemble."""
    p = predict(head, samples, rows)
    report = {}
    for slot, where in zip(head.spec.slots, head.spec.offsets().values(), strict=True):
        known = [k for k, i in enumerate(rows) if slot.name in samples.rows[i]["labels"]]
        if not known:
            continue
        truth = np.array([samples.rows[rows[k]]["labels"][slot.name] for k in known])
        part = p[known, where]
        if slot.kind == "number":
            years = np.array([read_years(q).years for q in part])
            report[slot.name] = float(np.abs(years - truth).mean())
            continue
        at_least = head.spec.thresholds.get(slot.name, 0.5)
        guess = part.argmax(-1) if slot.kind == "single" else part[:, 0] >= at_least
        report[slot.name] = float(np.mean([(guess[truth == c] == c).mean() for c in np.unique(truth)]))
    return report
