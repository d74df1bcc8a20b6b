"""What the routes behind the page share: one face of one medium, looked at in the model's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastapi import Request

from facellava.analyzer import chosen_face
from facellava.server.faces import Found, Medium
from facellava.server.replies import face_facts
from facellava.server.service import Service
from facellava.server.work import Emit
from facellava.types import FaceClip

__all__ = ["in_turn", "on_face"]


async def in_turn(service: Service, http: Request, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` returns, from the model's thread, with ``facellava.seconds`` added."""

    def run(_: Emit) -> dict[str, Any]:
        return work()

    with service.queue.admitted(run, http.receive) as ticket:
        result = await ticket.result()
    seconds = {"queue": ticket.waited, "total": time.monotonic() - ticket.accepted}
    facts = {**result.get("facellava", {}), "seconds": {name: round(value, 4) for name, value in seconds.items()}}
    return {**result, "facellava": facts}


def on_face(
    service: Service, medium: Medium, face: int | None, view: Callable[[Found, FaceClip], dict[str, Any]]
) -> Callable[[], dict[str, Any]]:
    """Work for :func:`in_turn`: the view of one face, and which face it was."""

    def work() -> dict[str, Any]:
        found = service.faces.find(medium)
        clip = chosen_face(found.clips, face)
        facts = {"face": face_facts(clip), "faces": len(found.clips)}
        return {**view(found, clip), "facellava": facts}

    return work
