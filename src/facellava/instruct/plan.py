"""From measured costs per sample to the hours, disk, tokens and money of a larger build."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facellava.errors import FileMissing, UsageError

PAPER_IMAGES = 850_000
PAPER_VIDEO_HOURS = 120.0
"""About what FaceInstruct-1M holds: 35 h of expression and 84 h of deepfake videos (appendix E.6), the rest pictures."""
MEAN_CLIP_SECONDS = 2.9
"""Of the paper's videos: between 2.28 s (expression) and 3.87 s (deepfake)."""


@dataclass(frozen=True)
class Costs:
    """What one sample cost in a finished or unfinished build; None where the build holds none of the kind.

    Attributes:
        image_seconds, video_second_seconds: processor seconds of preprocessing, of a picture and of a second of video.
        image_bytes, video_second_bytes: of the clip store.
        annotate_tokens, rate_tokens: (input, output) of one sample, 0 where no service was asked.
        annotate_seconds, rate_seconds: of one sample, waiting included.
        images, video_seconds: how much was measured.
    """

    image_seconds: float | None
    video_second_seconds: float | None
    image_bytes: float | None
    video_second_bytes: float | None
    annotate_tokens: tuple[float, float]
    rate_tokens: tuple[float, float]
    annotate_seconds: float
    rate_seconds: float
    images: int
    video_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a build of ``images`` pictures and ``video_hours`` costs; money in the unit of the prices."""

    images: int
    video_hours: float
    samples: int
    preprocess_core_hours: float
    preprocess_hours: float
    annotate_hours: float
    rate_hours: float
    disk_gb: float
    input_tokens: int
    output_tokens: int
    money: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(build: Path) -> Costs:
    """The costs of a build, from its journals.

    Raises:
        FileMissing: the folder is no build, or nothing was preprocessed in it yet.
    """
    journal = build / "journal"
    clips = [row for row in _rows(journal / "preprocess.jsonl") if row["clip"]]
    if not clips:
        raise FileMissing(
            f"{build} holds no preprocessed sample: run 'facellava data build' on a part of the data first"
        )
    pictures = [row for row in clips if not row["duration"]]
    videos = [row for row in clips if row["duration"]]
    length = sum(row["duration"] for row in videos)
    annotate, rate = _rows(journal / "annotate.jsonl"), _rows(journal / "rate.jsonl")
    return Costs(
        image_seconds=_mean(pictures, "seconds"),
        video_second_seconds=sum(row["seconds"] for row in videos) / length if length else None,
        image_bytes=_mean(pictures, "bytes"),
        video_second_bytes=sum(row["bytes"] for row in videos) / length if length else None,
        annotate_tokens=_tokens(annotate),
        rate_tokens=_tokens(rate),
        annotate_seconds=_mean(annotate, "seconds") or 0.0,
        rate_seconds=_mean(rate, "seconds") or 0.0,
        images=len(pictures),
        video_seconds=length,
    )


def plan(
    costs: Costs,
    *,
    images: int = PAPER_IMAGES,
    video_hours: float = PAPER_VIDEO_HOURS,
    cores: int = 1,
    concurrency: int = 1,
    prices: Mapping[str, float] | None = None,
) -> Plan:
    """Scale measured costs.

    Args:
        images, video_hours: of the larger build.
        cores: that preprocess at once.
        concurrency: samples that are annotated (and rated) at once.
        prices: ``annotate_input``, ``annotate_output``, ``rate_input``, ``rate_output`` per million tokens; 0 if absent.

    Raises:
        UsageError: pictures or videos are planned of which none were measured.
    """
    seconds = video_hours * 3600
    for wanted, cost, kind in (
        (images, costs.image_seconds, "picture"),
        (seconds, costs.video_second_seconds, "video"),
    ):
        if wanted and cost is None:
            raise UsageError(f"the measured build holds no {kind}: measure one that does, or plan without (0)")
    samples = images + round(seconds / MEAN_CLIP_SECONDS)
    work = images * (costs.image_seconds or 0) + seconds * (costs.video_second_seconds or 0)
    disk = images * (costs.image_bytes or 0) + seconds * (costs.video_second_bytes or 0)
    rates = prices or {}
    stages = {"annotate": costs.annotate_tokens, "rate": costs.rate_tokens}
    money = sum(
        samples * tokens[n] * rates.get(f"{stage}_{side}", 0.0) / 1e6
        for stage, tokens in stages.items()
        for n, side in enumerate(("input", "output"))
    )
    return Plan(
        images=images,
        video_hours=video_hours,
        samples=samples,
        preprocess_core_hours=work / 3600,
        preprocess_hours=work / 3600 / cores,
        annotate_hours=samples * costs.annotate_seconds / 3600 / concurrency,
        rate_hours=samples * costs.rate_seconds / 3600 / concurrency,
        disk_gb=disk / 1e9,
        input_tokens=round(samples * (costs.annotate_tokens[0] + costs.rate_tokens[0])),
        output_tokens=round(samples * (costs.annotate_tokens[1] + costs.rate_tokens[1])),
        money=money,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def _mean(rows: Iterable[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if name in row]
    return statistics.fmean(values) if values else None


def _tokens(rows: list[dict[str, Any]]) -> tuple[float, float]:
    results = [row["result"] for row in rows if "result" in row]
    return _mean(results, "input_tokens") or 0.0, _mean(results, "output_tokens") or 0.0
