"""Which failures pass, and how long to wait for them.

The services' own libraries retry too, but they neither tell how often nor let other threads know that the service asked
for a pause, so their retries are switched off.
"""

from __future__ import annotations

import email.utils
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from facellava.errors import ProviderFailed

from .throttle import Throttle

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
LONGEST_WAIT = 60.0
"""Seconds between two tries where the service does not say how long."""
LONGEST_PAUSE = 900.0
"""A service that asks for more (a daily quota is used up) ends the calls: one that sleeps for hours looks broken."""
Result = TypeVar("Result")


class Transient(Exception):
    """A failure that may pass.

    Attributes:
        after: seconds that the service asked to wait, None when it did not say.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Missing(ProviderFailed):
    """The service knows no such thing (404, 405): a model, a batch job, a batch interface."""


@dataclass
class Stats:
    """What a client did so far."""

    calls: int = 0
    retries: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Count, from any thread."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds a number or a date; None without a usable one."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


@dataclass(frozen=True)
class Retry:
    """Tries again: waits as long as the service asks, else twice as long each time, with jitter.

    Attributes:
        most: further tries after the first. first_wait: seconds before the second try.
    """

    most: int = 6
    first_wait: float = 1.0

    def run(self, call: Callable[[], Result], throttle: Throttle, stats: Stats, name: str) -> Result:
        """The first result.

        Raises:
            ProviderFailed: after the last try, or when the service asks for a pause over ``LONGEST_PAUSE``.
        """
        for number in range(self.most + 1):
            stats.add(calls=1)
            try:
                return call()
            except Transient as failure:
                if number == self.most:
                    message = f"{name}: {failure}, after {number + 1} tries: look at the service and start again"
                    raise ProviderFailed(message) from failure
                wait = self._wait(failure, number, throttle, name)
                stats.add(retries=1)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _wait(self, failure: Transient, number: int, throttle: Throttle, name: str) -> float:
        if failure.after is None:
            return min(LONGEST_WAIT, self.first_wait * 2**number) * random.uniform(0.75, 1.25)
        if failure.after > LONGEST_PAUSE:
            message = f"{name}: {failure}: it asks to wait for {failure.after / 60:.0f} minutes: start again then"
            raise ProviderFailed(message) from failure
        throttle.hold(failure.after)
        return failure.after + random.uniform(0.0, 0.1)
