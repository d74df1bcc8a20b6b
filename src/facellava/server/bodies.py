"""Request bodies: in memory, within limits of size, time and form, before anything else looks at them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from facellava.server.problems import Problem, busy
from facellava.server.settings import Bounds

__all__ = ["ClientGone", "Memory", "check_json", "drain", "read_body", "replayed"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

LINGER_SECONDS, LONGEST_LINGER = 2.0, 15.0
"""A refused body is still taken in until nothing has come for so long, or for so long altogether: a client that is cut
off while it sends may never see the answer."""
LONGEST_GAP = 65_536
"""Bytes between two signs of JSON, outside of texts: numbers and white space need no more."""
_PART = re.compile(rb'["\[\]{},]')
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


class Memory:
    """Bytes that all requests together hold."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0

    @contextmanager
    def lease(self) -> Iterator[Callable[[int], None]]:
        """A function that takes more bytes, or raises Problem; all of them are given back at the end."""
        own = 0

        def take(size: int) -> None:
            nonlocal own
            if self._held + size > self._limit:
                raise busy("memory_full", "too many large requests at once: try again")
            self._held += size
            own += size

        try:
            yield take
        finally:
            self._held -= own


async def read_body(receive: Receive, declared: int | None, bounds: Bounds, take: Callable[[int], None]) -> bytes:
    """The whole body.

    Args:
        declared: the Content-Length, None without one. take: see ``Memory.lease``.

    Raises:
        Problem: 413 as soon as it is too large, 408 when it takes too long. ClientGone.
    """
    if declared is not None and declared > bounds.body:
        raise _too_large(bounds)
    body = bytearray()
    try:
        async with asyncio.timeout(bounds.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                if len(body) + len(piece) > bounds.body:
                    raise _too_large(bounds)
                take(len(piece))
                body += piece
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        seconds = f"{bounds.body_seconds:g}"
        raise Problem(408, "slow_body", f"the request did not arrive within {seconds} seconds") from error


def _too_large(bounds: Bounds) -> Problem:
    return Problem(413, "body_too_large", f"a request has at most {bounds.body:,} bytes")


async def drain(receive: Receive) -> None:
    """Take in and forget the rest of a body, as long as it keeps coming, but not for ever."""
    try:
        async with asyncio.timeout(LONGEST_LINGER):
            while True:
                async with asyncio.timeout(LINGER_SECONDS):
                    message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body first, in one piece, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def check_json(body: bytes, bounds: Bounds) -> None:
    """Raise Problem for JSON that is nested too deeply or has too many parts: before it is read, which takes memory."""
    if b"\0" in body or not _is_utf8(body):
        raise Problem(400, "bad_json", "the body is no JSON in UTF-8")
    depth = at = 0
    for _ in range(bounds.items):
        part = _PART.search(body, at, at + LONGEST_GAP)
        if part is None and at + LONGEST_GAP < len(body):
            break
        if part is None:
            return
        at = part.end()
        if part[0] == b'"':
            at = _end_of_text(body, at, bounds.items)
        depth += _STEPS.get(part[0], 0)
        if depth > bounds.depth:
            raise Problem(400, "json_too_deep", f"JSON is nested at most {bounds.depth} levels deep")
    raise Problem(400, "json_too_large", f"JSON has at most {bounds.items:,} parts")


def _is_utf8(body: bytes) -> bool:
    try:
        return body.isascii() or bool(body.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _end_of_text(body: bytes, at: int, steps: int) -> int:
    """The place after the quotation mark that ends a text; one that follows an odd number of backslashes does not."""
    for _ in range(steps):
        end = body.find(b'"', at)
        if end < 0:
            return len(body)
        slashes = end
        while slashes > at and body[slashes - 1] == ord("\\"):
            slashes -= 1
        at = end + 1
        if (end - slashes) % 2 == 0:
            return at
    raise Problem(400, "json_too_large", f"a text in JSON has at most {steps:,} quotation marks")
