"""How a movement develops: synthetic tracks whose form is known."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import pytest
from synthetic_clip import make_clip, make_sample

from facellava import tasks
from facellava.instruct.facts import texts
from facellava.instruct.temporal import MEASURED, SHORTEST, Course, course_of
from facellava.types import FaceClip, LabelValue

HAPPY = make_sample("expression", "happiness", kind="video")
TIMES = np.arange(41) / 10  # 4 s at 10 frames a second


def ramp(*points: tuple[float, float]) -> np.ndarray:
    """A track over ``TIMES`` through (seconds, value)."""
    return np.interp(TIMES, *zip(*points, strict=True))


def smiling(track: np.ndarray) -> FaceClip:
    return make_clip(len(track), smile=track.tolist())


@pytest.mark.parametrize(
    ("track", "form", "onset", "peak", "release"),
    [
        # from 0 at 1 s to 0.8 at 2 s and back to 0 at 3 s: a quarter is reached at 1.25 s and left at 2.75 s; times are
        # those of the first frames beyond
        (ramp((1, 0), (2, 0.8), (3, 0)), "rise_and_fall", 1.3, 2.0, 2.8),
        (ramp((1, 0), (2, 0.8)), "rise", 1.3, 2.0, 0.0),
        (ramp((1, 0.8), (2, 0)), "fall", 0.0, 0.0, 1.8),
        (ramp((1, 0.2), (2, 0.8), (3, 0.2)), "rise_and_fall", 1.3, 2.0, 2.8),
    ],
)
def test_forms_and_times(track: np.ndarray, form: str, onset: float, peak: float, release: float) -> None:
    course = course_of(HAPPY, smiling(track))
    assert (course.form, course.measure) == (form, "smile")
    assert (course.onset, course.release) == pytest.approx((onset, release))
    # the median of three takes the tip off a peak
    assert course.peak == pytest.approx(peak, abs=0.11)
    assert course.apex == round(course.peak * 10)


@pytest.mark.parametrize(
    "track",
    [
        ramp((0.5, 0), (1, 0.8), (1.5, 0), (2.5, 0), (3, 0.8), (3.5, 0)),  # comes twice
        ramp((0, 0.4), (2, 0.8), (4, 0.4)),  # there all the time
        ramp((0, 0.4), (1, 0.0), (2, 0.8), (4, 0.4)),  # half there at the ends
        ramp((0, 0.8), (2, 0), (4, 0.8)),  # gone in the middle
        ramp((0, 0), (2, 0.8), (3, 0.0), (4, 0.7)),  # comes again at the end
        ramp((0, 0.3), (4, 0.45)),  # a little, between still and moving
    ],
    ids=["twice", "always", "half", "dip", "again", "little"],
)
def test_nothing_is_said_of_other_forms(track: np.ndarray) -> None:
    course = course_of(HAPPY, smiling(track))
    assert course.form is None
    assert course.sentence(random.Random(0)) == ""


def test_one_noisy_frame_is_no_movement() -> None:
    track = np.zeros(41)
    track[20] = 1.0
    assert course_of(HAPPY, smiling(track)).form is None


def test_too_short_for_a_course() -> None:
    few = make_clip(4, fps=2, smile=[0, 0.3, 0.6, 0.9])
    assert course_of(HAPPY, few) == Course(2)
    brief = make_clip(9, fps=9 / SHORTEST, smile=np.linspace(0, 1, 9).tolist())
    assert course_of(HAPPY, brief) == Course(4)
    assert course_of(HAPPY, make_clip()) == Course(0)


def test_only_what_speaks_for_the_label_is_told() -> None:
    rise = ramp((1, 0), (2, 0.9)).tolist()
    clip = make_clip(41, smile=rise, brow_raise=[v * 0.6 for v in rise])
    measures: dict[tuple[str, LabelValue], str] = {
        ("expression", "happiness"): "smile",
        ("expression", "surprise"): "brow_raise",
        ("expression", "fear"): "brow_raise",
        ("expression", "anger"): "",
        ("expression", "neutral"): "",
        ("action_units", ("AU2", "AU12")): "smile",
        ("action_units", ("AU2",)): "brow_raise",
        ("action_units", ("AU4",)): "",
        ("action_units", ()): "",
        ("attributes", ("Smiling",)): "",
        ("age", 30): "",
        ("deepfake", "fake"): "",
    }
    found = {(task, label): course_of(make_sample(task, label, kind="video"), clip) for task, label in measures}
    assert {key: course.measure for key, course in found.items()} == measures
    assert all(course.form == ("rise" if course.measure else None) for course in found.values())
    assert all(course.apex == 20 for course in found.values() if not course.measure), "the middle frame"


def closed(seconds: float) -> FaceClip:
    return make_clip(41, eye_closed=[0.9 if 1.0 <= t < 1.0 + seconds else 0.05 for t in TIMES])


def test_a_blink_says_nothing_and_eyes_that_stay_closed_do() -> None:
    sad, calm = (make_sample("expression", label, kind="video") for label in ("sadness", "neutral"))
    assert course_of(sad, closed(0.35)) == Course(20)
    assert course_of(sad, closed(1.5)).measure == "eye_closed"
    assert course_of(calm, closed(0.35)).form == "steady", "people blink"
    assert course_of(calm, closed(1.5)).form is None


def test_stillness_is_told_of_neutral_faces_only() -> None:
    still = make_clip(41, smile=ramp((0, 0.30), (4, 0.36)).tolist())
    assert course_of(make_sample("expression", "neutral", kind="video"), still) == Course(20, "steady")
    assert course_of(HAPPY, still) == Course(20)


SENTENCES: tuple[Callable[[], Course], ...] = (
    lambda: course_of(HAPPY, smiling(ramp((1, 0), (2, 0.8), (3, 0)))),
    lambda: course_of(HAPPY, smiling(ramp((1, 0), (2, 0.8)))),
    lambda: course_of(HAPPY, smiling(ramp((1, 0.8), (2, 0)))),
    lambda: course_of(make_sample("expression", "neutral", kind="video"), make_clip(41)),
)


@pytest.mark.parametrize("make", SENTENCES, ids=["rise_and_fall", "rise", "fall", "steady"])
def test_sentences_hold_the_measured_times_only(make: Callable[[], Course]) -> None:
    course = make()
    allowed = {f"{t:.1f}" for t in (course.onset, course.peak, course.release) if t}
    seen = {course.sentence(random.Random(seed)) for seed in range(200)}
    assert len(seen) >= 4
    for sentence in seen:
        assert re.fullmatch(r"[A-Z][^{}]*\.", sentence), sentence
        assert set(re.findall(r"\d+\.\d", sentence)) <= allowed, sentence


def test_same_draw_same_sentence() -> None:
    course = SENTENCES[0]()
    assert course.sentence(random.Random("a")) == course.sentence(random.Random("a"))


def test_every_measure_has_words_that_name_no_other_label() -> None:
    """A movement's name must not vote for a label for which it does not speak."""
    said, evidence = texts("temporal")["what"], texts("evidence")
    assert set(said) == set(MEASURED)
    expression = tasks.get("expression")
    for measure, phrases in said.items():
        facts = [name for name, fact in evidence["facts"].items() if fact.get("measure") == measure]
        labels = {label for label in expression.names if set(evidence["expression"][label]["support"]) & set(facts)}
        for phrase in phrases:
            assert expression.parse(phrase).label in {None, *labels}, phrase
