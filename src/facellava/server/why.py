"""``/v1/why``: what each word of an answer attends to, and how much it depends on seeing the face (docs/server.md).

Two attentions are multiplied, both as the model computed them: the language model's, from a token to the visual tokens,
and FRGCA's, from those to the nine landmark regions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from facellava.errors import UsageError
from facellava.face.crop import square_around
from facellava.model.regions import REGION_NAMES
from facellava.runtime.engine import Seen
from facellava.runtime.trace import PARTS, Trace
from facellava.server.conversation import read_messages, the_medium
from facellava.server.faces import Found
from facellava.server.problems import Problem
from facellava.server.schemas import WhyRequest
from facellava.server.service import Service
from facellava.server.views import in_turn, on_face
from facellava.types import FaceClip

__all__ = ["why"]


async def why(service: Service, request: WhyRequest, http: Request) -> dict[str, Any]:
    """The response; raises Problem and FacellavaError."""
    service.require_model(request.model)
    service.require_words()
    *asked, last = request.messages
    if last.role != "assistant" or not isinstance(last.content, str) or not last.content:
        raise Problem(400, "usage", "the last message is the answer to be traced, as a text", param="messages")
    conversation = read_messages(asked, service.settings.bounds)
    medium = await the_medium(conversation.media, service.sources, service.settings.bounds)
    if len(last.content) > service.settings.bounds.texts:
        raise Problem(400, "too_long", "the answer is too long", param="messages")
    answer = last.content

    def view(found: Found, clip: FaceClip) -> dict[str, Any]:
        engine = service.analyzer.engine
        seen, _ = service.faces.look(found, clip)
        if not seen.patch_attention.size:
            raise UsageError("this model does not attend to nine landmark regions")
        trace = engine.trace(seen, conversation.question, answer, history=conversation.history)
        return {"object": "why", **_explained(found, clip, seen, trace)}

    return await in_turn(service, http, on_face(service, medium, request.face, view))


def _explained(found: Found, clip: FaceClip, seen: Seen, trace: Trace) -> dict[str, Any]:
    middle = int(np.abs(clip.times - found.moment).argmin())
    regions_vr = seen.patch_attention.reshape(-1, len(REGION_NAMES))
    # the frames of a video that are not pooled stand one after another: a patch is the same place in all of them
    patches_av = trace.patches.reshape(len(trace.pieces), -1, len(regions_vr)).sum(1)
    patches_av = patches_av / np.maximum(patches_av.sum(1, keepdims=True), 1e-12)
    return {
        "grid": len(seen.patch_attention),
        "crop": list(square_around(clip.boxes[middle], clip.margin, clip.crop)),
        "regions": _named(REGION_NAMES, seen.region_attention),
        "patches": [_rounded(row) for row in regions_vr],
        "report": list(trace.lines),
        "tokens": [
            {
                "text": piece,
                "probability": round(float(np.exp(trace.likely[n])), 5),
                "without_face": round(float(np.exp(trace.blind[n])), 5),
                "attention": _named(PARTS, trace.shares[n]),
                "report": _rounded(trace.on_lines[n]),
                "patches": _rounded(patches_av[n]),
                "regions": _named(REGION_NAMES, patches_av[n] @ regions_vr),
            }
            for n, piece in enumerate(trace.pieces)
        ],
    }


def _named(names: tuple[str, ...], values: NDArray[np.floating]) -> dict[str, float]:
    return dict(zip(names, _rounded(values), strict=True))


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 5) for value in values]
