"""What a trainer reads: an exported folder of frozen features, known labels and conversations.

``features.safetensors``: maps float16 (n, 49, C), values float32 (n, E), landmarks float32 (n, 68, 2).
``samples.jsonl``: one line a row: id, split, subject, labels (slot name -> value; absent = unknown) and
``conversations``, each a list of [question, answer] turns.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from facellava.errors import FileMissing
from facellava.model.expert_spec import ExpertSpec


@dataclass(frozen=True)
class Samples:
    """All rows in memory (about 30 kB a row)."""

    maps: Tensor
    values: Tensor
    landmarks: Tensor
    rows: list[dict]

    def __len__(self) -> int:
        return len(self.rows)

    def fold_of(self, index: int, folds: int) -> int:
        """The fold that holds this row's subject out; the same for every row of a subject."""
        return zlib.crc32(self.rows[index]["subject"].encode()) % folds

    def indices(self, split: str) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row["split"] == split]


def load_samples(folder: Path) -> Samples:
    """Read an exported folder.

    Raises:
        FileMissing: the folder is not one.
    """
    path = folder / "features.safetensors"
    if not path.is_file():
        raise FileMissing(f"{path} is missing: build it with python -m facellava.instruct.build_default")
    arrays = load_file(path)
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(arrays["maps"]), "samples.jsonl and features.safetensors disagree in length"
    return Samples(arrays["maps"].float(), arrays["values"], arrays["landmarks"], rows)


def head_targets(samples: Samples, spec: ExpertSpec) -> tuple[Tensor, Tensor]:
    """Targets (n, O) and weights (n, O) for the expert head; weight 0 where a label is unknown.

    Number slots get a normal distribution of deviation 2.5 around the true value (label distribution learning).
    """
    targets = np.zeros((len(samples), spec.n_outputs), np.float32)
    weights = np.zeros_like(targets)
    for (name, where), slot in zip(spec.offsets().items(), spec.slots, strict=True):
        for i, row in enumerate(samples.rows):
            value = row["labels"].get(name)
            if value is None:
                continue
            weights[i, where] = 1
            if slot.kind == "number":
                density = np.exp(-((np.arange(slot.size) - value) ** 2) / (2 * 2.5**2))
                targets[i, where] = density / density.sum()
            elif slot.kind == "binary":
                targets[i, where] = float(value)
            else:
                targets[i, where.start + value] = 1
    return torch.from_numpy(targets), torch.from_numpy(weights)
