"""Micro-batches: a dataset that never hides a failure, and a collator that keeps a failed row without its labels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from facellava.errors import DamagedMedia, FacellavaError
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig
from facellava.model.prompt import IGNORED
from facellava.training.features import FaceInputs, Inputs, is_finite, zero_inputs
from facellava.training.order import Ref
from facellava.training.talks import Talk
from facellava.training.texts import Encoded, TextEncoder

_HASHES = 2**32


@dataclass(frozen=True)
class Broken:
    """A conversation that could not be loaded: its id, the error's code and message."""

    id: str
    code: str
    message: str


class Item(NamedTuple):
    """A row of a batch; without inputs it carries no label."""

    ref: Ref
    talk: Talk
    text: Encoded
    inputs: Inputs | None
    broken: Broken | None


class TalkDataset(Dataset[Item]):
    """Conversations by reference.

    Args:
        talks: of the corpus. encode, inputs: texts and faces to tensors.
    """

    def __init__(self, talks: Sequence[Talk], encode: TextEncoder, inputs: FaceInputs) -> None:
        self.talks, self.encode, self.inputs = talks, encode, inputs

    def __len__(self) -> int:
        return len(self.talks)

    def __getitem__(self, ref: Ref) -> Item:
        """A row; a ``FacellavaError`` while loading becomes its ``broken``."""
        talk = self.talks[ref.index]
        text = self.encode(talk, self.inputs.frames(talk))
        if ref.filler:
            return Item(ref, talk, text, None, None)
        try:
            inputs = self.inputs(talk)
            if not is_finite(inputs):
                raise DamagedMedia(f"{talk.id}: its features are no finite numbers: delete its entry in the cache")
        except FacellavaError as error:
            return Item(ref, talk, text, None, Broken(talk.id, error.code, str(error)))
        return Item(ref, talk, text, inputs, None)


class Collator:
    """Rows to a right-padded batch.

    Args:
        config: of the model. inputs: says whether features are cached.
        pad_id: of padded positions; they are masked.
        blank: share of rows whose expert report is blank. seed: of that choice.
    """

    def __init__(
        self, config: FaceLlavaConfig, inputs: FaceInputs, pad_id: int, *, blank: float = 0.0, seed: int = 0
    ) -> None:
        self.config, self.inputs, self.pad_id = config, inputs, pad_id
        self.blank, self.seed = blank, seed

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Model inputs, with ``tasks`` (names) and ``broken`` beside them."""
        width = max(len(item.text.ids) for item in items)
        batch: dict[str, Any] = {
            "input_ids": torch.full((len(items), width), self.pad_id),
            "attention_mask": torch.zeros(len(items), width, dtype=torch.long),
            "labels": torch.full((len(items), width), IGNORED),
            "label_weights": torch.zeros(len(items), width),
        }
        for i, item in enumerate(items):
            length = len(item.text.ids)
            batch["input_ids"][i, :length] = torch.tensor(item.text.ids)
            batch["attention_mask"][i, :length] = 1
            if item.inputs is not None:
                batch["labels"][i, :length] = torch.tensor(item.text.labels)
                batch["label_weights"][i, :length] = torch.tensor(item.text.weights)
        batch |= self._visual(items)
        if (options := self._tower_options(items)) is not None:
            batch["tower_options"] = options
        batch["tasks"] = [item.talk.task for item in items]
        batch["broken"] = [item.broken for item in items if item.broken is not None]
        return batch

    def _visual(self, items: Sequence[Item]) -> Inputs:
        frames = self.inputs.frames(items[0].talk)
        zeros = zero_inputs(self.config, frames, cached=self.inputs.cache is not None)
        rows = [zeros if item.inputs is None else item.inputs for item in items]
        return {name: torch.stack([row[name].float() for row in rows]) for name in zeros}

    def _tower_options(self, items: Sequence[Item]) -> dict[str, torch.Tensor] | None:
        vision = self.config.vision
        if not isinstance(vision, ExpertVisionConfig) or not vision.report:
            return None
        fold = torch.tensor([fold_of(item.talk, vision.folds) for item in items])
        blank = [self._draw(item) < self.blank for item in items]
        return {"fold": fold, "drop_words": torch.tensor(blank)}

    def _draw(self, item: Item) -> float:
        """In [0, 1), fixed by seed, pass and conversation: the same after a resume and in any batch."""
        return zlib.crc32(f"{self.seed}-{item.ref.epoch}-{item.talk.id}".encode()) / _HASHES


def fold_of(talk: Talk, folds: int) -> int:
    """The fold of the expert heads that holds this person out; without a subject the medium stands for it."""
    return zlib.crc32((talk.subject or talk.digest or talk.id).encode()) % folds
