"""The first that a request meets: is it for us, may it come in, is it small and quick enough, and how did it end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from facellava.server.access import PAGE, Access
from facellava.server.bodies import ClientGone, Memory, Message, Receive, check_json, drain, read_body, replayed
from facellava.server.logs import log_request
from facellava.server.measures import Measures
from facellava.server.problems import Problem, busy
from facellava.server.settings import ServerSettings
from facellava.server.work import ModelQueue

__all__ = ["Guard"]

Scope = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GONE = 499
"""Written to the log where the client left before an answer (nginx's number)."""
MODEL_PATHS = frozenset(
    {"/v1/chat/completions", "/v1/analyze", "/v1/score", "/v1/landmarks", "/v1/timeline", "/v1/why"}
)
WHILE_DRAINING = frozenset({"/healthz", "/metrics"})
_PLAIN = MODEL_PATHS | WHILE_DRAINING | {"/", "/v1/files", "/v1/models", "/docs", "/openapi.json"}
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as the log and the measures see them."""

    method: str
    route: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    start: float = field(default_factory=time.monotonic)
    status: int = 0
    received: int = 0
    unread: bool = True


class Guard:
    """ASGI middleware around everything else.

    Args:
        app: what answers. settings, measures: see there. queue: is asked for room before a body is read.
    """

    def __init__(self, app: App, settings: ServerSettings, queue: ModelQueue, measures: Measures) -> None:
        self._app, self._queue, self._measures = app, queue, measures
        self._bounds, self._access = settings.bounds, Access(settings)
        self._memory = Memory(settings.bounds.bodies)
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope["method"], route_of(scope["path"]))
        answer = self._answering(exchange, send)
        self._open += 1
        try:
            with self._memory.lease() as take:
                body = await self._admit(scope, receive, exchange, take)
                await self._app(scope, replayed(body, receive), answer)
        except Problem as problem:
            self._measures.refused(problem.code)
            await _refuse(problem, exchange, receive, answer)
        except ClientGone:
            exchange.status = GONE
        finally:
            self._open -= 1
            seconds = time.monotonic() - exchange.start
            self._measures.answered(exchange.route, exchange.status, seconds)
            log_request(exchange.id, exchange.method, exchange.route, exchange.status, seconds, exchange.received)

    async def _admit(self, scope: Scope, receive: Receive, exchange: Exchange, take: Callable[[int], None]) -> bytes:
        """The body of a request that may come in."""
        headers, path = scope["headers"], scope["path"]
        self._access.check(path, scope["scheme"], headers)
        if self._queue.draining and path not in WHILE_DRAINING:
            raise self._queue.shutting_down()
        if self._open > self._bounds.requests:
            raise busy("too_many_requests", "too many requests at once: try again")
        if path in MODEL_PATHS and scope["method"] == "POST":
            self._queue.require_room()
        length = dict(headers).get(b"content-length")
        body = await read_body(receive, int(length) if length is not None else None, self._bounds, take)
        exchange.received, exchange.unread = len(body), False
        if any(name == b"content-type" and b"json" in value.lower() for name, value in headers):
            check_json(body, self._bounds)
        return body

    def _answering(self, exchange: Exchange, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                given = {name for name, _ in message.get("headers", [])}
                own = [header for header in _HEADERS if header[0] not in given]
                own.append((b"x-request-id", exchange.id.encode()))
                if self._queue.draining or exchange.unread:
                    own.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        return answer


def route_of(path: str) -> str:
    """The path with ids left out; ``other`` for what does not exist, so that measures stay few."""
    for prefix in ("/v1/files/", "/v1/models/", PAGE):
        if path.startswith(prefix):
            return prefix + "{id}"
    return path if path in _PLAIN else "other"


async def _refuse(problem: Problem, exchange: Exchange, receive: Receive, send: Send) -> None:
    body = problem.body()
    headers = {**problem.headers, "content-type": "application/json", "content-length": str(len(body))}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": exchange.unread})
    if exchange.unread:
        await drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
