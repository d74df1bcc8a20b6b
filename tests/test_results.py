"""Typed results and their machine-readable form, held to the schema in the documentation."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from facellava import errors
from facellava.errors import FacellavaError, MissingExtra, NoFace
from facellava.results import (
    ActionUnitsResult,
    AgeResult,
    AttributesResult,
    DeepfakeResult,
    ExpressionResult,
    FaceResult,
    MediaResult,
)
from facellava.types import Quality

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUALITY = Quality(size=80.0, blur=120.5, yaw=-3.0, pitch=1.25, roll=0.5, score=0.97)


def make_face(number: int = 0, **tasks) -> FaceResult:
    return FaceResult(
        id=number,
        box=(1.04, 2.0, 30.0, 40.0),
        quality=QUALITY,
        spans=((0.0, 1.23456), (2.0, 3.0)),
        notes=("a note",),
        region_attention={"lips": 0.75, "nose": 0.25},
        landmarks=np.zeros((68, 2), np.float32),
        **tasks,
    )


FULL = make_face(
    expression=ExpressionResult(label="fear", probabilities={"fear": np.float32(0.51239)}, text="Fear."),  # type: ignore[dict-item]
    action_units=ActionUnitsResult(active=("AU1", "AU2"), probabilities={"AU1": 0.9}, text="AU1 and AU2."),
    attributes=AttributesResult(present=("Smiling",), probabilities={"Smiling": 1.0}, untrained=("Blurry",), text="S."),
    age=AgeResult(years=30, range=(25, 37), text="About 30."),
    deepfake=DeepfakeResult(label="fake", probabilities={"real": 0.4, "fake": 0.6}, text="Fake."),
)
ABSTAINED = make_face(
    1,
    expression=ExpressionResult(label=None, abstained=True, reason="the face is 20 pixels wide"),
    age=AgeResult(years=None, abstained=True, reason="the face is 20 pixels wide"),
)
MEDIA = MediaResult(media="clip.mp4", kind="video", model="m", faces=(FULL, ABSTAINED))
FAILED = MediaResult.failed("x.jpg", NoFace("no face found"))


@pytest.fixture(scope="module")
def schema() -> dict:
    """The JSON Schema block of the documentation."""
    text = (DOCS / "output.md").read_text(encoding="utf-8")
    block = re.search(r"```json schema\n(.*?)```", text, re.DOTALL)
    assert block
    return json.loads(block.group(1))


@pytest.mark.parametrize("result", [MEDIA, FAILED], ids=["analysed", "failed"])
def test_dictionary_fits_the_documented_schema(schema: dict, result: MediaResult) -> None:
    data = json.loads(json.dumps(result.to_dict()))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("version"),
        lambda data: data["faces"][0].pop("quality"),
        lambda data: data["faces"][0]["tasks"]["age"].update(years="thirty"),
        lambda data: data["faces"][0]["tasks"]["deepfake"].update(label="manipulated"),
        lambda data: data.update(error={"code": 3}),
    ],
)
def test_schema_refuses_what_it_should(schema: dict, change) -> None:
    data = json.loads(json.dumps(MEDIA.to_dict()))
    change(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


def test_schema_example_in_the_documentation_fits_itself(schema: dict) -> None:
    text = (DOCS / "output.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        jsonschema.validate(json.loads(example), schema)


def test_dictionary_of_a_face() -> None:
    data = FULL.to_dict()
    assert data["box"] == [1.0, 2.0, 30.0, 40.0]
    assert data["spans"] == [[0.0, 1.235], [2.0, 3.0]]
    assert data["quality"] == {"size": 80.0, "blur": 120.5, "yaw": -3.0, "pitch": 1.25, "roll": 0.5, "score": 0.97}
    assert data["tasks"]["expression"] == {
        "label": "fear",
        "probabilities": {"fear": 0.5124},
        "text": "Fear.",
        "abstained": False,
    }
    assert data["tasks"]["age"] == {"years": 30, "range": [25, 37], "text": "About 30.", "abstained": False}
    assert "landmarks" not in data


def test_tasks_that_were_not_requested_are_absent() -> None:
    assert list(ABSTAINED.to_dict()["tasks"]) == ["expression", "age"]
    assert ABSTAINED.deepfake is None


def test_abstention_has_a_reason_and_no_label() -> None:
    task = ABSTAINED.to_dict()["tasks"]["expression"]
    assert task["label"] is None
    assert task["abstained"] is True
    assert task["reason"] == "the face is 20 pixels wide"


def test_rows_are_flat_and_one_per_face() -> None:
    first, second = MEDIA.to_rows()
    assert first["face"] == 0
    assert first["action_units.active"] == "AU1 AU2"
    assert first["action_units.p.AU1"] == 0.9
    assert (first["age.years"], first["age.low"], first["age.high"]) == (30, 25, 37)
    assert second["age.low"] is None
    assert all(isinstance(value, str | int | float | bool | None) for value in first.values())
    assert FAILED.to_rows() == [{"media": "x.jpg", "kind": None, "model": None, "error": "no_face"}]


def test_frame_has_the_rows() -> None:
    pandas = pytest.importorskip("pandas", reason="needs the data extra")
    frame = MEDIA.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["face"]) == [0, 1]
    assert frame["expression.label"].iloc[0] == "fear"


def test_frame_without_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"pip install 'facellava\[notebook\]'"):
        MEDIA.to_frame()


def test_html_escapes_what_others_wrote() -> None:
    nasty = "<script>alert(1)</script>' onload='x.png"
    face = replace(FULL, notes=(nasty,), expression=replace(FULL.expression, text=nasty))
    result = replace(MEDIA, media=nasty, faces=(face, ABSTAINED))
    html = result._repr_html_()
    assert "<script" not in html
    assert "onload='" not in html
    assert "&lt;script&gt;" in html
    assert "displayed expression" in html
    assert "no statement: " in html
    failed = MediaResult.failed(nasty, NoFace(nasty))
    assert "<script" not in failed._repr_html_()
    assert "no_face" in failed._repr_html_()


def test_html_has_a_picture_only_when_asked() -> None:
    result = replace(MEDIA, frame=np.full((40, 80, 3), 200, np.uint8))
    assert "<img" not in result._repr_html_()
    html = result.to_html(picture=True)
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count("position:absolute") == 2
    assert "http" not in html


def test_a_face_by_itself() -> None:
    pandas = pytest.importorskip("pandas", reason="needs the notebook extra")
    frame = FULL.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 1
    assert "face 0" in FULL._repr_html_()


def test_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs the notebook extra")
    matplotlib.use("agg")
    for figure, panels in ((MEDIA.plot(), 4), (FULL.plot(), 2), (MediaResult.failed("a$", NoFace("x")).plot(), 1)):
        assert len(figure.axes) == panels
        file = io.BytesIO()
        figure.savefig(file)
        assert file.getvalue().startswith(b"\x89PNG")
    assert [bar.get_width() for bar in MEDIA.plot().axes[0].patches] == pytest.approx(
        list(FULL.to_dict()["tasks"]["expression"]["probabilities"].values())
    )
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"facellava\[notebook\]"):
        MEDIA.plot()


def test_equality_ignores_pixels() -> None:
    assert make_face() == make_face()


def test_exit_codes_table_equals_the_errors() -> None:
    text = (DOCS / "exit-codes.md").read_text(encoding="utf-8")
    table = {code: int(status) for status, code in re.findall(r"^\| (\d+) \| `([a-z_]+)` \|", text, re.MULTILINE)}
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert table == {kind.code: kind.exit_code for kind in kinds}
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    assert all(issubclass(kind, FacellavaError) for kind in kinds)
    assert f"| {errors.SOME_INPUTS_FAILED} |" in text
