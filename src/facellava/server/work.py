"""The queue in front of the one thread that runs the model.

A request is a ``Ticket``: it waits, its work runs, what the work emits comes out of ``next``, and it can be given up at
any moment: by the client's leaving, by its deadline, or at shutdown. Waiting tickets leave at once; running work is
told by ``interrupt.poll`` between two frames or two tokens, and the thread goes on with the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, Generic, Literal, TypeVar

from facellava.interrupt import watched
from facellava.server.bodies import ClientGone, Receive
from facellava.server.measures import Measures
from facellava.server.problems import Problem, busy

__all__ = ["Emit", "ModelQueue", "Ticket"]

T = TypeVar("T")
Emit = Callable[[Any], None]
Work = Callable[[Emit], T]
Reason = Literal["gone", "timeout", "shutting_down"]

_END = object()
_SMOOTHING = 0.2


class Stopped(Exception):
    """Raised inside of work that nobody waits for any more."""


class Ticket(Generic[T]):
    """One request for the model, in the hands of the event loop.

    Attributes:
        accepted, started: seconds of the monotonic clock; started is None while it waits.
        reason: why it was given up, None as long as it was not.
    """

    def __init__(self, work: Work[T], seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Any] = asyncio.Queue()
        self._over = False
        self.work: Work[T] | None = work
        self.accepted = time.monotonic()
        self.started: float | None = None
        self.deadline = self.accepted + seconds
        self.reason: Reason | None = None
        self.future: Future[T] | None = None
        self._timer = self._loop.call_later(seconds, self.give_up, "timeout")
        self._watcher: asyncio.Task[None] | None = None

    @property
    def waited(self) -> float:
        """Seconds between acceptance and the start of the work, or until now."""
        return (self.started or time.monotonic()) - self.accepted

    def left(self) -> float:
        """Seconds until it is given up, and one more for telling so."""
        return self.deadline - time.monotonic() + 1.0

    def watch(self, receive: Receive) -> None:
        """Give up when the client closes the connection."""

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.give_up("gone")

        self._watcher = asyncio.create_task(until_gone())

    def give_up(self, reason: Reason) -> None:
        """End it, from the event loop; only the first reason counts."""
        if self.reason is None:
            self.reason = reason
            self._pieces.put_nowait(_END)

    async def next(self) -> Any:
        """What the work emitted next, None once it is done.

        Raises:
            ClientGone, Problem: it was given up. Whatever the work raises.
        """
        if not self._over:
            piece = await self._pieces.get()
            if piece is not _END:
                return piece
            self._over = True
        if self.reason == "gone":
            raise ClientGone
        if self.reason == "timeout":
            limit = self.deadline - self.accepted
            raise Problem(504, "timeout", f"no whole answer within {limit:g} seconds: ask for less, or later")
        if self.reason == "shutting_down":
            raise busy("shutting_down", "the server is shutting down", 5)
        assert self.future is not None
        self.future.result()
        return None

    async def result(self) -> T:
        """What the work returns; raises as ``next``."""
        while await self.next() is not None:
            pass
        assert self.future is not None
        return self.future.result()

    def close(self) -> None:
        """Nobody looks at it any more."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.reason is None:
            self.reason = "gone"
        self.work = None

    # --- for the model's thread ---

    def check(self) -> None:
        """Raise Stopped when it was given up."""
        if self.reason is not None:
            raise Stopped(self.reason)

    def emit(self, piece: Any) -> None:
        """Hand a piece, which is not None, to the event loop."""
        self._tell(piece)

    def finished(self, _: object = None) -> None:
        """The work is over, however it ended."""
        self._tell(_END)

    def _tell(self, piece: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


class ModelQueue:
    """Bounded, first come first served.

    Args:
        size: tickets that may wait while one runs.
        seconds: after which a ticket is given up.
    """

    def __init__(self, size: int, seconds: float, measures: Measures) -> None:
        self._size, self._seconds, self._measures = size, seconds, measures
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="facellava-model")
        self._lock = Lock()
        self._waiting: set[Ticket[Any]] = set()
        self._running: Ticket[Any] | None = None
        self._usual = 1.0
        self.draining = False

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._lock:
            return self._running is None and not self._waiting

    def require_room(self) -> None:
        """Raise Problem when one more would be too many."""
        with self._lock:
            ahead = len(self._waiting) + (self._running is not None)
        if ahead > self._size:
            message = f"{ahead} requests are being answered or wait already: try again"
            raise busy("queue_full", message, min(60.0, self._usual * ahead))

    def shutting_down(self) -> Problem:
        """What new requests are told at shutdown."""
        return busy("shutting_down", "the server is shutting down", 5)

    @contextmanager
    def admitted(self, work: Work[T], receive: Receive) -> Iterator[Ticket[T]]:
        """A ticket, which leaves the queue at the end; see :meth:`admit`."""
        ticket = self.admit(work, receive)
        try:
            yield ticket
        finally:
            self.leave(ticket)

    def admit(self, work: Work[T], receive: Receive) -> Ticket[T]:
        """Put work in the queue; whoever calls this calls :meth:`leave`.

        Args:
            work: runs in the model's thread, given a function that emits pieces.
            receive: the request's channel, on which the client's leaving is announced.

        Raises:
            Problem: 503, the queue is full or the server is shutting down.
        """
        if self.draining:
            raise self.shutting_down()
        self.require_room()
        ticket = Ticket(work, self._seconds)
        with self._lock:
            self._waiting.add(ticket)
            self._measures.waiting.set(len(self._waiting))
        ticket.future = self._executor.submit(self._run, ticket)
        ticket.future.add_done_callback(ticket.finished)
        ticket.watch(receive)
        return ticket

    def leave(self, ticket: Ticket[Any]) -> None:
        """Free a ticket's place, whatever state it is in."""
        assert ticket.future is not None
        if not ticket.future.done():
            self._measures.stopped(ticket.reason or "gone")
        ticket.close()
        with self._lock:
            self._waiting.discard(ticket)
            self._measures.waiting.set(len(self._waiting))
        ticket.future.cancel()

    def stop_all(self) -> None:
        """Give up everything that runs or waits, from the event loop."""
        with self._lock:
            tickets = [*self._waiting, *([self._running] if self._running else [])]
        for ticket in tickets:
            ticket.give_up("shutting_down")

    def close(self) -> None:
        """End the thread once its work is over."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, ticket: Ticket[T]) -> T:
        with self._lock:
            self._waiting.discard(ticket)
            self._running = ticket
            self._measures.waiting.set(len(self._waiting))
        self._measures.running.set(1)
        ticket.started = start = time.monotonic()
        try:
            work, ticket.work = ticket.work, None
            if work is None:
                raise Stopped("gone")
            ticket.check()
            with watched(ticket.check):
                return work(ticket.emit)
        finally:
            seconds = time.monotonic() - start
            with self._lock:
                self._running = None
                self._usual += _SMOOTHING * (seconds - self._usual)
            self._measures.running.set(0)
            self._measures.worked(ticket.waited, seconds)
