"""The web application: routes, errors in one shape, and the guard around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

from facellava import __version__
from facellava.errors import FacellavaError
from facellava.server import schemas
from facellava.server.analysis import analyze
from facellava.server.bodies import ClientGone
from facellava.server.card import model_card
from facellava.server.chat import answer_chat
from facellava.server.forms import read_form
from facellava.server.guard import GONE, Guard
from facellava.server.landmarks import landmarks
from facellava.server.pages import HEADERS, documentation
from facellava.server.problems import Problem
from facellava.server.scores import score
from facellava.server.service import Service
from facellava.server.timeline import timeline
from facellava.server.webpage import Page
from facellava.server.why import why

__all__ = ["make_app"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.ErrorBody, "description": "The request is refused; `code` says why."},
    "5XX": {"model": schemas.ErrorBody, "description": "Busy, too slow, or a fault of the server."},
}
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI would hand the words of errors, which may quote requests, to whatever collector the environment names."""
_CODES = {404: "not_found", 405: "method_not_allowed"}


def make_app(service: Service) -> Any:
    """The ASGI application of a server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="facellava",
        version=__version__,
        description="Faces in pictures and videos, described in words. Compatible with OpenAI's chat completions.",
        license_info={"name": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        responses=_ERRORS,
        telemetry=_NO_TELEMETRY,
    )
    _add_model_routes(app, service)
    _add_views(app, service)
    _add_file_routes(app, service)
    _add_pages(app, service)
    _add_errors(app)
    guarded = Guard(app, service.settings, service.queue, service.measures)
    if not service.settings.origins:
        return guarded
    return CORSMiddleware(
        guarded,  # pyright: ignore[reportArgumentType] - an ASGI application
        allow_origins=list(service.settings.origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["retry-after", "x-request-id"],
    )


def _add_model_routes(app: FastAPI, service: Service) -> None:
    events = {"text/event-stream": {"schema": {"type": "string"}}}

    @app.post(
        "/v1/chat/completions",
        summary="A conversation about a face, in OpenAI's form; streams with stream: true",
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}, **events}}},
    )
    async def chat_completions(request: schemas.ChatRequest, http: Request) -> Response:
        return await answer_chat(service, request, http)

    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": _FILE,
            "tasks": {"type": "array", "items": {"type": "string"}},
            "mode": {"enum": ["full", "movements"]},
            "policy": {"enum": ["all", "paper"]},
            "explain": {"type": "boolean"},
            "model": {"type": "string"},
        },
    }
    as_json = schemas.AnalyzeRequest.model_json_schema()
    content = {"application/json": {"schema": as_json}, "multipart/form-data": {"schema": form}}

    @app.post(
        "/v1/analyze",
        summary="Every face, typed: displayed expression, movements, attributes, age, signs of manipulation",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def analyze_media(http: Request) -> dict[str, Any]:
        return await analyze(service, http)

    @app.post("/v1/score", summary="How probable each of some answers to a question is")
    async def score_options(request: schemas.ScoreRequest, http: Request) -> schemas.ScoreResponse:
        return schemas.ScoreResponse(**await score(service, request, http))

    @app.get("/v1/models", summary="The model, its licence and its limits")
    async def list_models() -> schemas.ModelList:
        return schemas.ModelList(data=[model_card(service)])

    @app.get("/v1/models/{name}", summary="The same for one name")
    async def get_model(name: str) -> dict[str, Any]:
        service.require_model(name)
        return model_card(service)


def _add_views(app: FastAPI, service: Service) -> None:
    @app.post("/v1/landmarks", summary="Where the faces are: boxes and 68 landmarks, through time in a video")
    async def find_landmarks(request: schemas.LandmarksRequest, http: Request) -> dict[str, Any]:
        return await landmarks(service, request, http)

    @app.post("/v1/timeline", summary="Displayed expression and action units through a short video, with their courses")
    async def follow(request: schemas.TimelineRequest, http: Request) -> dict[str, Any]:
        return await timeline(service, request, http)

    @app.post("/v1/why", summary="What each word of an answer attends to, and what it depends on")
    async def trace(request: schemas.WhyRequest, http: Request) -> dict[str, Any]:
        return await why(service, request, http)


def _add_file_routes(app: FastAPI, service: Service) -> None:
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": _FILE,
            "purpose": {"type": "string"},
            "expires_after[anchor]": {"const": "created_at"},
            "expires_after[seconds]": {"type": "integer", "minimum": 1},
        },
    }
    content = {"multipart/form-data": {"schema": form}}

    @app.post(
        "/v1/files",
        summary="Keep a picture or video in memory for a while; use its id in place of a data URL",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def create_file(http: Request) -> schemas.FileObject:
        given = read_form(await http.body(), http.headers.get("content-type", ""))
        file = given.file("file")
        seconds = given.one("expires_after[seconds]") or ""
        if seconds and not (seconds.isascii() and seconds.isdigit() and int(seconds[:12]) > 0):
            raise Problem(400, "usage", "expires_after[seconds] is a positive number", param="expires_after[seconds]")
        purpose = (given.one("purpose") or "user_data")[:64]
        kept = float(seconds[:12]) if seconds else None
        return schemas.FileObject(**service.uploads.add(file.filename, purpose, file.data, kept).to_dict())

    @app.get("/v1/files/{name}", summary="What is known about an uploaded file; its content is not given out")
    async def get_file(name: str) -> schemas.FileObject:
        return schemas.FileObject(**service.uploads.get(name).to_dict())

    @app.delete("/v1/files/{name}", summary="Forget an uploaded file")
    async def delete_file(name: str) -> schemas.FileDeleted:
        service.uploads.remove(name)
        return schemas.FileDeleted(id=name)


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether new requests are taken", responses={503: {"description": "Shutting down."}})
    async def health() -> JSONResponse:
        if service.queue.draining:
            return JSONResponse({"status": "shutting_down"}, 503)
        return JSONResponse({"status": "ok", "model": service.analyzer.name})

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.measures.text(), media_type=service.measures.content_type)

    page = Page.load()

    @app.get("/", include_in_schema=False)
    async def front(http: Request) -> Response:
        return page.front(http.headers.get("if-none-match", ""))

    @app.get("/page/{version}/{name}", include_in_schema=False)
    async def asset(version: str, name: str) -> Response:
        return page.asset(version, name)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(documentation(app.openapi()), headers=HEADERS)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return Response(error.body(), error.status, error.headers, "application/json")

    @app.exception_handler(FacellavaError)
    async def ours(http: Request, error: FacellavaError) -> Response:
        return await problem(http, Problem.of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid_request(http: Request, error: RequestValidationError) -> Response:
        return await problem(http, _first_of(error.errors()))

    @app.exception_handler(ValidationError)
    async def invalid(http: Request, error: ValidationError) -> Response:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return await problem(http, _first_of(found))

    @app.exception_handler(HTTPException)
    async def other(http: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "usage")
        return await problem(http, Problem(error.status_code, code, str(error.detail), headers=error.headers))

    @app.exception_handler(ClientGone)
    async def gone(*_: object) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(Exception)
    async def unexpected(http: Request, _: Exception) -> Response:
        return await problem(http, Problem(500, "internal", "an error of the server; its log says where"))


def _first_of(errors: Any) -> Problem:
    """What is wrong first, without the value that was given."""
    first = errors[0]
    places = [str(place) for place in first["loc"] if place != "body"]
    where = ".".join(places)
    if first["type"] == "json_invalid":
        return Problem(400, "bad_json", "the body is not valid JSON")
    return Problem(400, "usage", f"{where}: {first['msg']}" if where else first["msg"], param=where or None)
