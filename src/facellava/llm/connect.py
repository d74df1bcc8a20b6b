"""From a configuration to a client with cache, budget, rate limits and retries around it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

from facellava.errors import ConsentNeeded, FacellavaError, UsageError

from .batch import BatchService, ask_in_batches
from .budget import Budget, Held, Prices, expected_input
from .cache import CallCache
from .chat import ChatClient, ChatReply, ChatRequest
from .jobs import Jobs
from .retry import Retry, Stats
from .throttle import Throttle

Result = TypeVar("Result")


@dataclass(frozen=True)
class ProviderConfig:
    """A service.

    Attributes:
        provider: ``openai`` (any compatible endpoint), ``gemini``, ``facellava`` (our own server).
        base_url: needed for ``openai`` and ``facellava``.
        key_env: environment variable with the key, "" where none is needed. The key is written nowhere.
        requests_per_minute, tokens_per_minute: limits, 0 for none.
        timeout_s, max_retries: of one call. first_wait: seconds before the first retry.
        prices: money per million tokens.
        jobs: file that remembers batch jobs.
    """

    provider: Literal["openai", "gemini", "facellava"]
    base_url: str = ""
    key_env: str = ""
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    timeout_s: float = 120.0
    max_retries: int = 6
    first_wait: float = 1.0
    prices: Prices = field(default_factory=Prices)
    jobs: Path | None = None


class ServiceFields(Protocol):
    """What recipes and presets say about a service; see ``ProviderConfig``. ``price_*``: money per million tokens."""

    @property
    def kind(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def key_env(self) -> str: ...
    @property
    def requests_per_minute(self) -> float: ...
    @property
    def tokens_per_minute(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def first_wait(self) -> float: ...
    @property
    def price_input(self) -> float: ...
    @property
    def price_output(self) -> float: ...


def provider_config(fields: ServiceFields, calls: Path) -> ProviderConfig:
    """A provider from a recipe's or preset's fields; batch jobs are remembered in the folder of paid answers."""
    assert fields.kind in ("openai", "gemini", "facellava")
    return ProviderConfig(
        provider=cast(Any, fields.kind),
        base_url=fields.base_url,
        key_env=fields.key_env,
        requests_per_minute=fields.requests_per_minute,
        tokens_per_minute=fields.tokens_per_minute,
        timeout_s=fields.timeout_s,
        max_retries=fields.max_retries,
        first_wait=fields.first_wait,
        prices=Prices(fields.price_input, fields.price_output),
        jobs=calls / "jobs.json",
    )


class RawClient(BatchService, Protocol):
    """A service without cache, budget, limits and retries; fields and methods as for ``ChatClient``."""

    local: bool
    takes_batches: bool

    def complete(self, request: ChatRequest) -> ChatReply:
        """One call. Raises ``Transient`` for what may pass and ``ProviderFailed`` for what will not."""
        ...

    def close(self) -> object:
        """Close the connections."""
        ...


class Client:
    """A service behind cache, budget, rate limits and retries; see ``ChatClient``.

    Attributes:
        stats: calls made, retries, answers from the cache, tokens.
    """

    def __init__(self, raw: RawClient, config: ProviderConfig, cache: CallCache | None, budget: Budget) -> None:
        self._raw, self._cache, self._budget, self._prices = raw, cache, budget, config.prices
        self.name, self.local = raw.name, raw.local
        self.takes_batches = raw.takes_batches
        self.stats = Stats()
        self._jobs = Jobs(config.jobs)
        self._throttle = Throttle(config.requests_per_minute, config.tokens_per_minute)
        self._retry = Retry(config.max_retries, config.first_wait)
        self._alone = OneAtATime()

    def close(self) -> None:
        """Close the connections; they are also closed with the object or the process."""
        self._raw.close()

    def complete(self, request: ChatRequest) -> ChatReply:
        """See ``ChatClient``. Threads that ask the same at the same time pay once."""
        if self._cache is None:
            return self._ask(request)
        with self._alone(request.key):
            known = self._known(request)
            return known if known is not None else self._ask(request)

    def _ask(self, request: ChatRequest) -> ChatReply:
        held = self._budget.reserve(request, self._prices)
        paid: ChatReply | None = None
        try:
            paid = reply = self._retry.run(lambda: self._call(request), self._throttle, self.stats, self.name)
        finally:
            self._budget.settle(held, paid, self._prices)
        return self._keep(request, reply)

    def _call(self, request: ChatRequest) -> ChatReply:
        self._throttle.wait(expected_input(request) + request.max_tokens)
        return self._raw.complete(request)

    def _known(self, request: ChatRequest) -> ChatReply | None:
        reply = self._cache.get(self.name, request) if self._cache else None
        if reply is not None:
            self.stats.add(cached=1)
        return reply

    def _keep(self, request: ChatRequest, reply: ChatReply) -> ChatReply:
        if self._cache is not None:
            self._cache.put(self.name, request, reply)
        self.stats.add(input_tokens=reply.input_tokens, output_tokens=reply.output_tokens)
        return reply

    def complete_batch(
        self, requests: Iterable[ChatRequest]
    ) -> Iterator[tuple[ChatRequest, ChatReply | FacellavaError]]:
        """See ``ChatClient``; answers that are known are not asked for, the same question is asked once.

        Raises:
            ProviderFailed: the service takes no batch job. BudgetExceeded: before anything is sent.
        """
        wanted: dict[str, ChatRequest] = {}
        times: Counter[str] = Counter()
        for request in requests:
            if (known := self._known(request)) is not None:
                yield request, known
            else:
                wanted[request.key] = request
                times[request.key] += 1
        held: dict[str, Held] = {}
        try:
            for key, request in wanted.items():
                held[key] = self._budget.reserve(request, self._prices)
            for key, answer in ask_in_batches(self._raw, self._jobs, wanted, self._retrying):
                reply = None if isinstance(answer, FacellavaError) else answer
                self._budget.settle(held.pop(key), reply, self._prices)
                self.stats.add(calls=1)
                if reply is not None:
                    self._keep(wanted[key], reply)
                yield from [(wanted[key], answer)] * times[key]
        finally:
            for rest in held.values():
                self._budget.settle(rest, None, self._prices)

    def _retrying(self, step: Callable[[], Result], /) -> Result:
        # looking at a job is no call that a user counts
        return self._retry.run(step, self._throttle, Stats(), self.name)


class OneAtATime:
    """A lock for each key, kept as long as somebody needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def __call__(self, key: str) -> Iterator[None]:
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1


def connect(config: ProviderConfig, cache: CallCache | None = None, budget: Budget | None = None) -> Client:
    """A client for a service.

    Raises:
        UsageError: no address, or the environment variable of the key is not set. MissingExtra: no library for it.
    """
    key = os.environ.get(config.key_env, "") if config.key_env else ""
    if config.key_env and not key:
        raise UsageError(f"the environment variable {config.key_env} is not set: put the service's key in it")
    if config.provider == "gemini":
        from .gemini_client import GeminiClient

        raw: RawClient = GeminiClient(config.base_url, key, config.timeout_s)
    else:
        if not config.base_url:
            raise UsageError(f"the service {config.provider} needs a base_url, such as http://127.0.0.1:8000/v1")
        from .openai_client import OpenAiClient

        raw = OpenAiClient(config.base_url, key, config.timeout_s)
    return Client(raw, config, cache, budget or Budget())


def require_consent(client: ChatClient, allowed: Collection[str]) -> None:
    """Faces leave this machine only for a service that the user named.

    Raises:
        ConsentNeeded: it is neither on this machine nor named.
    """
    if not client.local and client.name not in allowed:
        raise ConsentNeeded(
            f"faces would be sent to {client.name}: if the people shown and the data's licence allow it, "
            f"add --send-media-to {client.name}"
        )
