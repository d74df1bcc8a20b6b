"""``/v1/score``: a question with a closed list of answers, and how probable the model finds each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from facellava.analyzer import chosen_face
from facellava.runtime.engine import Engine, Seen
from facellava.server.faces import Medium
from facellava.server.problems import Problem
from facellava.server.replies import face_facts
from facellava.server.schemas import ScoreRequest
from facellava.server.service import Service
from facellava.server.work import Emit

__all__ = ["score"]


async def score(service: Service, request: ScoreRequest, http: Request) -> dict[str, Any]:
    """A ``ScoreResponse``; raises Problem and FacellavaError."""
    service.require_model(request.model)
    service.require_words()
    _check(request, service)
    medium = Medium.of([await service.sources.read(request.media, "media")])

    def work(emit: Emit) -> dict[str, Any]:
        start = time.monotonic()
        found = service.faces.find(medium)
        clip = chosen_face(found.clips, request.face)
        middle = time.monotonic()
        seen, _ = service.faces.look(found, clip)
        shares = probabilities(service.analyzer.engine, seen, request, service.settings.bounds.option_tokens)
        rows = [
            {"option": option, "probability": round(float(share), 6)}
            for option, share in zip(request.options, shares, strict=True)
        ]
        seconds = {"faces": middle - start, "answers": time.monotonic() - middle}
        facts = {"face": face_facts(clip), "faces": len(found.clips), "seconds": seconds}
        best = request.options[int(np.argmax(shares))]
        return {"object": "score", "model": service.analyzer.name, "best": best, "options": rows, "facellava": facts}

    with service.queue.admitted(work, http.receive) as ticket:
        result = await ticket.result()
    seconds = result["facellava"]["seconds"] | {"queue": ticket.waited, "total": time.monotonic() - ticket.accepted}
    result["facellava"]["seconds"] = {name: round(value, 4) for name, value in seconds.items()}
    return result


def _check(request: ScoreRequest, service: Service) -> None:
    bounds, options = service.settings.bounds, request.options
    if len(options) > bounds.options:
        raise Problem(400, "too_many_options", f"at most {bounds.options} options can be scored", param="options")
    if len(set(options)) < len(options) or not all(option.strip() for option in options):
        raise Problem(400, "usage", "options differ from each other, and none is empty", param="options")
    if len(request.question) + len(request.prefix) > bounds.texts or not request.question.strip():
        raise Problem(400, "usage", "the question is empty or too long", param="question")


def probabilities(engine: Engine, seen: Seen, request: ScoreRequest, most: int) -> NDArray[np.float64]:
    """Of each option (O,), among them; in the model's thread.

    Where an option begins another (``yes`` and ``yes, a little``), what the longer one takes is not the shorter one's.

    Raises:
        Problem: the options have too many tokens, or one has none. UsageError: the question is too long.
    """
    prefix = request.prefix if engine.tokenize(request.prefix) else ""
    gap = " " if prefix and not prefix[-1].isspace() else ""
    words = [option if option[0].isspace() else gap + option for option in request.options]
    ids = [tuple(engine.tokenize(word)) for word in words]
    longest = max(map(len, ids)) + len(engine.tokenize(prefix + request.question)) + seen.state.length
    if sum(map(len, ids)) > most or longest + 32 > engine.context:
        raise Problem(400, "too_long", f"all options together have at most {most} tokens, fewer after a long question")
    if not all(ids) or len(set(ids)) < len(ids):
        raise Problem(400, "usage", "the model's alphabet cannot tell the options apart", param="options")
    shares = engine.score(seen, request.question.strip(), prefix, words)
    return _apart(ids, shares)


def _apart(ids: Sequence[tuple[int, ...]], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    own = shares.copy()
    for longer in ids:
        beginnings = [n for n, shorter in enumerate(ids) if shorter != longer and longer[: len(shorter)] == shorter]
        if beginnings:
            nearest = max(beginnings, key=lambda n: len(ids[n]))
            own[nearest] -= shares[ids.index(longer)]
    own = np.clip(own, 0.0, None)
    return own / own.sum()
