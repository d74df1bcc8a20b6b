"""`read_media` on videos: sampling, real times, rotation, damage."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from face_helpers import scaled, write_video
from PIL import Image

from facellava.errors import DamagedMedia, MediaTooLarge, UnsupportedMedia
from facellava.face import Limits, read_media
from facellava.face.stretches import VideoFile, read_stretches
from facellava.types import Frames, Media


def ramp(count: int = 30) -> list[np.ndarray]:
    """Grey frames whose brightness is 8 times their number."""
    return [np.full((96, 160, 3), 8 * i, np.uint8) for i in range(count)]


def numbers(frames: Frames) -> list[int]:
    """Which frames of the ramp these are."""
    return np.rint(np.asarray(frames)[:, 48, 80].mean(axis=1) / 8).astype(int).tolist()


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("libx264", "a.mp4"),
        ("libx264", "a.mov"),
        ("libx264", "a.mkv"),
        ("libvpx-vp9", "a.webm"),
        ("mpeg4", "a.avi"),
        ("libx264", "a.ts"),
    ],
)
def test_uniform_sampling(tmp_path: Path, codec: str, name: str) -> None:
    path = write_video(tmp_path / name, ramp(), codec=codec)
    lying = path.rename(tmp_path / "picture.jpg")
    media = read_media(lying, max_frames=7)
    expected = np.linspace(0, 29, 7).astype(int)
    assert media.kind == "video"
    assert numbers(media.frames) == expected.tolist()
    assert media.times.tolist() == pytest.approx((expected * 0.04).tolist(), abs=1e-3)
    assert media.duration == pytest.approx(1.2, abs=0.05)
    assert numbers(read_media(lying.read_bytes()).frames) == list(range(30)), "fewer frames than asked for: all"


def test_variable_frame_rate_keeps_the_real_times(tmp_path: Path) -> None:
    milliseconds = [0, 10, 20, 500, 510, 2000, 2040, 2080, 4000, 4001]
    media = read_media(write_video(tmp_path / "vfr.mp4", ramp(10), milliseconds=milliseconds))
    assert numbers(media.frames) == list(range(10))
    assert (media.times * 1000).tolist() == pytest.approx(milliseconds, abs=0.6)
    part = read_media(tmp_path / "vfr.mp4", max_frames=4)
    assert numbers(part.frames) == [0, 3, 6, 9]
    assert (part.times * 1000).tolist() == pytest.approx([0, 500, 2040, 4001], abs=0.6)


def test_late_start_counts_from_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", ramp(5), milliseconds=[5000, 5040, 5080, 5120, 5160])
    assert read_media(path).times.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=1e-3)


def rotate_in_header(path: Path, degrees: int) -> None:
    """Set the display matrix of an MP4's track, as a phone held sideways does (clockwise to be shown upright)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the 3 x 3 matrix lies 40 bytes behind the name
    a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    struct.pack_into(">9i", data, at, a * one, b * one, 0, -b * one, a * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_metadata(astronaut: np.ndarray, tmp_path: Path, degrees: int) -> None:
    upright = scaled(astronaut[:400, 100:356], 0.5)
    stored = np.rot90(upright, degrees // 90)  # turned back counter-clockwise
    path = write_video(tmp_path / "phone.mp4", [stored] * 3)
    rotate_in_header(path, degrees)
    frames = read_media(path).frames
    assert frames.shape == (3, 200, 128, 3)
    assert np.abs(frames[1].astype(int) - upright).mean() < 8


def test_few_frames_of_a_long_video_are_decoded_from_key_frames(tmp_path: Path) -> None:
    frames = [np.full((64, 64, 3), 8 * (i % 30), np.uint8) for i in range(300)]
    media = read_media(write_video(tmp_path / "long.mp4", frames), max_frames=5)
    expected = np.linspace(0, 299, 5).astype(int)
    assert media.times.tolist() == pytest.approx((expected * 0.04).tolist(), abs=1e-3)
    assert (
        np.rint(np.asarray(media.frames)[:, 32, 32].mean(axis=1) / 8).astype(int).tolist() == (expected % 30).tolist()
    )


@pytest.mark.parametrize("part", [0.03, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.mp4", "front.mp4", "a.mkv", "a.avi"])
def test_truncated_videos_are_refused(astronaut: np.ndarray, tmp_path: Path, name: str, part: float) -> None:
    frames = [np.roll(astronaut[::2, ::2], 5 * i, axis=1) for i in range(20)]
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_video(tmp_path / name, frames, codec=codec, faststart=name.startswith("front"))
    data = path.read_bytes()
    assert len(read_media(data).frames) == 20
    with pytest.raises(DamagedMedia) as caught:
        read_media(data[: int(len(data) * part)])
    assert "\n" not in str(caught.value)


def test_sound_only_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UnsupportedMedia, match="no video track"):
        read_media(path)


def test_limits(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", ramp())
    with pytest.raises(MediaTooLarge):
        read_media(path, limits=Limits(max_pixels=96 * 160 - 1))
    with pytest.raises(MediaTooLarge):
        read_media(path, limits=Limits(max_duration=1.0))
    assert len(read_media(path, limits=Limits(max_memory=96 * 160 * 3 * 5)).frames) == 5


@pytest.mark.parametrize(("aspect", "width"), [("2/1", 320), ("1/4", 40), ("50/1", 160), ("1/40", 160)])
def test_pixels_are_made_square_where_the_header_can_be_true(tmp_path: Path, aspect: str, width: int) -> None:
    """Three flipped bits of a small file once asked for gigabytes."""
    path = write_video(tmp_path / "wide.mp4", ramp(5), options={"x264-params": f"sar={aspect}"})
    assert read_media(path).frames.shape == (5, 96, width, 3)
    (stretch,) = read_stretches(VideoFile.of(path, 1.0, 5, Limits()))
    assert isinstance(stretch.media, Media) and stretch.media.frames.shape[2] == width
    if width == 320:
        with pytest.raises(MediaTooLarge, match="320 x 96 pixels"):
            read_media(path, limits=Limits(max_pixels=96 * 160))


def growing(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """Motion JPEG whose frames have these sizes; the header states the first."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = (*sizes[0], "yuvj420p")
        for n, size in enumerate(sizes):
            file = io.BytesIO()
            Image.new("RGB", size, (90, 120, 130)).save(file, "JPEG")
            packet = av.Packet(file.getvalue())
            packet.pts = packet.dts = n
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            container.mux(packet)
    return path


def test_frames_that_grow_take_no_more_memory_than_was_planned(tmp_path: Path) -> None:
    path = growing(tmp_path / "grow.avi", [(64, 48), *[(640, 480)] * 7])
    frames = read_media(path, limits=Limits(max_memory=64 * 48 * 3 * 8)).frames
    assert frames.shape == (8, 48, 64, 3)
    with pytest.raises(MediaTooLarge, match="640 x 480 pixels"):
        read_media(path, limits=Limits(max_pixels=640 * 480 - 1))
