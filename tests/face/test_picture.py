"""Frames kept as the decoder gives them: the same pixels as a whole conversion, cut or warped."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from face_helpers import scaled, write_video

from facellava.face import BlazeFaceDetector, read_media
from facellava.face.crop import cut_square, square_around
from facellava.face.nms import iou
from facellava.face.picture import VideoFrames, YuvPicture, part, pictures, warp, yuv_picture
from facellava.face.warp import Region

PRIMARIES = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3, "black": (0,) * 3}


def frame_of(pixels: np.ndarray, colorspace: str = "ITU601", *, full: bool = False) -> av.VideoFrame:
    """A decoder's frame, made by FFmpeg's own conversion."""
    source = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = source.reformat(
        format="yuv420p", dst_colorspace=colorspace, dst_color_range="JPEG" if full else "MPEG", interpolation="AREA"
    )
    frame.colorspace = {"ITU601": 5, "ITU709": 1}[colorspace]
    frame.color_range = 2 if full else 1
    return frame


def converted(pixels: np.ndarray, colorspace: str = "ITU601", *, full: bool = False) -> YuvPicture:
    picture = yuv_picture(frame_of(pixels, colorspace, full=full))
    assert picture is not None
    return picture


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("colorspace", ["ITU601", "ITU709"])
@pytest.mark.parametrize("colour", PRIMARIES)
def test_primaries_come_back(colour: str, colorspace: str, full: bool) -> None:
    pixels = np.full((32, 48, 3), PRIMARIES[colour], np.uint8)
    back = np.asarray(converted(pixels, colorspace, full=full))
    assert back.shape == (32, 48, 3)
    assert np.abs(back.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize(("height", "width"), [(512, 512), (301, 255), (64, 33)])
def test_any_part_is_the_whole_picture_s(astronaut: np.ndarray, height: int, width: int) -> None:
    picture = converted(astronaut[:height, :width])
    whole = np.asarray(picture)
    assert whole.shape == (height, width, 3) == picture.shape
    assert np.abs(whole.astype(int) - astronaut[:height, :width]).mean() < 2.5, "colour lives at half size"
    rng = np.random.default_rng(0)
    for _ in range(20):
        top, left = int(rng.integers(0, height - 8)), int(rng.integers(0, width - 8))
        bottom, right = int(rng.integers(top + 1, height + 1)), int(rng.integers(left + 1, width + 1))
        cut = part(picture, top, bottom, left, right)
        reference = whole[top:bottom, left:right]
        assert cut.shape == reference.shape
        inner = (slice(1, -1), slice(1, -1))  # colour is interpolated across the part's edge in the whole only
        assert np.abs(cut[inner].astype(int) - reference[inner]).max(initial=0) <= 1


@pytest.mark.parametrize("border", [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE])
def test_a_warp_of_the_planes_is_a_warp_of_the_picture(astronaut: np.ndarray, border: int) -> None:
    smooth = np.asarray(cv2.GaussianBlur(astronaut, (0, 0), 3), np.uint8)
    picture = converted(smooth)
    whole = np.asarray(picture)
    for region in (Region(250, 250, 512), Region(30, 490, 300, 0.4), Region(240, 100, 180, -0.2)):
        matrix = region.to_source(128)
        ours, reference = warp(picture, matrix, 128, border), warp(whole, matrix, 128, border)
        difference = np.abs(ours.astype(int) - reference)
        assert difference.mean() < 0.7 and np.percentile(difference, 99) <= 8, "but along the border of the picture"


def test_videos_hold_planes_and_give_rgb(astronaut: np.ndarray, tmp_path: Path, detector: BlazeFaceDetector) -> None:
    still = scaled(astronaut[:330, 60:390], 1.2)[:394, :394]
    path = write_video(tmp_path / "a.mp4", [still] * 4)
    frames = read_media(path).frames
    assert isinstance(frames, VideoFrames) and frames.shape == (4, 394, 394, 3) == np.asarray(frames).shape
    held = pictures(frames)[2]
    assert isinstance(held, YuvPicture) and held.nbytes == 394 * 394 * 3 // 2
    rgb = frames[2]
    assert np.abs(rgb.astype(int) - still).mean() < 5
    box, other = detector.detect(held)[0].box, detector.detect(rgb)[0].box
    assert iou(box, other[None])[0] > 0.99
    square = square_around(box, 0.5)  # reaches outside
    assert np.abs(cut_square(held, square).astype(int) - cut_square(rgb, square)).mean() < 0.5


def test_frames_of_another_size_are_brought_to_the_first_one_s(astronaut: np.ndarray) -> None:
    frames = VideoFrames([converted(astronaut), astronaut[::2, ::2], converted(astronaut[::2, ::2])])
    assert np.asarray(frames).shape == (3, 512, 512, 3)
    for frame in frames:
        assert np.abs(frame.astype(int) - astronaut).mean() < 12


def test_other_formats_are_left_to_the_decoder(astronaut: np.ndarray) -> None:
    frame = av.VideoFrame.from_ndarray(astronaut, format="rgb24")
    assert yuv_picture(frame) is None
    assert yuv_picture(frame.reformat(format="yuv444p")) is None
