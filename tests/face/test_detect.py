"""The detector's parts, and the two networks together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from face_helpers import on_grey, scaled

from facellava.errors import WeightsUnavailable
from facellava.face import BlazeFaceDetector, CascadeDetector, MeshLandmarker
from facellava.face.cascade import tiles
from facellava.face.detect import anchors
from facellava.face.nms import iou, weighted_nms
from facellava.face.warp import Region, letterbox_region


@pytest.mark.parametrize(("size", "count"), [(128, 896), (192, 2304)])
def test_anchors(size: int, count: int) -> None:
    a = anchors(size)
    assert a.shape == (count, 2)
    assert a.mean(axis=0).tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    if size == 128:
        assert a[0].tolist() == a[1].tolist() == [1 / 32, 1 / 32]
        assert a[2].tolist() == [3 / 32, 1 / 32], "x runs fastest"
        assert a[512].tolist() == a[517].tolist() == [1 / 16, 1 / 16]


def test_iou() -> None:
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 3, 3], [0.5, 0.5, 1.5, 1.5]])
    assert iou(box, others).tolist() == pytest.approx([1, 1 / 3, 0, 1 / 4])


def test_weighted_nms_averages_what_overlaps() -> None:
    values = np.array([[0.0, 0, 10, 10, 1], [50, 50, 60, 60, 9], [2, 0, 12, 10, 4]])
    merged, scores = weighted_nms(values, np.array([0.9, 0.7, 0.3]))
    assert scores.tolist() == [0.9, 0.7]
    assert merged[0].tolist() == pytest.approx([0.5, 0, 10.5, 10, 1.75])
    assert merged[1].tolist() == pytest.approx([50, 50, 60, 60, 9])
    assert weighted_nms(values[:0], np.zeros(0))[0].shape == (0, 5)


def test_region_projects_back_to_where_it_was_cut() -> None:
    ramp_x, ramp_y = np.meshgrid(np.arange(200, dtype=np.uint8), np.arange(200, dtype=np.uint8))
    frame = np.dstack([ramp_x, ramp_y, ramp_x])
    region = Region(cx=100, cy=90, side=64, angle=0.5)
    cut = region.cut(frame, 32)
    for x, y in ((0, 0), (31, 0), (16, 16), (5, 29)):
        assert region.project(np.array([[x, y]]), 32)[0] == pytest.approx(cut[y, x, :2], abs=0.6)
    box = letterbox_region(100, 300)
    assert box.project(np.array([[0, 0], [128, 128]]), 128).tolist() == [[0, -100], [300, 200]]


def test_blank_picture_has_no_face(detector: BlazeFaceDetector) -> None:
    assert detector.detect(np.full((300, 400, 3), 127, np.uint8)) == []
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []


def test_keypoints_are_the_subjects_left_and_right(detector: BlazeFaceDetector, portraits: list[np.ndarray]) -> None:
    for picture in portraits:
        best = detector.detect(picture)[0]
        right_eye, left_eye, nose, mouth, right_ear, left_ear = best.keypoints
        assert right_ear[0] < right_eye[0] < nose[0] < left_eye[0] < left_ear[0]
        assert max(right_eye[1], left_eye[1]) < nose[1] < mouth[1]


def test_wrong_weight_files(resolve: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("not a network")
    for path in (tmp_path / "none.tflite", tmp_path / "text.tflite", resolve("face-mesh")):
        with pytest.raises(WeightsUnavailable):
            BlazeFaceDetector(path)


@pytest.fixture(scope="module")
def cascade(resolve: Callable[[str], Path], detector: BlazeFaceDetector) -> CascadeDetector:
    return CascadeDetector(detector, lambda: BlazeFaceDetector(resolve("blazeface-full-range")))


@pytest.mark.parametrize("side", [40, 70, 150, 400])
def test_one_face_of_any_size(
    cascade: CascadeDetector, detector: BlazeFaceDetector, portraits: list[np.ndarray], side: int
) -> None:
    picture = portraits[0]
    face = detector.detect(picture)[0]
    small = scaled(picture, side / face.side)
    canvas = on_grey(small, 1080, 1920, 900, 200)
    found = cascade.detect(canvas)
    assert len(found) == 1
    truth = face.box * (side / face.side) + np.array([900, 200, 900, 200])
    assert iou(truth, found[0].box[None])[0] > 0.5


def test_a_portrait_gets_exactly_the_near_networks_box(
    cascade: CascadeDetector,
    detector: BlazeFaceDetector,
    landmarker: MeshLandmarker,
    portraits: list[np.ndarray],
) -> None:
    for picture in portraits:
        near = detector.detect(picture)
        found = [d for d in cascade.detect(picture) if landmarker(picture, d)]
        assert len(found) == 1
        assert (found[0].box == near[0].box).all()


def test_tiles_cover_the_picture() -> None:
    assert tiles(400, 600) == []
    for height, width in ((1080, 1920), (3000, 1000), (2000, 2000)):
        covered = np.zeros((height, width), bool)
        for r in tiles(height, width):
            top, left = max(0, round(r.cy - r.side / 2)), max(0, round(r.cx - r.side / 2))
            covered[top : round(r.cy + r.side / 2), left : round(r.cx + r.side / 2)] = True
        assert covered.all()


def test_pictures_without_faces_stay_empty(cascade: CascadeDetector, landmarker: MeshLandmarker) -> None:
    """Whatever the networks take for a face in scenery, the landmarker's presence score rejects."""
    from skimage import data

    for name in ("coffee", "chelsea", "brick", "coins", "text", "hubble_deep_field"):
        picture = getattr(data, name)()
        picture = np.dstack([picture] * 3) if picture.ndim == 2 else picture
        picture = np.ascontiguousarray(picture)
        assert not [d for d in cascade.detect(picture) if landmarker(picture, d)], name
