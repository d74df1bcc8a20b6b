"""``/v1/analyze``: every face of a picture or video, typed, as ``facellava analyze --json`` prints it."""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request

from facellava.analyzer import wanted_tasks
from facellava.results import MediaResult
from facellava.server.faces import Medium
from facellava.server.forms import Form, read_form
from facellava.server.problems import Problem
from facellava.server.schemas import AnalyzeRequest
from facellava.server.service import Service
from facellava.server.uploads import plain_name
from facellava.server.work import Emit

__all__ = ["analyze", "read_analyze_request"]

_FIELDS = ("mode", "policy", "explain", "model")


async def read_analyze_request(http: Request) -> tuple[AnalyzeRequest, bytes | None]:
    """A request in JSON, or as a form with the file in it; raises Problem and pydantic's ValidationError."""
    content_type = http.headers.get("content-type", "")
    body = await http.body()
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return AnalyzeRequest.model_validate_json(body), None
    if kind != "multipart/form-data":
        raise Problem(415, "usage", "send application/json, or multipart/form-data with a file")
    form = read_form(body, content_type)
    return _from_form(form), form.file("file").data


def _from_form(form: Form) -> AnalyzeRequest:
    unknown = {*form.texts, *form.files} - {"file", "tasks", *_FIELDS}
    if unknown:
        raise Problem(400, "usage", f"unknown field {sorted(unknown)[0]!r}", param=sorted(unknown)[0])
    values: dict[str, Any] = {name: text for name in _FIELDS if (text := form.one(name)) is not None}
    tasks = [name.strip() for text in form.texts.get("tasks", []) for name in text.split(",") if name.strip()]
    file = form.file("file")
    values |= {"media": "file", "name": plain_name(file.filename), "tasks": tasks or None}
    return AnalyzeRequest.model_validate(values)


async def analyze(service: Service, http: Request) -> dict[str, Any]:
    """The result (docs/output.md) and ``seconds`` by stage.

    Raises:
        Problem, FacellavaError, ValidationError.
    """
    request, data = await read_analyze_request(http)
    service.require_model(request.model)
    mode = _mode(service, request)
    wanted = wanted_tasks(request.tasks, mode)
    if data is None:
        data = await service.sources.read(request.media, "media")
    medium = Medium.of([data])

    def work(emit: Emit) -> dict[str, Any]:
        start = time.monotonic()
        found = service.faces.find(medium, request.policy)
        middle = time.monotonic()
        faces = service.analyzer.describe(
            found.clips,
            wanted,
            found.kind,
            found.moment,
            explain=request.explain,
            look=lambda clip: service.faces.look(found, clip)[0],
        )
        result = MediaResult(media=plain_name(request.name), kind=found.kind, model=service.analyzer.name, faces=faces)
        seconds = {"faces": middle - start, "answers": time.monotonic() - middle}
        return {**result.to_dict(), "seconds": seconds}

    with service.queue.admitted(work, http.receive) as ticket:
        result = await ticket.result()
    result["seconds"] |= {"queue": ticket.waited, "total": time.monotonic() - ticket.accepted}
    result["seconds"] = {name: round(value, 4) for name, value in result["seconds"].items()}
    return result


def _mode(service: Service, request: AnalyzeRequest) -> Any:
    if service.settings.mode != "movements":
        return request.mode
    if request.tasks and set(request.tasks) != {"action_units"}:
        raise Problem(403, "movements_only", "this server reports movements only: action_units", param="tasks")
    return "movements"
