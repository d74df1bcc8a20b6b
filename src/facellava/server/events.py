"""Server-sent events: an answer as it is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from fastapi.responses import Response

__all__ = ["DONE", "EventStream", "event"]

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n\n"


class EventStream(Response):
    """Sends events as they come.

    Args:
        events: what to send. seconds: after which a client that does not read is cut off.
        close: called at the end, however it comes.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], seconds: float, close: Callable[[], None]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events, self._seconds, self._close = events, seconds, close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See the ASGI specification."""
        try:
            with suppress(TimeoutError):
                await self._send(send)
        finally:
            self._close()

    async def _send(self, send: Any) -> None:
        async with asyncio.timeout(self._seconds):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._events:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
