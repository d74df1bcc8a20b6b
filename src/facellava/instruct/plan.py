"""From measured costs per sample to the hours, disk, tokens and money of a larger build."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facellava.errors import FileMissing, UsageError
from facellava.files import json_row
from facellava.types import MediaKind

PAPER_IMAGES = 850_000
PAPER_VIDEO_HOURS = 120.0
"""About what FaceInstruct-1M holds: 35 h of expression and 84 h of deepfake videos (appendix E.6), else pictures."""
MEAN_CLIP_SECONDS = 3.2
"""Of those 119 h: 35 h in clips of 2.28 s and 84 h in clips of 3.87 s on average (appendix E.6)."""

KINDS: tuple[MediaKind, ...] = ("image", "video")


@dataclass(frozen=True)
class Calls:
    """What annotating or rating a sample costs: seconds, waiting included, and tokens (0 without a model)."""

    seconds: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True)
class Costs:
    """What samples cost in a finished or unfinished build; None where the build holds none of the kind.

    Tokens are those of samples that passed; what a refused answer cost is not in the journals.

    Attributes:
        image_seconds, video_second_seconds: processor seconds of preprocessing, of a picture and of a second of video.
        image_bytes, video_second_bytes: of the clip store.
        annotate, rate: per sample, by kind of medium.
        images, video_seconds: how much was measured.
    """

    image_seconds: float | None
    video_second_seconds: float | None
    image_bytes: float | None
    video_second_bytes: float | None
    annotate: Mapping[MediaKind, Calls]
    rate: Mapping[MediaKind, Calls]
    images: int
    video_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a build of ``images`` pictures and ``video_hours`` costs, if every sample is annotated and rated.

    Attributes:
        samples: pictures and clips. disk_gb: of the clip store, which a dataset with pixels needs once more.
        money: in the unit of the prices.
    """

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
    return Costs(
        image_seconds=_mean(pictures, "seconds") if pictures else None,
        video_second_seconds=sum(row["seconds"] for row in videos) / length if length else None,
        image_bytes=_mean(pictures, "bytes") if pictures else None,
        video_second_bytes=sum(row["bytes"] for row in videos) / length if length else None,
        annotate=_calls(journal / "annotate.jsonl"),
        rate=_calls(journal / "rate.jsonl"),
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
        prices: ``annotate_input``, ``annotate_output``, ``rate_input``, ``rate_output`` per million tokens; else 0.

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
    counts: dict[MediaKind, int] = {"image": images, "video": round(seconds / MEAN_CLIP_SECONDS)}
    work = images * (costs.image_seconds or 0) + seconds * (costs.video_second_seconds or 0)
    disk = images * (costs.image_bytes or 0) + seconds * (costs.video_second_bytes or 0)
    annotate, rate = (_total(counts, calls) for calls in (costs.annotate, costs.rate))
    rates = prices or {}
    money = sum(
        getattr(calls, f"{side}_tokens") * rates.get(f"{stage}_{side}", 0.0) / 1e6
        for stage, calls in (("annotate", annotate), ("rate", rate))
        for side in ("input", "output")
    )
    return Plan(
        images=images,
        video_hours=video_hours,
        samples=sum(counts.values()),
        preprocess_core_hours=work / 3600,
        preprocess_hours=work / 3600 / cores,
        annotate_hours=annotate.seconds / 3600 / concurrency,
        rate_hours=rate.seconds / 3600 / concurrency,
        disk_gb=disk / 1e9,
        input_tokens=round(annotate.input_tokens + rate.input_tokens),
        output_tokens=round(annotate.output_tokens + rate.output_tokens),
        money=money,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    """A journal's whole lines, the last one of each key."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        rows = [json_row(line) for line in file if line.endswith(b"\n")]
    return list({row["key"]: row for row in rows if row and "key" in row}.values())


def _mean(rows: Iterable[Mapping[str, Any]], name: str) -> float:
    values = [row[name] for row in rows]
    return statistics.fmean(values) if values else 0.0


def _calls(path: Path) -> dict[MediaKind, Calls]:
    """By kind; rows that do not say which one they are count for both."""
    found: dict[MediaKind, Calls] = {}
    for kind in KINDS:
        rows = [row for row in _rows(path) if row.get("kind", kind) == kind]
        passed = [row["result"] for row in rows if "result" in row]
        found[kind] = Calls(_mean(rows, "seconds"), _mean(passed, "input_tokens"), _mean(passed, "output_tokens"))
    return found


def _total(counts: Mapping[MediaKind, int], calls: Mapping[MediaKind, Calls]) -> Calls:
    """Of so many samples of each kind."""
    names = ("seconds", "input_tokens", "output_tokens")
    return Calls(*(sum(count * getattr(calls[kind], name) for kind, count in counts.items()) for name in names))
