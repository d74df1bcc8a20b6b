"""Language model services: a prompt of appendix G.2 with the face's crops, behind cache, budget, limits and retries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from facellava.errors import UsageError
from facellava.evaluation.respondents.base import Ask, Reply, RespondentConfig, identity_of
from facellava.instruct.clipstore import jpeg
from facellava.instruct.prompts import fingerprint_of, question_prompt
from facellava.llm import (
    NO_PRICES,
    Attachment,
    Budget,
    CallCache,
    ChatRequest,
    connect,
    provider_config,
    require_consent,
)
from facellava.model.frames import frame_indices
from facellava.types import Crop, FaceClip

FRAMES = 8
JPEG_QUALITY = 95


def shown_frames(clip: FaceClip) -> list[int]:
    """Which frames a baseline is shown: eight, or one a second where that is more (appendix G.2); all of a few."""
    count = len(clip.frames)
    seconds = float(clip.times[-1] - clip.times[0]) if count > 1 else 0.0
    wanted = min(count, max(FRAMES, round(seconds)))
    return sorted(set(np.asarray(frame_indices(count, wanted)).tolist()))


class ServiceRespondent:
    """See ``Respondent``.

    Args:
        calls: folder of paid answers. allowed: hosts that the user agreed to send faces to. budget: over all calls.

    Raises:
        ConsentNeeded: the service is neither on this machine nor allowed. UsageError: its key or address is missing.
    """

    needs_media, combined = True, False

    def __init__(
        self, config: RespondentConfig, calls: Path, allowed: Collection[str] = (), budget: Budget | None = None
    ) -> None:
        if budget is not None and budget.max_money and not (config.price_input or config.price_output):
            raise UsageError(NO_PRICES)
        self.client = connect(provider_config(config, calls), CallCache(calls), budget)
        require_consent(self.client, allowed)
        self.name, self.concurrency = config.name, config.concurrency
        self.margin = config.margin
        self.crop: Crop = config.crop
        self._config, self.batch = config, config.batch
        asked = fingerprint_of("ask")
        self.identity = identity_of(self.client.name, config.model, config.max_tokens, asked, JPEG_QUALITY)

    def request(self, ask: Ask, clip: FaceClip) -> ChatRequest:
        """The call for one question; the same bytes whenever it is asked."""
        frames = shown_frames(clip)
        _, text = question_prompt(ask.task.name, ask.purpose, ask.names, ask.media, len(frames))
        return ChatRequest(
            model=self._config.model,
            text=text,
            attachments=tuple(Attachment(jpeg(clip.frames[i], JPEG_QUALITY), "image/jpeg") for i in frames),
            json=False,
            max_tokens=self._config.max_tokens * (1 if ask.purpose == "metric" else 4),
            seed=0,
        )

    def ask_together(self, asks: Iterable[tuple[Ask, FaceClip]]) -> Iterator[None]:
        """See ``TakesBatches``; what a job does not answer is asked again by itself."""
        for _ in self.client.complete_batch(self.request(ask, clip) for ask, clip in asks):
            yield

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``. A refusal is an answer: it is kept and counted as one without a label."""
        assert clip is not None
        reply = self.client.complete(self.request(ask, clip))
        return Reply(reply.text, None, reply.input_tokens, reply.output_tokens, reply.finish == "length")
