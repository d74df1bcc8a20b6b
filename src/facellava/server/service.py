"""What the routes share: the model, what it has read, the queue in front of it, and where media come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from facellava.analyzer import Analyzer
from facellava.server.faces import Faces
from facellava.server.fetch import Fetcher
from facellava.server.measures import Measures
from facellava.server.media import Sources
from facellava.server.problems import Problem
from facellava.server.schemas import ALIAS
from facellava.server.settings import ServerSettings
from facellava.server.uploads import Uploads
from facellava.server.work import ModelQueue

__all__ = ["Service"]

SWEEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one server. Build it with :meth:`of`."""

    analyzer: Analyzer
    settings: ServerSettings
    measures: Measures
    queue: ModelQueue
    faces: Faces
    uploads: Uploads
    sources: Sources

    @classmethod
    def of(cls, analyzer: Analyzer, settings: ServerSettings, fetcher: Fetcher | None = None) -> Service:
        """The parts of a server around a loaded model.

        Args:
            fetcher: another way to allowed hosts, for tests.
        """
        measures, bounds = Measures(), settings.bounds
        uploads = Uploads(bounds, measures)
        return cls(
            analyzer,
            settings,
            measures,
            ModelQueue(settings.queue, settings.seconds, measures),
            Faces(analyzer, bounds.media(), settings.cache, settings.cache_seconds, measures),
            uploads,
            Sources(uploads, fetcher or Fetcher(settings.url_hosts, bounds), bounds),
        )

    def require_model(self, name: str) -> None:
        """Raise Problem: 404 for another model than the loaded one."""
        if name not in (self.analyzer.name, ALIAS):
            message = f"the model here is {self.analyzer.name} (or {ALIAS})"
            raise Problem(404, "model_not_found", message, param="model")

    def require_words(self) -> None:
        """Raise Problem: 403 where the server reports movements only, which free answers are not."""
        if self.settings.mode == "movements":
            message = "this server reports movements only: use /v1/analyze"
            raise Problem(403, "movements_only", message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within, what has expired is forgotten; at the end everything is."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper
            self.queue.stop_all()
            await asyncio.to_thread(self.queue.close)
            self.faces.forget(everything=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.faces.forget()
            self.uploads.forget()
