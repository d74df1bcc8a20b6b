"""From the journals of a small build to the cost of a large one, computed by hand."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facellava.cli import data as verbs
from facellava.errors import FileMissing, UsageError
from facellava.instruct.plan import MEAN_CLIP_SECONDS, Calls, Costs, measure, plan

COSTS = Costs(
    image_seconds=0.02,
    video_second_seconds=0.5,
    image_bytes=30_000.0,
    video_second_bytes=100_000.0,
    annotate={"image": Calls(2.0, 1000.0, 100.0), "video": Calls(3.0, 4000.0, 200.0)},
    rate={"image": Calls(1.0, 1200.0, 50.0), "video": Calls(1.5, 4200.0, 60.0)},
    images=100,
    video_seconds=60.0,
)
PRICES = {"annotate_input": 0.1, "annotate_output": 0.4, "rate_input": 0.15, "rate_output": 0.6}


def test_a_million_samples_by_hand() -> None:
    """850,000 pictures and 120 h of video, which is 135,000 clips of 3.2 s."""
    got = plan(COSTS, cores=8, concurrency=32, prices=PRICES)
    assert (got.images, got.video_hours, got.samples) == (850_000, 120.0, 985_000)
    # 850,000 x 0.02 s + 432,000 s x 0.5 = 17,000 s + 216,000 s
    assert got.preprocess_core_hours == pytest.approx(233_000 / 3600)
    assert got.preprocess_hours == pytest.approx(233_000 / 3600 / 8)
    # 850,000 x 2 s + 135,000 x 3 s; 850,000 x 1 s + 135,000 x 1.5 s
    assert got.annotate_hours == pytest.approx(2_105_000 / 3600 / 32)
    assert got.rate_hours == pytest.approx(1_052_500 / 3600 / 32)
    # 25.5 GB + 43.2 GB
    assert got.disk_gb == pytest.approx(68.7)
    # 850,000 x (1,000 + 1,200) + 135,000 x (4,000 + 4,200); 850,000 x 150 + 135,000 x 260
    assert (got.input_tokens, got.output_tokens) == (2_977_000_000, 162_600_000)
    # annotate: 1,390 M x 0.1 + 112 M x 0.4; rate: 1,587 M x 0.15 + 50.6 M x 0.6
    assert got.money == pytest.approx(139.0 + 44.8 + 238.05 + 30.36)
    assert got.to_json()["samples"] == 985_000


def test_the_mean_clip_is_the_papers() -> None:
    """Appendix E.6: 35 h in clips of 2.28 s, 84 h in clips of 3.87 s."""
    clips = 35 * 3600 / 2.28 + 84 * 3600 / 3.87
    assert pytest.approx(119 * 3600 / clips, abs=0.05) == MEAN_CLIP_SECONDS


def test_nothing_is_paid_without_prices_and_nothing_done_without_samples() -> None:
    assert plan(COSTS).money == 0.0
    none = plan(COSTS, images=0, video_hours=0.0, prices=PRICES)
    assert (none.samples, none.preprocess_hours, none.disk_gb, none.input_tokens, none.money) == (0, 0.0, 0.0, 0, 0.0)


@pytest.mark.parametrize(("kind", "says"), [("image", "holds no picture"), ("video", "holds no video")])
def test_what_was_not_measured_is_not_planned(kind: str, says: str) -> None:
    lacking = {"image": {"image_seconds": None, "image_bytes": None, "images": 0}}.get(
        kind, {"video_second_seconds": None, "video_second_bytes": None, "video_seconds": 0.0}
    )
    costs = replace(COSTS, **lacking)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=says):
        plan(costs)
    wanted: dict[str, Any] = {"images": 0} if kind == "image" else {"video_hours": 0.0}
    assert plan(costs, **wanted).samples > 0


# --- measuring ---


def journal(build: Path, name: str, *rows: dict[str, Any], torn: str = "") -> None:
    path = build / "journal" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)


def clip(key: str, seconds: float, size: int, duration: float = 0.0) -> dict[str, Any]:
    return {"key": key, "clip": f"c{key}", "duration": duration, "seconds": seconds, "bytes": size, "code": ""}


def call(key: str, seconds: float, tokens: tuple[int, int] | None, **more: str) -> dict[str, Any]:
    row: dict[str, Any] = {"key": key, "seconds": seconds, **more}
    if tokens is None:
        return {**row, "code": "refused", "message": "no"}
    return {**row, "result": {"input_tokens": tokens[0], "output_tokens": tokens[1]}}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """Two pictures, two videos, a medium that was refused, an entry that was replaced and a torn line."""
    journal(
        tmp_path,
        "preprocess",
        clip("p1", 99.0, 99),
        clip("p1", 0.01, 20_000),
        clip("p2", 0.03, 40_000),
        clip("v1", 1.0, 100_000, 2.0),
        clip("v2", 2.0, 500_000, 4.0),
        {"key": "bad", "clip": None, "duration": 0.0, "seconds": 5.0, "bytes": 0, "code": "no_face"},
        torn='{"key": "torn", "cl',
    )
    journal(
        tmp_path,
        "annotate",
        call("1", 1.0, (900, 90), kind="image"),
        call("2", 3.0, (1100, 110), kind="image"),
        call("3", 8.0, None, kind="image"),
        call("4", 6.0, (5000, 200), kind="video"),
    )
    return tmp_path


def test_measured_by_hand(build: Path) -> None:
    got = measure(build)
    assert (got.images, got.video_seconds) == (2, 6.0)
    assert (got.image_seconds, got.image_bytes) == (pytest.approx(0.02), 30_000)
    # per second of video, not per clip
    assert (got.video_second_seconds, got.video_second_bytes) == (pytest.approx(0.5), 100_000)
    # a refused sample takes time, its tokens are not in the journal
    assert got.annotate == {"image": Calls(4.0, 1000.0, 100.0), "video": Calls(6.0, 5000.0, 200.0)}
    assert got.rate == {"image": Calls(), "video": Calls()}


def test_rows_that_do_not_say_their_kind_count_for_both(build: Path) -> None:
    journal(build, "rate", call("1", 1.0, (1000, 50)), call("2", 2.0, (3000, 70)))
    assert measure(build).rate == dict.fromkeys(("image", "video"), Calls(1.5, 2000.0, 60.0))


def test_no_build_no_measure(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FileMissing, match="holds no preprocessed sample: run 'facellava data build'"):
            measure(folder)
    journal(tmp_path, "preprocess", {"key": "x", "clip": None, "duration": 0.0, "seconds": 1.0, "bytes": 0})
    with pytest.raises(FileMissing, match="holds no preprocessed sample"):
        measure(tmp_path)


def test_the_command_line_plans_the_paper_by_default() -> None:
    ours, theirs = inspect.signature(verbs.plan).parameters, inspect.signature(plan).parameters
    for name in ("images", "video_hours", "cores", "concurrency"):
        assert ours[name].default == theirs[name].default
