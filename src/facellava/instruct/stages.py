"""The stages that look at one preprocessed sample: annotate and rate. Work items in, journal rows out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from facellava.instruct.annotate import Annotator
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.executor import WorkerDied
from facellava.instruct.rate import Rater
from facellava.instruct.records import Annotation, Rating, Rejected, sample_to_json
from facellava.types import Sample

TRANSIENT = ("provider_failed", "worker_died")
"""Reasons that may have gone when a build is started again: these samples are tried anew."""


@dataclass(frozen=True, slots=True)
class Item:
    """One sample that waits for a stage: its journal key, its clip and, for rating, its annotation."""

    key: str
    sample: Sample
    clip: str
    annotation: Annotation | None = None


def item_key(sample: Sample, clip: str, made_by: str, text: str = "") -> str:
    """Journal key: everything that determines the result. Where the medium lies on this machine does not."""
    record = sample_to_json(sample)
    del record["media"]
    return hashlib.sha256(json.dumps([record, clip, made_by, text], sort_keys=True).encode()).hexdigest()


class Describe(Protocol):
    """Something that turns an item into a record, or raises ``Rejected``."""

    def __call__(self, item: Item) -> dict[str, Any]:
        """The journal row's content."""
        ...


@dataclass(frozen=True)
class AnnotateStage:
    """Makes a worker that annotates; ``make`` builds the annotator where the worker runs."""

    store: Path
    make: Callable[[], Annotator]

    def __call__(self) -> Describe:
        annotator, store = self.make(), ClipStore(self.store)
        return lambda item: _recorded(item, lambda: annotator.annotate(item.sample, store.load(item.clip)))


@dataclass(frozen=True)
class RateStage:
    """Makes a worker that rates; as ``AnnotateStage``."""

    store: Path
    make: Callable[[], Rater]

    def __call__(self) -> Describe:
        rater, store = self.make(), ClipStore(self.store)

        def rate(item: Item) -> dict[str, Any]:
            annotation = item.annotation
            assert annotation is not None
            return _recorded(item, lambda: rater.rate(item.sample, store.load(item.clip), annotation))

        return rate


def _recorded(item: Item, work: Callable[[], Annotation | Rating]) -> dict[str, Any]:
    started = time.monotonic()
    try:
        row = {"result": dataclasses.asdict(work())}
    except Rejected as rejected:
        row = {"code": rejected.code, "message": rejected.message}
    # the kind is a cost's: a video is shown as up to eight pictures (``facellava data plan``)
    return {**row, "kind": item.sample.kind, "seconds": round(time.monotonic() - started, 4)}


def died(error: WorkerDied) -> dict[str, Any]:
    """The row of an item whose worker ended without an answer."""
    return {"code": "worker_died", "message": str(error)}


def is_final(row: Any) -> bool:
    """Whether a journal row needs no further work."""
    return row.get("code", "") not in TRANSIENT
