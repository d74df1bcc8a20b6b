"""Image-text-to-text models of transformers, from a folder or a hub id, asked as appendix G.2 says.

Videos are shown as their frames in one message, which every such model reads; a model's own video interface may score
otherwise. Needs the ``torch`` extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facellava.errors import FileMissing, MissingExtra
from facellava.evaluation.respondents.base import Ask, Reply, RespondentConfig, digest_of_folder, identity_of
from facellava.evaluation.respondents.service import shown_frames
from facellava.instruct.prompts import fingerprint_of, question_prompt
from facellava.types import Crop, FaceClip


class HubRespondent:
    """See ``Respondent``.

    Raises:
        MissingExtra: torch or transformers is not installed. FileMissing: the model cannot be loaded.
    """

    needs_media, combined, concurrency = True, False, 1

    def __init__(self, config: RespondentConfig, *, threads: int = 1) -> None:
        try:
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as error:
            raise MissingExtra("torch", f"the model {config.model}") from error
        if not torch.cuda.is_available():
            torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        try:
            self._processor: Any = AutoProcessor.from_pretrained(config.model)
            model: Any = AutoModelForImageTextToText.from_pretrained(config.model, dtype=dtype)
        except (OSError, ValueError) as error:  # what transformers raises for a missing or an unknown model
            reason = str(error).strip().splitlines()[0]
            raise FileMissing(f"{config.model} cannot be loaded by transformers: {reason}") from error
        self._model: Any = model.to(device).eval()
        self._torch, self._tokens = torch, config.max_tokens
        self.name, self.margin = config.name, config.margin
        self.crop: Crop = config.crop
        folder = Path(config.model)
        weights = digest_of_folder(folder) if folder.is_dir() else config.model
        revision = str(getattr(model.config, "_commit_hash", None))
        asked = fingerprint_of("ask")
        self.identity = identity_of("transformers", weights, revision, str(dtype), config.max_tokens, asked)

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``; greedy."""
        from PIL import Image

        assert clip is not None
        frames = shown_frames(clip)
        _, text = question_prompt(ask.task.name, ask.purpose, ask.names, ask.media, len(frames))
        pictures = [{"type": "image", "image": Image.fromarray(clip.frames[i])} for i in frames]
        messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]
        batch = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device, self._model.dtype)
        wanted = self._tokens * (1 if ask.purpose == "metric" else 4)
        with self._torch.no_grad():
            ids = self._model.generate(**batch, max_new_tokens=wanted, do_sample=False)
        new = ids[0, batch["input_ids"].shape[1] :]
        answer = self._processor.decode(new, skip_special_tokens=True).strip()
        return Reply(answer, None, int(batch["input_ids"].shape[1]), len(new), cut=len(new) >= wanted)
