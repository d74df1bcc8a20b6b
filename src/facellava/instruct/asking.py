"""What annotators and raters that ask a model share: pictures in, a checked JSON answer out, asked again if not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from facellava.errors import ProviderFailed
from facellava.instruct.clipstore import jpeg
from facellava.instruct.prompts import FRAMES
from facellava.instruct.records import Rejected
from facellava.llm import Attachment, ChatClient, ChatReply, ChatRequest
from facellava.model.frames import frame_indices
from facellava.types import FaceClip

QUALITY = 90
"""JPEG quality of the frames that are sent."""

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Asked:
    """How an answer was obtained: attempts, and tokens over all of them."""

    attempts: int
    input_tokens: int
    output_tokens: int


def pictures(clip: FaceClip) -> tuple[Attachment, ...]:
    """The crop, or eight uniformly sampled ones of a video (appendix E.4); fewer where the clip is shorter."""
    count = len(clip.frames)
    indices = sorted(set(frame_indices(count, min(count, FRAMES)).tolist()))
    return tuple(Attachment(jpeg(clip.frames[i], QUALITY), "image/jpeg") for i in indices)


def ask(
    client: ChatClient,
    request: Callable[[int, str], ChatRequest],
    read: Callable[[ChatReply], Read],
    attempts: int,
) -> tuple[Read, Asked]:
    """Ask until an answer passes.

    Args:
        request: (attempt from 0, what was wrong with the last answer) -> the question.
        read: the checked answer; raises ``Rejected`` for one that must be asked again.
        attempts: how often at most; at least 1.

    Raises:
        Rejected: of the last attempt; ``provider_failed`` where the service gave up.
        BudgetExceeded: passed on, because it ends the build and not the sample.
    """
    assert attempts > 0
    input_tokens = output_tokens = 0
    problem = Rejected("", "")
    for attempt in range(attempts):
        try:
            reply = client.complete(request(attempt, problem.message))
        except ProviderFailed as error:
            raise Rejected("provider_failed", str(error)) from error
        input_tokens += reply.input_tokens
        output_tokens += reply.output_tokens
        try:
            return read(reply), Asked(attempt + 1, input_tokens, output_tokens)
        except Rejected as rejected:
            problem = rejected
    raise Rejected(problem.code, f"{problem.message} (asked {attempts} times)")


def repaired(text: str, attempt: int, problem: str) -> str:
    """The question again, with what was wrong with the last answer; the question itself at attempt 0."""
    return f"{text}\n\nAnswer {attempt} could not be used: {problem}. Answer again." if attempt else text


def read_object(reply: ChatReply) -> dict[str, Any]:
    """The JSON object of an answer, also out of a fenced block or between other words.

    Raises:
        Rejected: ``refused``, ``invalid_answer``.
    """
    if reply.finish == "refused":
        raise Rejected("refused", "the service refused to answer")
    start = reply.text.find("{")
    if start < 0:
        raise Rejected("invalid_answer", f"no JSON object in {_short(reply.text)}")
    try:
        value, _ = json.JSONDecoder().raw_decode(reply.text, start)
    except (ValueError, RecursionError) as error:  # broken; a number of thousands of digits; nested too deeply
        cut = ", cut off at the token limit" if reply.finish == "length" else ""
        raise Rejected("invalid_answer", f"broken JSON ({error}{cut})") from error
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        # half a surrogate pair is valid JSON, but no text that a dataset can hold
        raise Rejected("invalid_answer", "the answer holds half a character") from error
    return value


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:57] + "...")
