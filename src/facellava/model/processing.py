"""Face clips and chat messages to model inputs: the same code for training and for answering.

Pictures, videos and texts as transformers hands them over become clips and messages first (``chat_inputs.py``).

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
from transformers import AutoProcessor, AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from facellava import _autoclasses
from facellava.errors import DamagedCheckpoint, FileMissing, UsageError
from facellava.files import read_object, reading
from facellava.model import chat_inputs
from facellava.model.chat_inputs import Chat, FaceReader, Message
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig
from facellava.model.expert_report import FILE as HEAD_FILE
from facellava.model.expert_report import ExpertHead
from facellava.model.frames import frame_indices
from facellava.model.parsing import draw_parsing
from facellava.model.preprocess import pixel_values
from facellava.model.prompt import CHATML, IGNORED, Opening, PromptStyle, Rendered, render
from facellava.types import FaceClip

__all__ = ["FaceEncoder", "FaceLlavaProcessor", "Message", "Seen"]

CONFIG_FILE = "processor_config.json"


@runtime_checkable
class FaceEncoder(Protocol):
    """What computes an expert tower's inputs, ``experts.ExpertEncoder`` for example."""

    def encode(
        self, frames: NDArray[np.uint8], landmarks: NDArray[np.float32], blendshapes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Crops (t, 256, 256, 3), landmarks (t, 68, 2), blendshapes (t, 52) -> maps (t, n, c), values (t, e)."""
        ...


class Seen(NamedTuple):
    """What the model reads of a clip.

    Attributes:
        inputs: model inputs by name, each with a leading frame axis. frames: how many were sampled.
        values: of the face experts (t, e), None for towers that read pixels.
        probabilities: of the expert head (o,), None without one. report: what it found, "" without one.
    """

    inputs: dict[str, Tensor]
    frames: int
    values: Tensor | None = None
    probabilities: NDArray[np.float32] | None = None
    report: str = ""


class FaceLlavaProcessor(ProcessorMixin):
    """Turns face clips and conversations into ``FaceLlavaForConditionalGeneration`` inputs.

    Args:
        tokenizer: of the language model; its padding side becomes left, which is what transformers' own batching reads.
        config: of the model.
        style: strings around turns.
        encoder: computes expert features; needed when ``config.vision.kind`` is ``experts``, never saved.
        head: states what the experts find; its report opens every conversation.
        faces: finds the face in pictures and videos, never saved; None takes the package's own front end when the
            first one is given, and its face experts where they are needed.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: FaceLlavaConfig,
        style: PromptStyle = CHATML,
        encoder: FaceEncoder | None = None,
        head: ExpertHead | None = None,
        faces: FaceReader | None = None,
    ) -> None:
        super().__init__(tokenizer)
        self.config, self.style = config, style
        self.encoder, self.head, self.faces = encoder, head, faces
        tokenizer.padding_side = "left"

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - its own inputs are clips
        self,
        clips: FaceClip | Sequence[FaceClip] | None = None,
        messages: Sequence[Message] | Sequence[Sequence[Message]] | None = None,
        *,
        training: bool = False,
        padding_side: Literal["left", "right"] | None = None,
        **given: Any,
    ) -> BatchFeature:
        """A padded batch.

        Args:
            clips: one clip or several; all are images or all are videos, so that one time axis serves the batch.
            messages: a conversation, or one per clip: user and assistant by turns, user first.
            training: conversations end with an answer, and ``labels`` are -100 outside answers.
            padding_side: ``right`` by default in training, ``left`` otherwise, because generation appends.
            given: instead of clips, as transformers passes them: ``images`` or ``videos`` (paths, addresses, bytes,
                arrays, Pillow pictures; one or a list), ``text`` in place of messages (a question, or a prompt of
                ``apply_chat_template``); without either, pictures stand in the messages' parts. The largest face
                of each becomes its clip. Besides them options of transformers that change nothing here.

        Returns:
            ``input_ids``, ``attention_mask`` (b, l), the visual inputs that the configuration needs, in training
            ``labels`` (b, l).

        Raises:
            UsageError: for malformed conversations, mixed frame counts, a crop other than the model's, a missing
                encoder, or options that cannot be followed.
            NoFace: a picture shows none. FacellavaError: it cannot be read, see ``facellava.errors``.
        """
        if clips is None:
            return self._batch(self._chats(messages, given), training, padding_side)
        if messages is None or any(given.get(name) is not None for name in chat_inputs.MEDIA):
            raise UsageError("clips go with messages, without images, videos or text")
        chat_inputs.check_options(given)
        clips = [clips] if isinstance(clips, FaceClip) else list(clips)
        conversations = chat_inputs.conversations(messages)
        if not clips or len(clips) != len(conversations):
            raise UsageError(f"{len(clips)} clips for {len(conversations)} conversations: give one for each")
        chats = [Chat(conversation, clip) for conversation, clip in zip(conversations, clips, strict=True)]
        return self._batch(chats, training, padding_side)

    def apply_chat_template(  # pyright: ignore[reportIncompatibleMethodOverride] - templates are the style's
        self,
        conversation: Any,
        *,
        tokenize: bool = False,
        return_dict: bool = False,
        continue_final_message: bool = False,
        **options: Any,
    ) -> Any:
        """Conversations with pictures in their parts as prompts or as model inputs; see ``__call__``.

        Args:
            conversation: one or several. What ends with a question is brought to where its answer starts, whatever
                ``add_generation_prompt`` says: this model can do nothing else with it.
            tokenize: False writes prompts, in which ``<image>`` or ``<video>`` stands for the face.
            return_dict: all inputs instead of ``input_ids`` alone.
            continue_final_message: the answer goes on from the assistant's last message.
            options: of transformers, as far as they change nothing here; ``processor_kwargs`` for ``__call__``.

        Returns:
            A prompt or a list of them; with ``tokenize`` a batch, or its ``input_ids`` (b, l).

        Raises:
            UsageError, NoFace, FacellavaError: as ``__call__``.
        """
        options |= options.pop("processor_kwargs", None) or {}
        side = options.pop("padding_side", None)
        if tokenize:
            batch = self._batch(self._chats(conversation, options, continue_final_message), False, side)
            return batch if return_dict else batch["input_ids"]
        chat_inputs.check_options(options)
        several = chat_inputs.conversations(conversation)
        prompts = [chat_inputs.written(one, self.style, continue_final_message) for one in several]
        return prompts[0] if chat_inputs.is_single(conversation) else prompts

    @property
    def image_processor(self) -> FaceLlavaProcessor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Itself: pipelines ask it for the padding of pictures, of which there is none, and save it with the model."""
        return self

    def _chats(self, messages: Any, given: Mapping[str, Any], continued: bool | None = None) -> list[Chat]:
        """Whatever transformers hands over as conversations about clips."""
        chat_inputs.check_options(given)
        chats = chat_inputs.read_chats(messages, given, self.style, continued)
        return [self._with_clip(chat) for chat in chats]

    def _with_clip(self, chat: Chat) -> Chat:
        if isinstance(chat.source, FaceClip):
            return chat
        if self.encoder is None and isinstance(self.config.vision, ExpertVisionConfig):
            self.encoder = _autoclasses.face_encoder()
        if self.faces is None:
            self.faces = _autoclasses.face_reader(self.config.crop_margin, self.config.crop)
        return chat._replace(source=self.faces(chat.source))

    def _batch(
        self, chats: Sequence[Chat], training: bool, padding_side: Literal["left", "right"] | None
    ) -> BatchFeature:
        """Chats whose sources are clips as model inputs: the one way from faces and words to tensors."""
        seen = [self.look(chat.source) for chat in chats]
        counts = sorted({item.frames for item in seen})
        if len(counts) > 1:
            raise UsageError(f"clips of {' and '.join(map(str, counts))} frames in one batch: batch equal lengths")
        rendered = [self._rendered(chat, item, training) for chat, item in zip(chats, seen, strict=True)]
        batch = self.pad(rendered, padding_side or ("right" if training else "left"), training)
        for name in seen[0].inputs:
            batch[name] = torch.stack([item.inputs[name] for item in seen])
        return BatchFeature(batch)

    def _rendered(self, chat: Chat, seen: Seen, training: bool) -> Rendered:
        ids, labels = self.render(chat.messages, seen.frames, training or chat.answered, seen.report)
        begun = self._tokenize(chat.started) if chat.started else []
        return Rendered(ids + begun, labels + [IGNORED] * len(begun))

    def decode(self, ids: Tensor | list[int], **options: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Text of generated ids, without special tokens unless ``skip_special_tokens=False``."""
        return str(self.tokenizer.decode(ids, **{"skip_special_tokens": True, **options}))

    def batch_decode(self, ids: Tensor | list[list[int]], **options: Any) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Texts of a batch of generated ids, without special tokens unless ``skip_special_tokens=False``."""
        return self.tokenizer.batch_decode(ids, **{"skip_special_tokens": True, **options})

    def post_process_image_text_to_text(
        self, generated_outputs: Tensor, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """Texts of what ``generate`` returned, prompts and answers (b, l); the visual tokens have none."""
        mark = self.config.image_token_id
        rows = [[i for i in row if i != mark] for row in torch.as_tensor(generated_outputs).tolist()]
        return self.tokenizer.batch_decode(rows, skip_special_tokens=skip_special_tokens, **kwargs)

    def look(self, clip: FaceClip) -> Seen:
        """Sample a clip's frames and compute what the model reads of them.

        Raises:
            UsageError: a crop other than the model's, or a missing encoder.
        """
        vision = self.config.vision
        if abs(clip.margin - self.config.crop_margin) > 1e-6:
            raise UsageError(
                f"the face was cropped with margin {clip.margin:g}, the model expects {self.config.crop_margin:g}"
            )
        if clip.crop != self.config.crop:
            raise UsageError(f"the crop is {clip.crop}, the model expects {self.config.crop} ones")
        available = len(clip.frames)
        chosen = frame_indices(available, vision.sampled_frames(available))
        inputs, values = self._tower_inputs(clip.frames[chosen], clip, chosen)
        maps = inputs.get("vision_features")
        if self.config.fusion.uses_landmarks:
            inputs["landmarks"] = torch.from_numpy(clip.landmarks[chosen])
        if self.config.fusion.uses_parsing:
            drawn, _ = self._tower_inputs(draw_parsing(clip.landmarks[chosen]), clip, chosen)
            inputs["parsing_values"] = next(iter(drawn.values()))
        if self.head is None or maps is None or values is None:
            return Seen(inputs, len(chosen), values)
        probabilities, found = self.head.read(maps.numpy(), values.numpy(), clip.landmarks[chosen])
        return Seen(inputs, len(chosen), values, probabilities, found.report())

    def _tower_inputs(
        self, frames: NDArray[np.uint8], clip: FaceClip, chosen: NDArray[np.int64]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """What the tower reads of the chosen frames' crops (or of drawings in their place), and experts' values."""
        vision = self.config.vision
        if isinstance(vision, ExpertVisionConfig):
            if self.encoder is None:
                raise UsageError("this model looks through face experts: give FaceLlavaProcessor(..., encoder=...)")
            maps, values = self.encoder.encode(frames, clip.landmarks[chosen], clip.blendshapes[chosen])
            return {"vision_features": torch.from_numpy(maps)}, torch.from_numpy(values)
        video = vision.tower_for(len(chosen)) == "video"
        return {"pixel_values": pixel_values(frames, vision.image_size, vision.pixels, video)}, None

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def render(self, messages: Sequence[Message], frames: int, training: bool, report: str = "") -> Rendered:
        """Ids and labels of one conversation; without ``training`` it ends where the answer starts."""
        roles = [message["role"] for message in messages]
        expected = ["user", "assistant"] * ((len(roles) + 1) // 2)
        if not roles or roles != expected[: len(roles)]:
            raise UsageError(f"messages alternate user and assistant, user first; got {', '.join(roles) or 'none'}")
        if training != (roles[-1] == "assistant"):
            raise UsageError("training conversations end with an assistant's answer, others with a user's question")
        texts: list[str | None] = [chat_inputs.plain_text(message["content"]) for message in messages]
        turns = [(str(q), a) for q, a in zip_longest(texts[::2], texts[1::2])]
        tokens = self.config.num_visual_tokens(frames)
        opening = Opening(tokens, self.config.image_token_id, self.config.visual_blocks(frames), report)
        return render(self._tokenize, turns, opening, self.style)

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

    def to_dict(self) -> dict[str, Any]:
        """What ``processor_config.json`` holds."""
        return {
            "processor_class": type(self).__name__,
            "style": asdict(self.style),
            "config": self.config.to_dict(),
        }

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> list[str]:
        """Write the tokenizer, ``processor_config.json`` and the expert head; ``kwargs`` (of Trainer) are ignored."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = list(self.tokenizer.save_pretrained(folder))
        path = folder / CONFIG_FILE
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        if self.head is not None:
            self.head.save(folder / HEAD_FILE)
            written.append(str(folder / HEAD_FILE))
        return [*written, str(path)]

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - from a folder alone
        cls,
        folder: str | Path,
        encoder: FaceEncoder | None = None,
        faces: FaceReader | None = None,
        **kwargs: Any,
    ) -> FaceLlavaProcessor:
        """Read what ``save_pretrained`` wrote; ``kwargs`` are accepted for AutoProcessor and ignored.

        Raises:
            FileMissing: when the folder holds no processor.
        """
        path = Path(folder) / CONFIG_FILE
        if not path.is_file():
            raise FileMissing(f"{folder} holds no {CONFIG_FILE}: give a folder written by save_pretrained")
        settings = read_object(path)
        with reading(path, "get the folder again", DamagedCheckpoint):
            config, style = FaceLlavaConfig.from_dict(settings["config"]), PromptStyle(**settings["style"])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        head = ExpertHead.load(Path(folder)) if (Path(folder) / HEAD_FILE).is_file() else None
        return cls(tokenizer, config, style, encoder, head, faces)


AutoProcessor.register(FaceLlavaConfig, FaceLlavaProcessor, exist_ok=True)
