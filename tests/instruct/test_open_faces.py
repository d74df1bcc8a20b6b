"""The readers of the open faces: labels as the folder's README states them, unknown kept unknown."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from facellava import tasks
from facellava.errors import FileMissing
from facellava.instruct.open_faces import ACTIVE, INACTIVE, PHOTO_UNITS, WEAK_UNITS, read_photos, read_renders

NAMES = tuple(label.name for label in tasks.get("attributes").labels)


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_photos_have_the_stated_counts(shared_dir: Path) -> None:
    faces = list(read_photos(shared_dir / "faces", NAMES))
    assert len(faces) == 2671
    counts = Counter(f.expression for f in faces)
    assert counts["neutral"] == 1253
    assert counts["happiness"] == 771
    assert counts["disgust"] == 11
    assert counts[None] == 19  # "unclear" is unknown, not a class
    train, test = ({f.subject for f in faces if f.split == s} for s in ("train", "test"))
    assert not train & test
    assert {f.set for f in faces if f.genuine} == {"congress"}


def test_noise_and_unasked_attributes_never_appear(shared_dir: Path) -> None:
    known = {a for f in read_photos(shared_dir / "faces", NAMES) for a in f.attributes}
    assert "Attractive" not in known
    assert "Narrow_Eyes" not in known
    assert {"Smiling", "Eyeglasses", "Male"} <= known <= set(NAMES)


def test_render_units_between_the_thresholds_are_unknown(shared_dir: Path) -> None:
    weights = {}
    for line in (shared_dir / "faces" / "renders.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        weights[row["id"]] = row["action_units"]
    checked = 0
    for face in read_renders(shared_dir / "faces"):
        weight = weights[face.id].get("AU12", 0.0)
        if INACTIVE < weight < ACTIVE:
            assert "AU12" not in face.action_units
            checked += 1
        else:
            assert face.action_units["AU12"] == (weight >= ACTIVE)
    assert checked > 50


def test_units_that_only_renders_show_are_denied_on_training_photographs(shared_dir: Path) -> None:
    faces = {f.id: f for f in read_photos(shared_dir / "faces", NAMES)}
    rows = read_rows(shared_dir / "faces" / "annotations.jsonl")
    denied = 0
    for row in rows:
        units = faces[row["id"]].action_units
        if row["split"] == "test":
            assert not set(units) - set(PHOTO_UNITS), "held-out faces are judged by what is reliable only"
            continue
        assert not any(units.get(unit) for unit in WEAK_UNITS), "a doubtful yes is no yes"
        if "AU9" in row["action_units"]:
            assert "AU9" not in units
        elif "AU9" not in row["unsure"]:
            assert units["AU9"] is False
            denied += 1
    assert denied > 2000


def test_a_wrong_root_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"congress\.jsonl is missing"):
        list(read_photos(tmp_path, NAMES))
