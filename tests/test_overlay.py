"""The picture of a result."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from facellava.overlay import REGION_POINTS, blur_faces, draw_overlay
from facellava.results import AgeResult, DeepfakeResult, ExpressionResult, FaceResult, MediaResult
from facellava.tasks import REGIONS
from facellava.types import Quality


def make(boxes: list[tuple[float, float, float, float]], **attention: float) -> MediaResult:
    steps = np.linspace(0.1, 0.9, 68)
    faces = tuple(
        FaceResult(
            id=number,
            box=box,
            quality=Quality(50, 50, 0, 0, 0, 1),
            expression=ExpressionResult(label="anger", probabilities={"anger": 0.7}),
            age=AgeResult(years=40, range=(33, 47)),
            deepfake=DeepfakeResult(label="fake", probabilities={"fake": 0.8, "real": 0.2}),
            region_attention=attention,
            landmarks=np.stack(
                [box[0] + (box[2] - box[0]) * steps, box[1] + (box[3] - box[1]) * (7 * steps % 1)], 1
            ).astype(np.float32),
        )
        for number, box in enumerate(boxes)
    )
    return MediaResult(media="x", kind="image", model="m", faces=faces)


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)


def test_regions_are_those_of_the_tasks() -> None:
    assert tuple(REGION_POINTS) == REGIONS
    covered = [point for start, end in REGION_POINTS.values() for point in range(start, end)]
    assert covered == list(range(68))


def test_input_is_untouched_and_shape_kept(frame: np.ndarray) -> None:
    before = frame.copy()
    out = draw_overlay(frame, make([(50, 50, 150, 170)], lips=1.0))
    assert out.shape == frame.shape
    assert out.dtype == np.uint8
    assert out.flags.writeable
    np.testing.assert_array_equal(frame, before)
    assert (out[50, 60:140] == 255).all(), "the box is drawn"


def test_attention_shows(frame: np.ndarray) -> None:
    box = [(50, 50, 150, 170)]
    one, other = draw_overlay(frame, make(box, lips=1.0)), draw_overlay(frame, make(box, left_eye=1.0))
    assert (one != other).any()


@pytest.mark.parametrize(
    "box",
    [(-30, -30, 60, 60), (350, 250, 460, 340), (0, 0, 400, 300), (390, 290, 399, 299), (500, 500, 600, 600)],
)
@pytest.mark.parametrize("blur", [False, True])
def test_boxes_anywhere_are_drawn_without_error(frame: np.ndarray, box, blur: bool) -> None:
    assert draw_overlay(frame, make([box], nose=0.5), blur=blur).shape == frame.shape


def test_tiny_picture_and_no_landmarks() -> None:
    result = make([(2, 2, 12, 12)])
    result = dataclasses.replace(result, faces=(dataclasses.replace(result.faces[0], landmarks=None),))
    assert draw_overlay(np.zeros((16, 16, 3), np.uint8), result).shape == (16, 16, 3)


def test_no_faces_changes_nothing(frame: np.ndarray) -> None:
    np.testing.assert_array_equal(draw_overlay(frame, make([])), frame)


def test_blur_removes_detail_inside_and_nothing_outside(frame: np.ndarray) -> None:
    out = blur_faces(frame, make([(100, 100, 180, 180), (250, 60, 330, 140)]))
    for inside in (np.s_[100:180, 100:180], np.s_[60:140, 250:330]):
        assert out[inside].std() < 0.2 * frame[inside].std()
    np.testing.assert_array_equal(out[200:], frame[200:])
    np.testing.assert_array_equal(out[:, :80], frame[:, :80])


def test_blurred_overlay_draws_no_landmarks(frame: np.ndarray) -> None:
    with_points, result = make([(100, 100, 180, 180)], lips=1.0), None
    result = dataclasses.replace(with_points, faces=(dataclasses.replace(with_points.faces[0], landmarks=None),))
    np.testing.assert_array_equal(draw_overlay(frame, with_points, blur=True), draw_overlay(frame, result, blur=True))


def test_what_may_be_a_face_is_blurred_too(frame: np.ndarray) -> None:
    """The detector finds a face turned on its side; no landmarks are put on it, so that nothing is said of it."""
    described = make([(20, 20, 90, 100)])
    seen = np.array([(21, 20, 90, 101), (200, 50, 280, 150)], np.float32)
    result = dataclasses.replace(described, detections=seen)
    assert result.unread == [(200.0, 50.0, 280.0, 150.0)] and described.unread == []
    part = slice(55, 145), slice(205, 275)
    assert (blur_faces(frame, described)[part] == frame[part]).all()
    hidden = blur_faces(frame, result)[part].reshape(-1, 3)
    assert len(np.unique(hidden, axis=0)) < len(np.unique(frame[part].reshape(-1, 3), axis=0))
