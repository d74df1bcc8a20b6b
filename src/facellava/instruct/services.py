"""Who annotates and who rates in a build: made from the recipe, with one cache, one budget, and consent checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from facellava.errors import UsageError
from facellava.instruct.annotate import Annotator, EvidenceAnnotator, ExpertAnnotator, LlmAnnotator, RecordedAnnotator
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.rate import LlmRater, Rater, RulesRater
from facellava.instruct.recipe import Recipe, ServiceConfig
from facellava.instruct.stages import Item
from facellava.llm import (
    Budget,
    CallCache,
    ChatRequest,
    Client,
    Estimate,
    Prices,
    connect,
    estimate,
    provider_config,
    require_consent,
)

BATCH = 2000
"""Requests in one batch job: below the size limits of the services with eight pictures each."""


def _check(stage: str, config: ServiceConfig, own: tuple[str, ...]) -> None:
    if not config.is_service and config.kind not in own:
        known = " or ".join([", ".join(own[:-1]), own[-1]] if own[1:] else own)
        raise UsageError(f"{stage}.kind is {config.kind!r}; without a service it can be {known}")
    if config.is_service and not config.model:
        raise UsageError(f"{stage}.model is missing: name the model that {config.kind} shall use, with its version")
    if config.attempts < 1:
        raise UsageError(f"{stage}.attempts is {config.attempts}, but every sample must be asked about once at least")


class Services:
    """Makes annotators and raters.

    Args:
        recipe: says which. out: the build folder, where paid answers are kept. allowed: hosts that may get faces.

    Raises:
        UsageError: the recipe has a rater annotate, or an annotator rate, or names no model of a service.
    """

    def __init__(self, recipe: Recipe, out: Path, allowed: Collection[str] = ()) -> None:
        _check("annotate", recipe.annotate, ("evidence", "experts", "recorded"))
        if recipe.rate is not None:
            _check("rate", recipe.rate, ("rules",))
        self.recipe, self.out, self.allowed = recipe, out, allowed
        self.budget = Budget(recipe.budget.tokens, recipe.budget.money)
        self._cache: CallCache | None = None
        self._clients: dict[ServiceConfig, Client] = {}

    def client(self, config: ServiceConfig) -> Client:
        """The client of a service, the same one for the same configuration."""
        if config not in self._clients:
            if self._cache is None:
                self._cache = CallCache(self.out / "calls")
            self._clients[config] = connect(provider_config(config, self.out / "calls"), self._cache, self.budget)
        return self._clients[config]

    def check_consent(self) -> None:
        """Raises ConsentNeeded for a service that is neither on this machine nor allowed; UsageError without a key."""
        for config in (self.recipe.annotate, self.recipe.rate):
            if config is not None and config.is_service:
                require_consent(self.client(config), self.allowed)

    def annotator(self) -> Callable[[], Annotator]:
        """A maker of the recipe's annotator; picklable where it asks no service."""
        config = self.recipe.annotate
        if config.kind == "evidence":
            return partial(EvidenceAnnotator, self.recipe.seed)
        if config.kind == "experts":
            return partial(ExpertAnnotator, self.recipe.seed)
        if config.kind == "recorded":
            return partial(RecordedAnnotator, Path(config.file) if config.file else None)
        return lambda: LlmAnnotator(
            self.client(config),
            config.model,
            use_labels=config.use_labels,
            attempts=config.attempts,
            max_tokens=config.max_tokens,
        )

    def rater(self) -> Callable[[], Rater]:
        """A maker of the recipe's rater; picklable where it asks no service."""
        config = self.recipe.rate
        assert config is not None
        if not config.is_service:
            return RulesRater
        return lambda: LlmRater(
            self.client(config), config.model, attempts=config.attempts, max_tokens=config.max_tokens
        )

    def requests(self, stage: str, items: Sequence[Item], store: ClipStore) -> Iterator[ChatRequest]:
        """The first question about every item."""
        if stage == "annotate":
            annotator = self.annotator()()
            assert isinstance(annotator, LlmAnnotator)
            yield from (annotator.request(item.sample, store.load(item.clip)) for item in items)
            return
        rater = self.rater()()
        assert isinstance(rater, LlmRater)
        for item in items:
            assert item.annotation is not None
            yield rater.request(item.sample, store.load(item.clip), item.annotation)

    def run_batches(
        self, stage: str, items: Sequence[Item], store: ClipStore, progress: Callable[[str, int, int], None]
    ) -> None:
        """Ask everything through the service's batch interface; the answers wait in the cache.

        What a batch does not answer is asked again one by one by whoever comes next.
        """
        config = self.recipe.annotate if stage == "annotate" else self.recipe.rate
        assert config is not None
        client, count = self.client(config), 0
        for start in range(0, len(items), BATCH):
            part = items[start : start + BATCH]
            for _ in client.complete_batch(self.requests(stage, part, store)):
                count += 1
                progress(f"{stage} batch", count, len(items))

    def estimate(self, calls: int, example: ChatRequest, config: ServiceConfig) -> Estimate:
        """What so many calls like the example will cost."""
        return estimate(
            calls,
            example,
            Prices(config.price_input, config.price_output),
            requests_per_minute=config.requests_per_minute,
            tokens_per_minute=config.tokens_per_minute,
        )

    def counts(self) -> dict[str, Any]:
        """Calls, retries, cached answers and tokens by service."""
        found: dict[str, Any] = {}
        for client in self._clients.values():
            for name, value in dataclasses.asdict(client.stats).items():
                row = found.setdefault(client.name, {})
                row[name] = row.get(name, 0) + value
        return found
