"""Detection of every k-th frame: few looks where nothing happens, all of them where something does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from face_helpers import on_grey, scaled, write_video

from facellava.errors import FaceLeavesFrame, UsageError
from facellava.face import Detection, FaceFrontEnd, read_media
from facellava.face.nms import iou
from facellava.face.picture import Picture
from facellava.face.sparse import detect_sparsely


class Counting:
    """A detector that knows where the faces are and counts how often it is asked."""

    def __init__(self, lefts: list[list[float]]) -> None:
        self.lefts, self.asked = lefts, list[int]()

    def detect(self, frame: Picture) -> list[Detection]:
        number = int(np.asarray(frame)[0, 0, 0])
        self.asked.append(number)
        points = np.zeros((6, 2), np.float32)
        return [
            Detection(np.array([x, 0, x + 100, 100], np.float32), 0.9 - 0.1 * (number % 2), points + np.float32(x))
            for x in self.lefts[number]
        ]

    def run(self, every: int) -> list[list[Detection]]:
        frames = [np.full((4, 4, 3), number, np.uint8) for number in range(len(self.lefts))]
        return detect_sparsely(self, frames, every)


def lefts(found: list[list[Detection]]) -> list[list[float]]:
    return [[float(d.box[0]) for d in faces] for faces in found]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 11, 13])
def test_steady_movement_is_interpolated(count: int) -> None:
    detector = Counting([[2.0 * n, 500 - 3.0 * n] for n in range(count)])
    found = detector.run(5)
    assert lefts(found) == [pytest.approx([2.0 * n, 500 - 3.0 * n], abs=1e-3) for n in range(count)]
    assert sorted(detector.asked) == sorted({*range(0, count, 5), count - 1})
    if count > 5:
        between = found[3][0]
        assert between.score == pytest.approx(0.8) and between.keypoints[0].tolist() == pytest.approx([6, 6], abs=1e-3)


def test_every_frame_is_looked_at_by_default() -> None:
    detector = Counting([[0.0]] * 7)
    detector.run(1)
    assert sorted(detector.asked) == list(range(7))


@pytest.mark.parametrize("at", range(1, 10))
def test_a_jump_is_found_to_the_frame(at: int) -> None:
    truth = [[0.0] if n < at else [300.0] for n in range(11)]
    detector = Counting(truth)
    assert lefts(detector.run(5)) == truth
    assert len(detector.asked) == len(set(detector.asked)) < 9


def test_a_face_that_comes_or_goes_is_looked_for() -> None:
    truth = [[0.0] if n < 3 else [0.0, 400.0] if n < 8 else [] for n in range(11)]
    assert lefts(Counting(truth).run(5)) == truth


def test_faces_in_another_order_keep_their_own_boxes() -> None:
    truth = [[0.0, 300.0] if n < 5 else [300.0, 0.0] for n in range(6)]
    assert all(sorted(faces) == [0.0, 300.0] for faces in lefts(Counting(truth).run(5)))


def test_boxes_in_a_video(astronaut: np.ndarray, tmp_path: Path, resolve: Callable[[str], Path]) -> None:
    face = scaled(astronaut[:330, 60:390], 0.8)
    frames = [on_grey(face, 360, 480, 100 + round(50 * np.sin(n / 6)), 40 + n) for n in range(30)]
    media = read_media(write_video(tmp_path / "a.mp4", frames))
    (dense,) = FaceFrontEnd(resolve, policy="paper").tracks(media)
    (sparse,) = FaceFrontEnd(resolve, policy="paper", detect_every=5).tracks(media)
    assert sparse.indices == dense.indices == list(range(30))
    pairs = zip(dense.detections, sparse.detections, strict=True)
    assert np.mean([iou(a.box, b.box[None])[0] for a, b in pairs]) > 0.93


def test_policies_hold_with_few_looks(astronaut: np.ndarray, tmp_path: Path, resolve: Callable[[str], Path]) -> None:
    face = scaled(astronaut[:330, 60:390], 0.8)
    frames = [on_grey(face, 360, 480, 40, 40) if n != 15 else np.full((360, 480, 3), 90, np.uint8) for n in range(30)]
    path = write_video(tmp_path / "a.mp4", frames)
    with pytest.raises(FaceLeavesFrame, match="frame 15"):
        FaceFrontEnd(resolve, policy="paper", detect_every=5).clips(read_media(path))
    with pytest.raises(UsageError, match="at least 1"):
        FaceFrontEnd(resolve, detect_every=0)
