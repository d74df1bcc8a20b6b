"""Stretches of a video: all of the time once, from anywhere, past damage, a few frames at a time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from facellava.errors import DamagedMedia, FileMissing, MediaTooLarge, UsageError
from facellava.face import stretches as stretches_module
from facellava.face.limits import Limits
from facellava.face.picture import Picture
from facellava.face.stretches import Stretch, VideoFile, read_stretches
from facellava.types import Media

RATE = 5
FORMATS = {"mp4": "mpeg4", "matroska": "libx264", "mpegts": "mpeg2video", "avi": "mpeg4", "webm": "libvpx"}


def counting(path: Path, frames: int, fmt: str = "mp4") -> Path:
    """A video whose n-th frame is a grey that grows with n, and noise that keeps frames from being small."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format=fmt) as container:
        stream = container.add_stream(FORMATS[fmt], rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", RATE
        if fmt == "webm":
            stream.options = {"auto-alt-ref": "0"}
        for n in range(frames):
            pixels = np.full((48, 64, 3), 20 + n, np.uint8) + rng.integers(0, 3, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def stretches(path: Path, seconds: float = 2.0, frames: int = 4, first: int = 0, **limits: float) -> list[Stretch]:
    file = VideoFile.of(path, seconds, frames, Limits(**limits))  # pyright: ignore[reportArgumentType]
    return list(read_stretches(file, first))


def check_cover(found: list[Stretch], end: float, first: int = 0, seconds: float = 2.0) -> None:
    """All of the time, once."""
    assert found[0].number == first
    assert found[0].start == first * seconds
    for before, after in pairwise(found):
        assert (before.end, before.after) == (after.start, after.number)
    assert found[-1].end == pytest.approx(end, abs=0.01)


@pytest.mark.parametrize("fmt", FORMATS)
def test_all_of_the_time_once(tmp_path: Path, fmt: str) -> None:
    found = stretches(counting(tmp_path / "a", 33, fmt))
    check_cover(found, 6.6)
    assert [s.number for s in found] == [0, 1, 2, 3]
    media = [s.media for s in found]
    assert all(isinstance(m, Media) and len(m.frames) == n for m, n in zip(media, (4, 4, 4, 1), strict=True))
    assert media[1].times == pytest.approx([2.0, 2.6, 3.0, 3.6], abs=0.01)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("first", [1, 3])
def test_beginning_anywhere_gives_the_same(tmp_path: Path, fmt: str, first: int) -> None:
    path = counting(tmp_path / "a", 33, fmt)
    whole, part = stretches(path)[first:], stretches(path, first=first)
    assert [s[:4] for s in part] == [s[:4] for s in whole]
    for a, b in zip(part, whole, strict=True):
        assert isinstance(a.media, Media) and isinstance(b.media, Media)
        np.testing.assert_array_equal(a.media.times, b.media.times)
        np.testing.assert_array_equal(np.asarray(a.media.frames), np.asarray(b.media.frames))


def test_beginning_after_the_end_gives_nothing(tmp_path: Path) -> None:
    assert stretches(counting(tmp_path / "a", 20), first=2) == []


def test_fewer_frames_than_wanted_are_all_taken(tmp_path: Path) -> None:
    found = stretches(counting(tmp_path / "a", 20), frames=64)
    assert [len(s.media.frames) for s in found if isinstance(s.media, Media)] == [10, 10]


def test_damage_costs_its_stretch(tmp_path: Path) -> None:
    path = counting(tmp_path / "a", 100)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) * 6 // 10] = b"\x55" * (len(data) * 6 // 10 - len(data) // 2)
    path.write_bytes(data)
    found = stretches(path)
    check_cover(found, 20.0)
    bad = [s.number for s in found if isinstance(s.media, DamagedMedia)]
    assert bad
    assert set(bad) <= {3, 4, 5, 6}
    assert all(isinstance(s.media, Media) for s in found if s.number < 3 or s.number > 6)
    message = next(str(s.media) for s in found if s.number == bad[0])
    assert "damaged" in message or "no frame" in message
    assert "\n" not in message


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = counting(tmp_path / "a", 100, "matroska")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = stretches(path)
    check_cover(found, 20.0)
    assert isinstance(found[0].media, Media)
    last = found[-1]
    assert isinstance(last.media, DamagedMedia)
    assert "ends before its stated length" in str(last.media)
    assert 5 < last.start < 15


def test_time_without_frames_is_one_stretch(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pts in [*range(10), *range(51, 60)]:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = stretches(path)
    check_cover(found, 12.0)
    assert [(s.number, s.after, isinstance(s.media, Media)) for s in found] == [
        (0, 1, True),
        (1, 5, False),
        (5, 6, True),
    ]


def test_large_frames_are_refused_window_by_window(tmp_path: Path) -> None:
    found = stretches(counting(tmp_path / "a", 20), max_memory=10_000)
    assert all(isinstance(s.media, MediaTooLarge) for s in found)
    check_cover(found, 4.0)


@pytest.mark.parametrize(("seconds", "frames"), [(0.05, 4), (4000.0, 4), (5.0, 0), (5.0, 65), (float("nan"), 4)])
def test_wishes_that_make_no_sense(tmp_path: Path, seconds: float, frames: int) -> None:
    with pytest.raises(UsageError, match="choose between"):
        stretches(counting(tmp_path / "a", 5), seconds, frames)


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UsageError, match="no video"):
        stretches(picture)
    with pytest.raises(FileMissing):
        stretches(tmp_path / "nothing")
    broken = tmp_path / "b.mp4"
    broken.write_bytes(counting(tmp_path / "c", 20).read_bytes()[:300])
    with pytest.raises(DamagedMedia):
        stretches(broken)


def test_a_frame_that_cannot_be_converted_costs_its_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, seen = counting(tmp_path / "a.mp4", 30), stretches_module.upright, []

    def upright(frame: av.VideoFrame, stream: av.VideoStream) -> Picture:
        seen.append(frame.pts)
        if len(seen) == 6:  # as the library does for formats that it has no converter for
            raise av.error.OSError(95, "Operation not supported")
        return real(frame, stream)

    monkeypatch.setattr(stretches_module, "upright", upright)
    found = stretches(path)
    assert [type(s.media) for s in found] == [Media, DamagedMedia, Media]
    assert "Operation not supported" in str(found[1].media)
