"""``/v1/chat/completions``: a conversation about a face, whole or as it is written."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from facellava.analyzer import chosen_face
from facellava.errors import UsageError
from facellava.runtime.constrained import Constraint
from facellava.runtime.decoder import Sampler
from facellava.runtime.engine import Tally
from facellava.server.conversation import Conversation, read_messages, the_medium
from facellava.server.events import EventStream
from facellava.server.faces import Medium
from facellava.server.problems import Problem
from facellava.server.replies import Begun, Ended, Reply
from facellava.server.schemas import ChatRequest, ResponseFormat
from facellava.server.service import Service
from facellava.server.stops import StopTexts
from facellava.server.work import Emit

__all__ = ["Chat", "answer_chat"]

ANSWER_TOKENS = 200
"""Of an answer without ``max_tokens``, as ``facellava ask``."""
COLDEST = 0.01
"""Lower temperatures are greedy: their exponents would leave the range of numbers."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One request, checked: what the model's thread has to do."""

    service: Service
    medium: Medium
    conversation: Conversation
    face: int | None
    tokens: int
    sampler: Sampler
    stops: tuple[str, ...]
    constraint: Constraint | None

    def work(self, emit: Emit) -> Ended:
        """Emits ``Begun``, then pieces of text; in the model's thread."""
        service, start = self.service, time.monotonic()
        found = service.faces.find(self.medium)
        clip = chosen_face(found.clips, self.face)
        times = {"faces": time.monotonic() - start}
        seen, remembered = service.faces.look(found, clip)
        times["look"] = time.monotonic() - start - times["faces"]
        tally, stops = Tally(), StopTexts(self.stops)
        pieces = stops.cut(
            service.analyzer.engine.ask(
                seen,
                self.conversation.question,
                history=self.conversation.history,
                max_new_tokens=self.tokens,
                sampler=self.sampler,
                constraint=self.constraint,
                tally=tally,
            )
        )
        # the first words show that the conversation fits: until then a failure has its own status
        first = next(pieces, "")
        emit(Begun(clip, len(found.clips), seen.state.length if remembered else 0, times))
        for piece in filter(None, chain([first], pieces)):
            emit(piece)
        service.measures.tokens(tally.prompt, tally.answer)
        return Ended(tally, "stop" if stops.met else tally.finish)


async def prepare(service: Service, request: ChatRequest) -> Chat:
    """Check a request and fetch what it is about; raises Problem and FacellavaError."""
    service.require_model(request.model)
    service.require_words()
    bounds = service.settings.bounds
    limits = [n for n in (request.max_completion_tokens, request.max_tokens) if n is not None]
    tokens = limits[0] if limits else min(ANSWER_TOKENS, bounds.answer)
    if tokens > bounds.answer:
        raise Problem(400, "too_many_tokens", f"an answer has at most {bounds.answer} tokens", param="max_tokens")
    conversation = read_messages(request.messages, bounds)
    constraint = await asyncio.to_thread(_constraint, request.response_format, bounds.schema)
    medium = await the_medium(conversation.media, service.sources, bounds)
    stops = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return Chat(service, medium, conversation, request.face, tokens, _sampler(request), stops, constraint)


def _sampler(request: ChatRequest) -> Sampler:
    """Greedy unless a temperature is given; without a seed every answer is another."""
    temperature = request.temperature or 0.0
    seed = secrets.randbits(64) if request.seed is None else request.seed % 2**64
    return Sampler(0.0 if temperature < COLDEST else temperature, request.top_p or 1.0, seed)


def _constraint(wanted: ResponseFormat | None, longest: int) -> Constraint | None:
    if wanted is None or wanted.type == "text":
        return None
    schema: Mapping[str, Any] = {"type": "object"}
    if wanted.type == "json_schema":
        given = wanted.json_schema.schema_ if wanted.json_schema else None
        if given is None:
            raise Problem(400, "usage", "json_schema needs a schema", param="response_format.json_schema")
        schema = given
        if len(json.dumps(schema)) > longest:
            message = f"a schema has at most {longest:,} letters"
            raise Problem(400, "schema_too_large", message, param="response_format.json_schema")
    try:
        return Constraint.json(schema)
    except UsageError as error:
        raise Problem(400, "usage", str(error), param="response_format.json_schema") from error


async def answer_chat(service: Service, request: ChatRequest, http: Request) -> Response:
    """The response to a request.

    Raises:
        Problem, FacellavaError: as long as nothing was sent; later failures are events of the stream.
    """
    chat = await prepare(service, request)
    ticket = service.queue.admit(chat.work, http.receive)
    reply = Reply(service.analyzer.name, ticket)
    stream: EventStream | None = None
    try:
        begun: Begun = await ticket.next()
        if request.stream:
            usage = bool(request.stream_options and request.stream_options.include_usage)
            stream = EventStream(reply.chunks(begun, usage), ticket.left(), lambda: service.queue.leave(ticket))
            return stream
        words = []
        while (piece := await ticket.next()) is not None:
            words.append(piece)
        return JSONResponse(reply.whole(begun, "".join(words), await ticket.result()))
    finally:
        if stream is None:
            service.queue.leave(ticket)
