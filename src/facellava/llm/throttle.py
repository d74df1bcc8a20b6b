"""Rate limits of a service, kept by all threads together."""

from __future__ import annotations

import threading
import time


class Throttle:
    """Lets calls through evenly: so many requests and so many tokens a minute.

    Args:
        requests_per_minute, tokens_per_minute: 0 for no limit.
    """

    def __init__(self, requests_per_minute: float = 0.0, tokens_per_minute: float = 0.0) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = self._held_until = 0.0

    def wait(self, tokens: int) -> None:
        """Sleep until a call of so many tokens may start."""
        with self._lock:
            start = max(time.monotonic(), self._next, self._held_until)
            self._next = start + max(self._gap, self._per_token * tokens)
        # the service may ask for a pause while this thread sleeps already; the call's distance to the others stays
        while (left := self._left(start)) > 0:
            time.sleep(left)

    def _left(self, start: float) -> float:
        with self._lock:
            return max(start, self._held_until) - time.monotonic()

    def hold(self, seconds: float) -> None:
        """Nobody starts for so long: the service said that it is overloaded."""
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)
