"""What the ``utils.py`` of a written task calls: our pictures, questions, parser and metrics, nothing of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from facellava import settings
from facellava.errors import FileMissing
from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.records import record_from_json, record_to_json
from facellava.evaluation.score import score
from facellava.face import read_media

BENCHMARK, SAMPLES = "benchmark.json", "samples.jsonl"
ONLY_TYPED = ("in_range",)
"""Metrics of typed predictions, which a harness has none of."""


def metric_names(benchmark: Benchmark) -> tuple[str, ...]:
    """The benchmark's metrics that words alone give, the headline first."""
    return tuple(name for name in benchmark.metrics if name not in ONLY_TYPED)


def identifier(metric: str) -> str:
    """A metric's name as a Python name: ``f1.AU12`` -> ``f1_AU12``."""
    return "".join(c if c.isalnum() else "_" for c in metric)


class HarnessTask:
    """One written task.

    Args:
        folder: that ``write_tasks`` wrote.

    Raises:
        FileMissing: it holds no task.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / BENCHMARK
        if not path.is_file():
            raise FileMissing(f"{path} is missing: write the task again")
        raw = json.loads(path.read_text(encoding="utf-8"))
        self.folder, self.benchmark = folder, settings.build(Benchmark, raw, str(path))

    def doc_to_visual(self, doc: Mapping[str, Any]) -> list[Any]:
        """Pictures, upright and RGB, or the path of a video."""
        paths = [self.folder / name for name in doc["files"]]
        if doc["is_video"]:
            return [str(path) for path in paths]
        return [Image.fromarray(read_media(path, max_frames=1).frames[0]) for path in paths]

    def doc_to_text(self, doc: Mapping[str, Any], kwargs: Mapping[str, Any] | None = None) -> str:
        """The question; ``asked`` names the column, by which models of ours are asked their own."""
        return doc[(kwargs or {}).get("asked", "question")]

    def process_results(self, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        """The sample's record with its answer, under the name of every metric."""
        empty = record_from_json(json.loads(doc["record"]))
        parsed = self.benchmark.spec.parse(results[0])
        read = getattr(parsed, self.benchmark.spec.field)
        record = dataclasses.replace(empty, text=results[0], parsed=read, outcome=parsed.outcome)
        return dict.fromkeys(metric_names(self.benchmark), record_to_json(record))

    def metric(self, name: str) -> Callable[[Sequence[Mapping[str, Any]]], float]:
        """From all records to one number, votes and folds included."""

        def aggregate(rows: Sequence[Mapping[str, Any]]) -> float:
            # through JSON, so that it makes no difference whether the harness kept or reloaded them
            records = [record_from_json(json.loads(json.dumps(row))) for row in rows]
            return score(self.benchmark, records, draws=0).views["text"][name].value

        return aggregate
