"""Windows of a video with faces: all of its time, each face under its number, and a reason where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from timeline_world import film, portrait, spoil, wall, with_faces

from facellava.analyzer import Analyzer
from facellava.errors import UsageError
from facellava.interrupt import watched
from facellava.timeline import Asked, WindowResult, watch
from facellava.timeline.numbering import Numbering

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def shown(model: Analyzer, tmp_path_factory: pytest.TempPathFactory) -> list[WindowResult]:
    """Two people, one of them, nobody: two seconds each; windows of one second."""

    def frame_at(time: float):
        return with_faces(0, 165) if time < 2 else with_faces(165) if time < 4 else wall()

    path = film(tmp_path_factory.mktemp("film") / "a.mp4", frame_at, seconds=6)
    return list(watch(model, path, seconds=1, frames=1))


def test_windows_cover_the_time_once(shown: list[WindowResult]) -> None:
    assert [(w.window, w.start, w.end) for w in shown] == [(n, float(n), n + 1.0) for n in range(6)]
    assert all(w.frames == 1 for w in shown)


def test_two_people_are_two_tracks(shown: list[WindowResult]) -> None:
    assert [[face.id for face in w.faces] for w in shown] == [[0, 1], [0, 1], [1], [1], [], []]
    left, right = shown[0].faces
    assert left.box[0] < right.box[0]


def test_a_window_without_a_face_says_so(shown: list[WindowResult]) -> None:
    assert [w.error and w.error.code for w in shown] == [None] * 4 + ["no_face"] * 2


def test_a_face_has_labels_and_no_sentences(shown: list[WindowResult], model: Analyzer) -> None:
    face = shown[0].faces[0]
    assert list(face.tasks) == ["expression", "action_units", "age", "deepfake"]
    assert face.expression is not None and face.expression.label in face.expression.probabilities
    assert face.age is not None and face.age.range is not None
    assert face.deepfake is not None and sum(face.deepfake.probabilities.values()) == pytest.approx(1)
    assert sum(face.region_attention.values()) == pytest.approx(1, abs=1e-4)


def test_labels_are_those_of_an_analysis(model: Analyzer, tmp_path: Path) -> None:
    """Without the language model's reading, and the same."""
    path = film(tmp_path / "a.mp4", lambda _: with_faces(80), seconds=1, rate=1)
    (window,) = watch(model, path, seconds=1, frames=1)
    (face,) = model.analyze(path, explain=False, tasks=window.faces[0].tasks.keys()).faces  # pyright: ignore
    assert face.expression == window.faces[0].expression
    assert face.age == window.faces[0].age
    assert face.deepfake == window.faces[0].deepfake


def test_the_dictionary_fits_the_schema_of_faces(shown: list[WindowResult]) -> None:
    text = (DOCS / "output.md").read_text(encoding="utf-8")
    schema = json.loads(text.split("```json schema\n")[1].split("```")[0])
    one = jsonschema.Draft202012Validator({"$defs": schema["$defs"], "$ref": "#/$defs/face"})
    faces = [face for window in shown for face in json.loads(json.dumps(window.to_dict()))["faces"]]
    assert len(faces) == sum(len(window.faces) for window in shown) > 0
    assert [error.message for face in faces for error in one.iter_errors(face)] == []


def test_a_frame_and_html_of_a_window(shown: list[WindowResult]) -> None:
    pytest.importorskip("pandas", reason="needs the notebook extra")
    frame = shown[0].to_frame()
    assert list(frame["face"]) == [0, 1]
    assert {"window", "expression.label", "deepfake.p.fake"} <= set(frame.columns)
    assert "displayed expression" in shown[0]._repr_html_()
    assert "no_face" in shown[5]._repr_html_()


def test_a_damaged_part_is_recorded_and_passed(model: Analyzer, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", lambda time: with_faces(80 + int(4 * time)), seconds=8)
    spoil(path, 0.4, 0.6)
    found = list(watch(model, path, seconds=1, frames=1, mode="movements"))
    codes = [w.error.code for w in found if w.error]
    assert "damaged_media" in codes
    assert found[0].faces and found[-1].faces
    assert found[-1].end == pytest.approx(8)
    assert [f.id for w in found for f in w.faces] == [0] * (len(found) - len(codes))


def test_a_tiny_face_abstains(model: Analyzer, tmp_path: Path) -> None:
    def small(_: float):
        frame = wall()
        frame[20:84, 20:84] = portrait(64)
        return frame

    (window,) = watch(model, film(tmp_path / "a.mp4", small, seconds=1, rate=1), seconds=1, frames=1)
    (face,) = window.faces
    assert all(task.abstained and "pixels wide" in str(task.reason) for task in face.tasks.values())


def test_wishes(model: Analyzer, tmp_path: Path) -> None:
    assert Asked.of(mode="movements").tasks == ("action_units",)
    assert Asked.of(tasks=["age", "expression"]).tasks == ("expression", "age")
    with pytest.raises(UsageError, match="movements"):
        Asked.of(tasks=["age"], mode="movements")
    with pytest.raises(UsageError, match="choose between"):
        watch(model, film(tmp_path / "a.mp4", lambda _: wall(), seconds=1), seconds=0)


def test_it_can_be_ended(model: Analyzer, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise Enough

    path = film(tmp_path / "a.mp4", lambda _: with_faces(80), seconds=20)
    with watched(check), pytest.raises(Enough):
        list(watch(model, path, seconds=1))


def test_faces_go_on_where_frames_lie_far_apart() -> None:
    assert Asked.of(seconds=5, frames=4).kept == 10
    assert Asked.of(seconds=60, frames=2).kept == 60


def test_numbers_survive_their_state(shown: list[WindowResult]) -> None:
    numbering = Numbering.of({"given": 3, "last": [[1, 2.5, 10.0, 10.0, 60.5, 60.25]]})
    assert Numbering.of(json.loads(json.dumps(numbering.state()))).state() == numbering.state()
