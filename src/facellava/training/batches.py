"""Micro-batches: a dataset that never hides a failure, and a collator that keeps a failed row without its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from facellava.errors import DamagedMedia, FacellavaError
from facellava.model.config import FaceLlavaConfig
from facellava.model.prompt import IGNORED
from facellava.model.zero_inputs import zero_inputs
from facellava.training.features import FaceInputs, Inputs, is_finite
from facellava.training.order import Ref
from facellava.training.talks import Talk
from facellava.training.texts import Encoded, TextEncoder


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
        text = self.encode(talk, self.inputs.frames(talk), self.inputs.report(talk))
        if ref.filler:
            return Item(ref, talk, text, None, None)
        try:
            inputs = self.inputs(talk)
            if not is_finite(inputs):
                raise DamagedMedia(f"{talk.id}: its features are no finite numbers: delete its entry in the cache")
        except FacellavaError as error:
            return Item(ref, talk, text, None, Broken(talk.id, error.code, str(error)))
        return Item(ref, talk, text, inputs, None)


WIDTH_STEP = 32
"""Batches are as wide as a multiple of it: kernels are compiled, and memory is cut up, for each shape anew."""


class Collator:
    """Rows to a right-padded batch.

    Args:
        config: of the model. inputs: says whether features are cached.
        pad_id: of padded positions; they are masked.
    """

    def __init__(self, config: FaceLlavaConfig, inputs: FaceInputs, pad_id: int) -> None:
        self.config, self.inputs, self.pad_id = config, inputs, pad_id

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Model inputs, with ``tasks`` (names) and ``broken`` beside them."""
        longest = max(len(item.text.ids) for item in items)
        width = -(-longest // WIDTH_STEP) * WIDTH_STEP
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
        batch["tasks"] = [item.talk.task for item in items]
        batch["broken"] = [item.broken for item in items if item.broken is not None]
        return batch

    def _visual(self, items: Sequence[Item]) -> Inputs:
        frames = self.inputs.frames(items[0].talk)
        zeros = zero_inputs(self.config, frames, cached=self.inputs.cache is not None)
        rows = [zeros if item.inputs is None else item.inputs for item in items]
        return {name: torch.stack([row[name].float() for row in rows]) for name in zeros}
