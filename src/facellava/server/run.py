"""Listening, and ending well: a signal refuses new requests, lets running ones finish for a while, and stops."""

from __future__ import annotations

import asyncio
import socket
import time
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from facellava.analyzer import Analyzer
from facellava.errors import AddressUnavailable
from facellava.server.app import make_app
from facellava.server.fetch import Fetcher
from facellava.server.service import Service
from facellava.server.settings import ServerSettings

__all__ = ["Server", "listen"]

TICK = 0.05
LAST_SECONDS = 3
"""After the grace period, for telling those who still wait."""
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Server:
    """A server around a loaded model.

    Args:
        listener: what :func:`listen` gave. fetcher: another way to allowed hosts, for tests.
    """

    def __init__(
        self, analyzer: Analyzer, settings: ServerSettings, listener: socket.socket, *, fetcher: Fetcher | None = None
    ) -> None:
        self.settings = settings.checked()
        self.service = Service.of(analyzer, settings, fetcher)
        self._socket = listener
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            make_app(self.service),
            http=_protocol(settings),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=LAST_SECONDS,
        )
        self._uvicorn = _Uvicorn(config, self.service)

    def run(self) -> None:
        """Serve until a signal or :meth:`stop`; in a thread of its own or the main one."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """What SIGTERM does; from any thread."""
        self._uvicorn.ask_to_stop()


class _Uvicorn(uvicorn.Server):
    """Goes on listening while it finishes, so that new requests are told when to come again."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finishing: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends well, the second at once."""
        if self._service.queue.draining and self._loop is not None:
            self.should_exit = self.force_exit = True
            self._loop.call_soon_threadsafe(self._service.queue.stop_all)
        self.ask_to_stop()

    def ask_to_stop(self) -> None:
        """Refuse new requests from now on, and end when the old ones are answered."""
        self._service.queue.draining = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish)
        else:
            self.should_exit = True

    def _finish(self) -> None:
        if self._finishing is None:
            self._finishing = asyncio.ensure_future(self._answer_the_rest())

    async def _answer_the_rest(self) -> None:
        queue, settings = self._service.queue, self._service.settings
        end = time.monotonic() + settings.grace
        while not (queue.idle and not self.server_state.tasks) and time.monotonic() < end:
            await asyncio.sleep(TICK)
        queue.stop_all()
        self.should_exit = True


def listen(settings: ServerSettings) -> socket.socket:
    """The place where a server will answer: taken before a model is loaded, so that a taken port is told at once.

    Raises:
        ApiKeyNeeded, UsageError: see ``ServerSettings.checked``. AddressUnavailable: it cannot listen there.
    """
    host, port = settings.checked().host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressUnavailable(f"cannot listen on {host} port {port} ({reason}): choose another --port") from error


def _protocol(settings: ServerSettings) -> type[asyncio.Protocol]:
    """uvicorn's, with limits that it lacks: on connections, and on the time until a request's head is there."""
    bounds = settings.bounds

    class Protocol(H11Protocol):
        _impatience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > bounds.connections:
                transport.write(_FULL)
                transport.close()
            else:
                self._expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._patience()
            elif self._impatience is None:
                self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._patience()
            super().connection_lost(exc)

        def _expect(self) -> None:
            self._impatience = self.loop.call_later(bounds.header_seconds, self._give_up)

        def _patience(self) -> None:
            if self._impatience is not None:
                self._impatience.cancel()
                self._impatience = None

        def _give_up(self) -> None:
            self._impatience = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.close()

    return Protocol
