"""A folder of frozen features, known labels and conversations, as ``facellava.training.build_default`` writes it.

``features.safetensors``: maps float16 (n, 49, C), values float32 (n, E), landmarks float32 (n, 68, 2).
``samples.jsonl``: one line a row: id, split, subject, labels (slot name -> value; absent = unknown), report (what opens
a conversation) and ``conversations``, each a list of [question, answer] turns. A clip has a row a frame, one after the
other; the first one states how many ``frames`` and holds the conversations.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from facellava import tasks
from facellava.errors import FileMissing
from facellava.files import reading
from facellava.model.expert_report import HeadSpec
from facellava.runtime.build import CROP_MARGIN
from facellava.runtime.report import SINGLE
from facellava.training.talks import MIXED, Talk, digest_of
from facellava.types import FaceClip


@dataclass(frozen=True)
class Samples:
    """All rows in memory (about 100 kB a row)."""

    maps: Tensor
    values: Tensor
    landmarks: Tensor
    rows: list[dict]

    def __len__(self) -> int:
        return len(self.rows)

    def fold_of(self, index: int, folds: int) -> int:
        """The fold that holds this row's subject out."""
        return fold_of(self.rows[index]["subject"], folds)

    def indices(self, split: str) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row["split"] == split]


def fold_of(subject: str, folds: int) -> int:
    """The fold of the expert heads that holds a person out; the same for every picture of a person."""
    return zlib.crc32(subject.encode()) % folds


def named_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """A row's labels as ``Talk.labels``: names in place of numbers of classes; ``experts.slot_labels`` undoes it."""
    return {key: tasks.get(key).names[value] if key in SINGLE else value for key, value in labels.items()}


def load_samples(folder: Path) -> Samples:
    """Read an exported folder.

    Raises:
        FileMissing: the folder is not one.
    """
    return load_rows(folder, folder / "samples.jsonl")


def load_rows(folder: Path, rows: Path) -> Samples:
    """A folder's features with the rows of another file of as many lines.

    Raises:
        FileMissing: the folder holds no features. DamagedFile: a file of it cannot be read.
    """
    path = folder / "features.safetensors"
    if not path.is_file():
        raise FileMissing(f"{path} is missing: build it with python -m facellava.training.build_default")
    with reading(path, "build the folder again"):
        arrays = load_file(path)
    with reading(rows, "build the folder again"):
        lines = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(arrays["maps"]), f"{rows.name} and features.safetensors disagree in length"
    return Samples(arrays["maps"], arrays["values"], arrays["landmarks"], lines)


class SamplesFolder:
    """See ``TalkFolder``. Every variant of a row's conversation is a conversation of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._samples = load_samples(path)
        self.digest = digest_of(path, [path / "features.safetensors", path / "samples.jsonl"])
        self.talks, self.held_out = self._talks("train"), self._talks("test")

    def _talks(self, split: str) -> list[Talk]:
        found = []
        for i in self._samples.indices(split):
            row = self._samples.rows[i]
            for variant, turns in enumerate(row["conversations"]):
                found.append(self._talk(i, row, f"{row['id']}#{variant}", turns))
        return found

    def _talk(self, index: int, row: dict, name: str, turns: list[list[str]]) -> Talk:
        return Talk(
            id=name,
            source=row["set"],
            split=row["split"],
            subject=row["subject"],
            task=MIXED,
            turns=tuple((q, a) for q, a in turns),
            labels=named_labels(row["labels"]),
            frames=row.get("frames", 1),
            digest="",
            margin=CROP_MARGIN,
            group=0,
            place=index,
            origins=frozenset({row["set"]}),
            report=row.get("report"),
        )

    def address(self, talk: Talk) -> str:
        """See ``TalkFolder``."""
        return f"{self.digest}-{talk.place}"

    def stored(self, talk: Talk) -> dict[str, Tensor]:
        """See ``TalkFolder``."""
        where = slice(talk.place, talk.place + talk.frames)
        samples = self._samples
        return {
            "vision_features": samples.maps[where].float(),
            "expert_values": samples.values[where],
            "landmarks": samples.landmarks[where],
        }

    def clip(self, talk: Talk, *, blendshapes: bool = True) -> FaceClip:
        """See ``TalkFolder``: there are no pixels here."""
        raise FileMissing(f"{self.path} holds features and no pixels: a model that looks at pixels needs a dataset")


def head_targets(samples: Samples, spec: HeadSpec) -> tuple[Tensor, Tensor]:
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
