"""The whole way: media in, face clips out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from face_helpers import on_grey, scaled, write_video

from facellava.errors import (
    FaceLeavesFrame,
    LandmarksFailed,
    NoFace,
    SeveralFaces,
    UsageError,
    WeightsUnavailable,
)
from facellava.face import BlazeFaceDetector, Detection, FaceFrontEnd, LandmarkResult, MeshLandmarker, read_media
from facellava.face.crop import Square, cut_square, square_around
from facellava.face.nms import iou
from facellava.face.track import link


def face_of(side: float, picture: np.ndarray, detector: BlazeFaceDetector) -> np.ndarray:
    """The picture scaled so that its face's box has this side."""
    return scaled(picture, side / detector.detect(picture)[0].side)


def group(
    portraits: list[np.ndarray], detector: BlazeFaceDetector, count: int, side: int, seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """`count` faces of `side` pixels on a 1200 x 800 canvas, in two rows, jittered; and their boxes."""
    rng = np.random.default_rng(seed)
    canvas, boxes = np.full((800, 1200, 3), 100, np.uint8), []
    columns = (count + 1) // 2
    cell = 1200 // columns
    for k in range(count):
        picture = face_of(side, portraits[k % len(portraits)], detector)[:380, :cell]
        x, y = (k % columns) * cell, (k // columns) * 400 + int(rng.integers(0, 20))
        x += int(rng.integers(0, max(1, cell - picture.shape[1])))
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        boxes.append(detector.detect(picture)[0].box + np.array([x, y, x, y]))
    return canvas, boxes


@pytest.mark.parametrize(("count", "side"), [(2, 220), (6, 150), (8, 120)])
def test_group_photo(
    front_end: FaceFrontEnd, detector: BlazeFaceDetector, portraits: list[np.ndarray], count: int, side: int
) -> None:
    canvas, boxes = group(portraits, detector, count, side, seed=count)
    media = read_media(canvas)
    clips = front_end.clips(media)
    assert len(clips) == count, "all of them, none twice"
    assert [c.face_id for c in clips] == list(range(count))
    centres = [(c.boxes[0, 0] + c.boxes[0, 2]) / 2 for c in clips]
    assert centres == sorted(centres), "left to right"
    for box in boxes:
        assert max(float(iou(box, c.boxes)[0]) for c in clips) > 0.5
    again = front_end.clips(media)
    assert all((a.boxes == b.boxes).all() for a, b in zip(clips, again, strict=True))


def test_a_portrait(front_end: FaceFrontEnd, astronaut: np.ndarray) -> None:
    media = read_media(astronaut)
    (clip,) = front_end.clips(media)
    assert clip.frames.shape == (1, 256, 256, 3)
    assert (clip.face_id, clip.margin, clip.spans) == (0, 0.0, ((0.0, 0.0),))
    assert clip.source.sha256 == media.sha256
    assert 0 < clip.landmarks.min() < clip.landmarks.max() < 1.1
    assert clip.landmarks[0, 36, 0] < 0.5 < clip.landmarks[0, 45, 0]
    assert clip.quality.size == pytest.approx(95, abs=3)
    assert abs(clip.quality.yaw) < 10
    assert clip.quality.score > 0.8
    soft = np.asarray(scaled(scaled(astronaut, 0.2), 5))
    (blurred,) = front_end.clips(read_media(soft))
    assert blurred.quality.blur < clip.quality.blur / 3


def test_landmarks_follow_the_crop(resolve: Callable[[str], Path], astronaut: np.ndarray) -> None:
    """The same face point has the same source pixel whatever the margin."""
    places = []
    for margin in (0.0, 0.6):
        (clip,) = FaceFrontEnd(resolve, margin=margin).clips(read_media(astronaut))
        square = square_around(clip.boxes[0], margin)
        assert clip.margin == margin
        assert square.side == pytest.approx((1 + margin) * 95, abs=3)
        places.append(clip.landmarks[0] * square.side + [square.x, square.y])
        centre = square.x + square.side / 2, square.y + square.side / 2
        assert centre == pytest.approx((clip.boxes[0, :2] + clip.boxes[0, 2:]) / 2, abs=1)
    assert np.abs(places[0] - places[1]).max() < 0.01


def test_crop_outside_the_picture_repeats_the_edge() -> None:
    x, y = np.meshgrid(np.arange(100), np.arange(80))
    frame = np.dstack([x, y, x * 0]).astype(np.uint8)
    inside = cut_square(frame, Square(10, 10, 256 // 4))
    assert inside[128, 128, :2].tolist() == pytest.approx([42, 42], abs=1)
    corner = cut_square(frame, Square(-32, -32, 64))
    assert (corner[:120, :120, :2] == 0).all()
    assert corner[255, 255, :2].tolist() == pytest.approx([31, 31], abs=1)
    far = cut_square(frame, Square(150, 20, 40))
    assert (far[..., 0] == 99).all()
    over = cut_square(frame, Square(-50, -60, 200))
    assert over.shape == (256, 256, 3)
    assert over[-1, -1, :2].tolist() == [99, 79]
    fine = np.indices((1024, 1024)).sum(0) % 2 * 255
    shrunk = cut_square(np.dstack([fine] * 3).astype(np.uint8), Square(0, 0, 1024))
    assert shrunk.std() < 1, "a checkerboard of single pixels averages to grey"


def sequence(astronaut: np.ndarray, pattern: str) -> list[np.ndarray]:
    """F: the face, moving a little; -: an empty frame; 2: two faces."""
    head, frames = astronaut[0:280, 80:380], []
    for i, sign in enumerate(pattern):
        frame = np.full((320, 720, 3), 120, np.uint8)
        if sign in "F2":
            frame[20:300, 20 + 3 * i : 320 + 3 * i] = head
        if sign == "2":
            frame[20:300, 400:700] = head[:, ::-1]
        frames.append(frame)
    return frames


def test_gaps_are_explicit(front_end: FaceFrontEnd, astronaut: np.ndarray, tmp_path: Path) -> None:
    media = read_media(write_video(tmp_path / "gap.mp4", sequence(astronaut, "-FFF--FFFF-F")))
    (clip,) = front_end.clips(media)
    assert clip.times.tolist() == pytest.approx([0.04 * i for i in (1, 2, 3, 6, 7, 8, 9, 11)], abs=1e-3)
    assert np.ravel(clip.spans).tolist() == pytest.approx([0.04, 0.12, 0.24, 0.36, 0.44, 0.44], abs=1e-3)
    assert len(clip.frames) == len(clip.landmarks) == len(clip.boxes) == 8
    assert (clip.source.fps, clip.source.duration) == pytest.approx((25, 0.48), abs=0.05)
    moved = clip.boxes[-1, 0] - clip.boxes[0, 0]
    assert moved == pytest.approx(30, abs=8), "boxes are not smoothed"


def test_several_faces_over_time(front_end: FaceFrontEnd, astronaut: np.ndarray, tmp_path: Path) -> None:
    media = read_media(write_video(tmp_path / "two.mp4", sequence(astronaut, "FF222F2")))
    first, second = front_end.clips(media)
    assert (first.face_id, second.face_id) == (0, 1)
    assert len(first.times) == 7
    assert second.times.tolist() == pytest.approx([0.08, 0.12, 0.16, 0.24], abs=1e-3)
    assert len(second.spans) == 2
    assert first.boxes[:, 0].max() < second.boxes[:, 0].min()


def test_paper_policy(paper_front_end: FaceFrontEnd, astronaut: np.ndarray, tmp_path: Path) -> None:
    def clips(pattern: str) -> list:
        path = write_video(tmp_path / f"{len(pattern)}.mp4", sequence(astronaut, pattern))
        return paper_front_end.clips(read_media(path))

    (clip,) = clips("FFFF")
    assert clip.spans == ((0.0, pytest.approx(0.12, abs=1e-3)),)
    with pytest.raises(FaceLeavesFrame, match=r"frame 2 \(0\.08 s\)"):
        clips("FF-FF")
    with pytest.raises(SeveralFaces, match=r"2 faces in frame 3 \(0\.12 s\)"):
        clips("FFF222")
    with pytest.raises(NoFace):
        clips("---")


class FailsAt:
    """The real landmarker, except that it gives up on the n-th face it is shown."""

    def __init__(self, inner: MeshLandmarker, failing: set[int]) -> None:
        self.inner, self.failing, self.calls = inner, failing, 0

    def __call__(self, frame: np.ndarray, detection: Detection) -> LandmarkResult | None:
        self.calls += 1
        return None if self.calls - 1 in self.failing else self.inner(frame, detection)


def test_failed_landmarks(
    resolve: Callable[[str], Path], landmarker: MeshLandmarker, astronaut: np.ndarray, tmp_path: Path
) -> None:
    media = read_media(write_video(tmp_path / "a.mp4", sequence(astronaut, "FFFFF")))
    (clip,) = FaceFrontEnd(resolve, landmarker=FailsAt(landmarker, {2})).clips(media)
    assert len(clip.times) == 4
    assert len(clip.spans) == 2
    with pytest.raises(LandmarksFailed, match=r"frame 2 \(0\.08 s\)"):
        FaceFrontEnd(resolve, policy="paper", landmarker=FailsAt(landmarker, {2})).clips(media)
    with pytest.raises(NoFace, match="landmarks"):
        FaceFrontEnd(resolve, landmarker=FailsAt(landmarker, set(range(5)))).clips(media)


def test_no_face(front_end: FaceFrontEnd) -> None:
    with pytest.raises(NoFace) as caught:
        front_end.clips(read_media(np.full((600, 900, 3), 70, np.uint8)))
    assert "\n" not in str(caught.value)


def test_wrong_options_and_missing_weights(resolve: Callable[[str], Path], astronaut: np.ndarray) -> None:
    with pytest.raises(UsageError):
        FaceFrontEnd(resolve, margin=-0.1)
    with pytest.raises(UsageError):
        FaceFrontEnd(resolve, policy="strict")
    lazy = FaceFrontEnd(lambda name: Path("/nonexistent") / name)  # nothing is loaded yet
    with pytest.raises(WeightsUnavailable):
        lazy.clips(read_media(astronaut))


def detection(x: float, y: float, side: float = 100) -> Detection:
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return Detection(box, 0.9, np.zeros((6, 2), np.float32))


def test_tracks_cross_without_swapping() -> None:
    frames = [[detection(100 + 40 * i, 100), detection(500 - 40 * i, 260)] for i in range(11)]
    shuffled = [pair if i % 2 else pair[::-1] for i, pair in enumerate(frames)]
    tracks = link(shuffled, np.arange(11) * 0.2)
    assert len(tracks) == 2
    assert [d.centre[1] for d in tracks[0].detections] == [100] * 11
    assert [d.centre[1] for d in tracks[1].detections] == [260] * 11


def test_a_jump_or_another_size_is_another_face() -> None:
    times = np.array([0.0, 0.04])
    assert len(link([[detection(100, 100)], [detection(400, 100)]], times)) == 2
    assert len(link([[detection(100, 100)], [detection(100, 100, side=250)]], times)) == 2
    assert len(link([[detection(100, 100)], [detection(230, 100)]], np.array([0.0, 2.0]))) == 1
    assert len(link([[detection(100, 100)], [], [], [detection(110, 100)]], np.arange(4.0))) == 1


def test_one_instance_per_thread(resolve: Callable[[str], Path], astronaut: np.ndarray) -> None:
    media = read_media(astronaut)

    def boxes(_: int) -> list:
        front_end = FaceFrontEnd(resolve)
        return [front_end.clips(media)[0].landmarks.tolist() for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(boxes, range(4)))
    assert all(landmarks == results[0][0] for rows in results for landmarks in rows)


def test_import_is_light() -> None:
    code = (
        "import sys, facellava.face; heavy = {'torch', 'transformers', 'av', 'ai_edge_litert', 'pillow_heif'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_nothing_is_printed(resolve: Callable[[str], Path], tmp_path: Path) -> None:
    """LiteRT's notice about its delegate would otherwise stand before our own line of error."""
    code = (
        "import sys, numpy as np; from pathlib import Path; from facellava.face import BlazeFaceDetector;"
        "BlazeFaceDetector(Path(sys.argv[1])).detect(np.zeros((9, 9, 3), np.uint8)); print('shown', file=sys.stderr)"
    )
    path = resolve("blazeface-short-range")
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "shown\n")


def test_faces_at_the_edge(front_end: FaceFrontEnd, astronaut: np.ndarray) -> None:
    """A face cut by the picture's edge still gives a full crop."""
    canvas = on_grey(astronaut[60:, 180:], 400, 400, 0, 0)
    (clip,) = front_end.clips(read_media(canvas))
    assert clip.frames.shape == (1, 256, 256, 3)
    assert np.isfinite(clip.landmarks).all()
