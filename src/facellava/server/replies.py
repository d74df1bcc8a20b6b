"""Answers in OpenAI's shapes: one object, or chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from facellava.answers import reason_to_abstain
from facellava.errors import FacellavaError
from facellava.runtime.engine import Tally
from facellava.server.bodies import ClientGone
from facellava.server.events import DONE, event
from facellava.server.problems import Problem
from facellava.server.work import Ticket
from facellava.types import FaceClip

__all__ = ["Begun", "Ended", "Reply", "face_facts"]


class Begun(NamedTuple):
    """The face was read and the first words are there.

    Attributes:
        face, faces: the one that is spoken about, and how many there are.
        remembered: tokens of the prompt that had been read before.
        seconds: by stage.
    """

    face: FaceClip
    faces: int
    remembered: int
    seconds: dict[str, float]


class Ended(NamedTuple):
    """How an answer ended (``stop`` or ``length``), and what it took."""

    tally: Tally
    finish: str


class Reply:
    """One answer on its way out.

    Args:
        model: its name. ticket: where ``Begun``, pieces of text and ``Ended`` come from.
    """

    def __init__(self, model: str, ticket: Ticket[Ended]) -> None:
        self._ticket = ticket
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, begun: Begun, text: str, ended: Ended) -> dict[str, Any]:
        """A ``chat.completion``."""
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended.finish}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(begun, ended),
            "facellava": self._facts(begun),
        }

    async def chunks(self, begun: Begun, with_usage: bool) -> AsyncIterator[bytes]:
        """``chat.completion.chunk`` events; a failure is an event with ``error``, after which nothing comes."""
        more: dict[str, Any] = {"usage": None} if with_usage else {}
        try:
            yield event({**self._chunk({"role": "assistant", "content": ""}), **more})
            while (piece := await self._ticket.next()) is not None:
                yield event({**self._chunk({"content": piece}), **more})
            ended = await self._ticket.result()
            yield event({**self._chunk({}, ended.finish), "facellava": self._facts(begun), **more})
            if with_usage:
                yield event({**self._chunk(None), "usage": _usage(begun, ended)})
            yield DONE
        except Problem as problem:
            yield event(problem.to_dict())
        except FacellavaError as error:
            yield event(Problem.of(error).to_dict())
        except ClientGone:
            return

    def _chunk(self, delta: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        choices = [] if delta is None else [choice]
        return {**self._head, "object": "chat.completion.chunk", "choices": choices}

    def _facts(self, begun: Begun) -> dict[str, Any]:
        ticket = self._ticket
        total = time.monotonic() - ticket.accepted
        seconds = {"queue": ticket.waited, **begun.seconds, "total": total}
        return {
            "face": face_facts(begun.face),
            "faces": begun.faces,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
        }


def face_facts(clip: FaceClip) -> dict[str, Any]:
    """Which face was meant, and why its answers may be worth little: ``caution`` is what ``analyze`` abstains for."""
    box = clip.boxes[len(clip.boxes) // 2]
    return {
        "id": clip.face_id,
        "box": [round(float(value), 1) for value in box],
        "size": round(float(clip.quality.size), 1),
        "caution": reason_to_abstain(clip),
    }


def _usage(begun: Begun, ended: Ended) -> dict[str, Any]:
    read, written = ended.tally.prompt, ended.tally.answer
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": begun.remembered},
    }
