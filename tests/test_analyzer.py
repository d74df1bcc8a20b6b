"""The shipped default on real faces: typed results, grounded in the picture, consistent with the text."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from default_model import analyzer, astronaut
from facellava import load, tasks
from facellava.errors import NoFace, UsageError
from facellava.overlay import blur_faces
from facellava.results import MediaResult


@pytest.fixture(scope="module")
def portrait() -> MediaResult:
    return analyzer().analyze(astronaut())


def photo(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_all_five_tasks_of_a_smiling_portrait(portrait: MediaResult) -> None:
    (face,) = portrait.faces
    assert list(face.tasks) == ["expression", "action_units", "attributes", "age", "deepfake"]
    assert face.expression.label == "happiness"
    assert "AU12" in face.action_units.active
    assert "Smiling" in face.attributes.present
    assert "Eyeglasses" not in face.attributes.present
    assert 25 <= face.age.years <= 60
    low, high = face.age.range
    assert low <= face.age.years <= high
    assert sum(face.expression.probabilities.values()) == pytest.approx(1)
    assert sum(face.deepfake.probabilities.values()) == pytest.approx(1)
    assert sum(face.region_attention.values()) == pytest.approx(1, abs=1e-5)
    json.dumps(portrait.to_dict())


def test_text_states_the_typed_result(portrait: MediaResult) -> None:
    (face,) = portrait.faces
    assert tasks.get("expression").parse(face.expression.text).label == face.expression.label
    assert tasks.get("age").parse(face.age.text).years == face.age.years
    assert tasks.get("deepfake").parse(face.deepfake.text).label == face.deepfake.label
    assert tasks.get("action_units").parse(face.action_units.text).active == face.action_units.active


def test_untrained_labels_have_no_probability(portrait: MediaResult) -> None:
    attributes = portrait.faces[0].attributes
    assert attributes.untrained
    assert not set(attributes.untrained) & set(attributes.probabilities)
    assert "Attractive" not in attributes.probabilities


def test_the_same_picture_gives_the_same_answers(portrait: MediaResult) -> None:
    again = analyzer().analyze(astronaut())
    assert again.to_dict() == portrait.to_dict()


def test_only_what_was_asked_for() -> None:
    (face,) = analyzer().analyze(astronaut(), tasks=["age"]).faces
    assert list(face.tasks) == ["age"]
    (face,) = analyzer().analyze(astronaut(), mode="movements").faces
    assert list(face.tasks) == ["action_units"]
    with pytest.raises(UsageError, match="movements"):
        analyzer().analyze(astronaut(), tasks=["expression"], mode="movements")


def test_questions_stream_and_join_to_the_same_answer() -> None:
    model = analyzer()
    pieces = list(model.ask(astronaut(), "Is this person smiling?", stream=True))
    assert len(pieces) > 1
    assert "".join(pieces) == model.ask(astronaut(), "Is this person smiling?")
    with pytest.raises(UsageError, match="empty"):
        model.ask(astronaut(), "  ")
    with pytest.raises(UsageError, match="no face 7"):
        model.ask(astronaut(), "Describe the face.", face=7)


def test_no_face_is_an_error() -> None:
    with pytest.raises(NoFace):
        analyzer().analyze(np.full((300, 300, 3), 127, np.uint8))


def test_a_tiny_face_is_not_judged() -> None:
    small = np.asarray(Image.fromarray(astronaut()).resize((110, 110), Image.Resampling.LANCZOS))
    canvas = np.full((220, 220, 3), 90, np.uint8)
    canvas[50:160, 50:160] = small
    (face,) = analyzer().analyze(canvas).faces
    assert face.quality.size < 32
    assert face.expression.abstained
    assert face.expression.label is None
    assert "pixels" in face.expression.reason


def test_answers_depend_on_the_face(shared_dir: Path, portrait: MediaResult) -> None:
    rows = [json.loads(x) for x in (shared_dir / "faces" / "annotations.jsonl").read_text().splitlines()]
    test = [r for r in rows if r["split"] == "test" and r["ratings"] == 1]
    neutral = next(r for r in test if r["expression"] == "neutral" and r["set"] == "sfhq" and r["age_estimate"] < 30)
    (face,) = analyzer().analyze(shared_dir / "faces" / neutral["file"]).faces
    (smiling,) = portrait.faces
    assert face.expression.label != smiling.expression.label
    assert face.expression.text != smiling.expression.text
    assert face.age.text != smiling.age.text


def test_group_photo_gives_one_result_a_face_in_stable_order(shared_dir: Path) -> None:
    rows = [json.loads(x) for x in (shared_dir / "faces" / "congress.jsonl").read_text().splitlines()]
    chosen = [r for r in rows if r["split"] == "test"][:4]
    tiles = []
    for row in chosen:
        image = Image.open(shared_dir / "faces" / row["file"]).convert("RGB")
        tiles.append(np.asarray(image.resize((260, 325))))
    group = np.concatenate(tiles, axis=1)
    model = analyzer()
    faces = model.analyze(group, tasks=["expression", "age"]).faces
    assert [f.id for f in faces] == [0, 1, 2, 3]
    centres = [(f.box[0] + f.box[2]) / 2 for f in faces]
    assert centres == sorted(centres)
    assert all(260 * i < c < 260 * (i + 1) for i, c in enumerate(centres))
    assert [f.to_dict() for f in model.analyze(group, tasks=["expression", "age"]).faces] == [
        f.to_dict() for f in faces
    ]


def test_landmarks_lie_in_the_source_picture(portrait: MediaResult) -> None:
    (face,) = portrait.faces
    x0, y0, x1, y1 = face.box
    inside = (face.landmarks > [x0 - 40, y0 - 60]) & (face.landmarks < [x1 + 40, y1 + 60])
    assert inside.all()


def on_its_side() -> np.ndarray:
    """The portrait, and beside it the same face turned by a right angle, on which no landmarks are found."""
    picture = Image.new("RGB", (900, 512), (120, 130, 140))
    picture.paste(Image.fromarray(astronaut()))
    face = Image.fromarray(astronaut()[20:230, 140:310]).rotate(90)
    picture.paste(face, (650, 120))
    return np.asarray(picture)


def test_a_face_without_landmarks_is_hidden_with_the_others() -> None:
    picture = on_its_side()
    result = analyzer().analyze(picture, tasks=["age"], explain=False)
    assert len(result.faces) == 1 and len(result.unread) == 1
    changed = np.abs(blur_faces(picture, result).astype(int) - picture).mean(axis=2)
    assert changed[160:290, 690:780].mean() > 8, "the second face is recognisable"
    assert changed[400:, 650:].max() == 0


def test_an_answer_that_is_read_in_several_threads_keeps_nobody_waiting() -> None:
    """As servers do with generators: each piece in whichever thread is free; an unread rest blocks nothing."""
    model = analyzer()
    pieces = model.ask(astronaut(), "What is the mouth doing?", stream=True, max_new_tokens=6)
    unread = model.ask(astronaut(), "What is the mouth doing?", stream=True, max_new_tokens=6)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        text = one.submit(next, pieces).result(60) + "".join(other.submit(list, pieces).result(60))
        one.submit(next, unread).result(60)
        again = other.submit(model.ask, astronaut(), "What is the mouth doing?", max_new_tokens=6).result(60)
    assert text == again


def test_threads_are_bounded() -> None:
    with pytest.raises(UsageError, match="20000 threads on"):
        load(threads=20000)


def test_half_a_letter_is_no_question() -> None:
    with pytest.raises(UsageError, match=r"is no whole text: write it in UTF-8"):
        analyzer().ask(astronaut(), "What is the \ud83d mouth doing?")
