"""Clips on disk: what goes in comes out, with the losses of JPEG and H.264 only, and the same bytes each time."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors import safe_open

from facellava.errors import FileMissing
from facellava.instruct.clipstore import ClipStore
from facellava.types import FaceClip, Quality, Source


def clip(count: int, times: list[float] | None = None) -> FaceClip:
    """A smooth moving picture with random points."""
    rng = np.random.default_rng(count)
    y, x = np.mgrid[:256, :256]
    frames = [np.stack([x, (y + 5 * t) % 256, 255 - x], -1) // 2 + 40 for t in range(count)]
    return FaceClip(
        frames=np.stack(frames).astype(np.uint8),
        landmarks=rng.random((count, 68, 2), np.float32),
        blendshapes=rng.random((count, 52), np.float32),
        boxes=rng.random((count, 4), np.float32),
        times=np.array(times if times is not None else np.arange(count) / 25),
        face_id=3,
        quality=Quality(120.0, 55.5, -3.0, 2.0, 1.0, 0.9),
        source=Source("ab" * 32, 25.0, 2.0),
        margin=0.25,
        spans=((0.0, 1.5),),
    )


@pytest.mark.parametrize("count", [1, 7])
def test_round_trip(tmp_path: Path, count: int) -> None:
    store, given = ClipStore(tmp_path), clip(count)
    assert "k1" not in store
    assert store.save("k1", given) == store.path("k1").stat().st_size
    got = store.load("k1")
    for name in ("landmarks", "blendshapes", "boxes", "times"):
        np.testing.assert_array_equal(getattr(got, name), getattr(given, name))
    assert (got.quality, got.source, got.margin, got.spans) == (given.quality, given.source, 0.25, ((0.0, 1.5),))
    assert np.abs(got.frames.astype(int) - given.frames).mean() < 4
    points, _, times, _, _ = store.measured("k1")
    assert points.shape == (count, 68, 2) and times.shape == (count,)
    assert store.source("k1") == given.source


def test_crops_from_the_corner_say_so_and_centred_ones_keep_their_bytes(tmp_path: Path) -> None:
    store, given = ClipStore(tmp_path), clip(1)
    store.save("centred", given)
    store.save("corner", dataclasses.replace(given, crop="corner"))
    assert [store.load(key).crop for key in ("centred", "corner")] == ["centred", "corner"]
    assert [store.measured(key).crop for key in ("centred", "corner")] == ["centred", "corner"]
    with safe_open(store.path("centred"), "numpy") as file:
        assert "crop" not in json.loads(file.metadata()["clip"])


def test_same_clip_same_bytes(tmp_path: Path) -> None:
    given = clip(12)
    for name in ("a", "b"):
        ClipStore(tmp_path / name).save("k", given)
    assert ClipStore(tmp_path / "a").path("k").read_bytes() == ClipStore(tmp_path / "b").path("k").read_bytes()


def test_video_plays_at_its_own_times_even_where_they_repeat(tmp_path: Path) -> None:
    store, times = ClipStore(tmp_path), [0.0, 0.04, 0.04, 0.5, 2.0]
    store.save("k", clip(5, times))
    data, media_type = store.encoded("k")
    assert media_type == "video/mp4"
    with av.open(io.BytesIO(data)) as container:
        shown = [round(float(frame.time), 3) for frame in container.decode(video=0)]
    assert shown == [0.0, 0.04, 0.041, 0.5, 2.0]


def test_missing_clip_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="run the build again"):
        ClipStore(tmp_path).load("nothing")
