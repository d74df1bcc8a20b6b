"""Face clips and chat messages to model inputs: the same code for training and for answering.

Shapes: b clips, t frames, s pixels a side, n map patches, c map width, e expert values, l text positions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, BatchFeature, PreTrainedTokenizerBase

from facellava.errors import FileMissing, UsageError
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig
from facellava.model.frames import frame_indices
from facellava.model.parsing import draw_parsing
from facellava.model.preprocess import pixel_values
from facellava.model.prompt import CHATML, IGNORED, PromptStyle, Rendered, render
from facellava.types import FaceClip

__all__ = ["FaceEncoder", "FaceLlavaProcessor", "Message", "Seen"]

CONFIG_FILE = "processor_config.json"
Message = Mapping[str, Any]
"""``{"role": "user" | "assistant", "content": text}``; content may also be ``[{"type": "text", "text": ...}, ...]``."""


@runtime_checkable
class FaceEncoder(Protocol):
    """What computes an expert tower's inputs, ``experts.ExpertEncoder`` for example."""

    def encode(
        self, frames: NDArray[np.uint8], landmarks: NDArray[np.float32], blendshapes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Crops (t, 256, 256, 3), landmarks (t, 68, 2), blendshapes (t, 52) -> maps (t, n, c), values (t, e)."""
        ...


class Seen(NamedTuple):
    """A clip's model inputs by name, each with a leading frame axis, and the number of sampled frames."""

    inputs: dict[str, Tensor]
    frames: int


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Plain text of a message; picture parts are dropped, since every conversation opens with the face."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


def _conversations(messages: Sequence[Message] | Sequence[Sequence[Message]]) -> list[Sequence[Message]]:
    """One conversation or several -> several."""
    single = [message for message in messages if isinstance(message, Mapping)]
    if single:
        return [single]
    return [conversation for conversation in messages if not isinstance(conversation, Mapping)]


class FaceLlavaProcessor:
    """Turns face clips and conversations into ``FaceLlavaForConditionalGeneration`` inputs.

    Args:
        tokenizer: of the language model.
        config: of the model.
        style: strings around turns.
        encoder: computes expert features; needed when ``config.vision.kind`` is ``experts``, never saved.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: FaceLlavaConfig,
        style: PromptStyle = CHATML,
        encoder: FaceEncoder | None = None,
    ) -> None:
        self.tokenizer, self.config, self.style, self.encoder = tokenizer, config, style, encoder

    def __call__(
        self,
        clips: FaceClip | Sequence[FaceClip],
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        *,
        training: bool = False,
        padding_side: Literal["left", "right"] | None = None,
    ) -> BatchFeature:
        """A padded batch.

        Args:
            clips: one clip or several; all are images or all are videos, so that one time axis serves the batch.
            messages: a conversation, or one per clip: user and assistant by turns, user first.
            training: conversations end with an answer, and ``labels`` are -100 outside answers.
            padding_side: ``right`` by default in training, ``left`` otherwise, because generation appends.

        Returns:
            ``input_ids``, ``attention_mask`` (b, l), the visual inputs that the configuration needs, in training
            ``labels`` (b, l).

        Raises:
            UsageError: for malformed conversations, mixed frame counts, a crop margin other than the model's, or a
                missing encoder.
        """
        clips = [clips] if isinstance(clips, FaceClip) else list(clips)
        conversations = _conversations(messages)
        if not clips or len(clips) != len(conversations):
            raise UsageError(f"{len(clips)} clips for {len(conversations)} conversations: give one for each")
        seen = [self.look(clip) for clip in clips]
        counts = sorted({item.frames for item in seen})
        if len(counts) > 1:
            raise UsageError(f"clips of {' and '.join(map(str, counts))} frames in one batch: batch equal lengths")
        rendered = [self.render(c, counts[0], training) for c in conversations]
        batch = self.pad(rendered, padding_side or ("right" if training else "left"), training)
        for name in seen[0].inputs:
            batch[name] = torch.stack([item.inputs[name] for item in seen])
        return BatchFeature(batch)

    def decode(self, ids: Tensor | list[int]) -> str:
        """Text of generated ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def batch_decode(self, ids: Tensor | list[list[int]]) -> list[str]:
        """Texts of a batch of generated ids, without special tokens."""
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def look(self, clip: FaceClip) -> Seen:
        """Sample a clip's frames and compute what the model reads of them.

        Raises:
            UsageError: a crop margin other than the model's, or a missing encoder.
        """
        vision = self.config.vision
        if abs(clip.margin - self.config.crop_margin) > 1e-6:
            raise UsageError(
                f"the face was cropped with margin {clip.margin:g}, the model expects {self.config.crop_margin:g}"
            )
        available = len(clip.frames)
        chosen = frame_indices(available, vision.sampled_frames(available))
        inputs = self._tower_inputs(clip.frames[chosen], clip, chosen)
        if self.config.fusion.uses_landmarks:
            inputs["landmarks"] = torch.from_numpy(clip.landmarks[chosen])
        if self.config.fusion.uses_parsing:
            drawn = self._tower_inputs(draw_parsing(clip.landmarks[chosen]), clip, chosen)
            inputs["parsing_values"] = next(iter(drawn.values()))
        return Seen(inputs, len(chosen))

    def _tower_inputs(self, frames: NDArray[np.uint8], clip: FaceClip, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
        """What the tower reads of the chosen frames' crops (or of drawings in their place), pictures or maps first."""
        vision = self.config.vision
        if isinstance(vision, ExpertVisionConfig):
            if self.encoder is None:
                raise UsageError("this model looks through face experts: give FaceLlavaProcessor(..., encoder=...)")
            maps, values = self.encoder.encode(frames, clip.landmarks[chosen], clip.blendshapes[chosen])
            return {"vision_features": torch.from_numpy(maps), "expert_values": torch.from_numpy(values)}
        video = vision.tower_for(len(chosen)) == "video"
        return {"pixel_values": pixel_values(frames, vision.image_size, vision.pixels, video)}

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def render(self, messages: Sequence[Message], frames: int, training: bool) -> Rendered:
        """Ids and labels of one conversation; without ``training`` it ends where the answer starts."""
        roles = [message["role"] for message in messages]
        expected = ["user", "assistant"] * ((len(roles) + 1) // 2)
        if not roles or roles != expected[: len(roles)]:
            raise UsageError(f"messages alternate user and assistant, user first; got {', '.join(roles) or 'none'}")
        if training != (roles[-1] == "assistant"):
            raise UsageError("training conversations end with an assistant's answer, others with a user's question")
        texts: list[str | None] = [_text(message["content"]) for message in messages]
        turns = [(str(q), a) for q, a in zip_longest(texts[::2], texts[1::2])]
        tokens = self.config.num_visual_tokens(frames)
        return render(self._tokenize, turns, tokens, self.config.image_token_id, self.style)

    def pad_id(self) -> int:
        """Any id but the placeholder: padded positions are masked, but placeholders are counted."""
        candidates = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0, 1)
        return next(i for i in candidates if isinstance(i, int) and i != self.config.image_token_id)

    def pad(self, rendered: Sequence[Rendered], side: Literal["left", "right"], training: bool) -> dict[str, Tensor]:
        if side not in ("left", "right"):
            raise UsageError(f"padding_side is {side!r}; choose left or right")
        width = max(len(item.ids) for item in rendered)
        shape = (len(rendered), width)
        batch = {
            "input_ids": torch.full(shape, self.pad_id()),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, IGNORED),
        }
        for i, item in enumerate(rendered):
            where = slice(width - len(item.ids), width) if side == "left" else slice(0, len(item.ids))
            batch["input_ids"][i, where] = torch.tensor(item.ids)
            batch["attention_mask"][i, where] = 1
            batch["labels"][i, where] = torch.tensor(item.labels)
        if not training:
            del batch["labels"]
        return batch

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> list[str]:
        """Write the tokenizer and ``processor_config.json``; ``kwargs`` are accepted for Trainer and ignored."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = list(self.tokenizer.save_pretrained(folder))
        settings = {
            "processor_class": type(self).__name__,
            "style": asdict(self.style),
            "config": self.config.to_dict(),
        }
        path = folder / CONFIG_FILE
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return [*written, str(path)]

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, encoder: FaceEncoder | None = None, **kwargs: Any
    ) -> FaceLlavaProcessor:
        """Read what ``save_pretrained`` wrote; ``kwargs`` are accepted for AutoProcessor and ignored.

        Raises:
            FileMissing: when the folder holds no processor.
        """
        path = Path(folder) / CONFIG_FILE
        if not path.is_file():
            raise FileMissing(f"{folder} holds no {CONFIG_FILE}: give a folder written by save_pretrained")
        settings = json.loads(path.read_text(encoding="utf-8"))
        config = FaceLlavaConfig.from_dict(settings["config"])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(tokenizer, config, PromptStyle(**settings["style"]), encoder)


AutoProcessor.register(FaceLlavaConfig, FaceLlavaProcessor, exist_ok=True)
