"""The reader of a user's own folder: tables, JSON lines, one folder for each class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from source_fixtures import fixtures, put, write

from facellava import tasks
from facellava.errors import LabelUnknown, SourceLayout, UsageError
from facellava.instruct.sources import folder
from facellava.types import Sample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tiny folder with a table of every kind of label."""
    fixtures()["folder"].build(tmp_path / "mine")
    return tmp_path / "mine"


def read(root: Path, split: str = "train", **options: object) -> list[Sample]:
    return list(folder.read(root, split, **options))


def by_id(samples: list[Sample]) -> dict[str, Sample]:
    return {sample.id.partition("/")[2]: sample for sample in samples}


def test_folder_knows_what_a_row_says_and_no_more(root: Path) -> None:
    samples = by_id(read(root))
    assert "Young" not in samples["a.jpg@attributes"].known
    assert set(samples["a.jpg@attributes"].known) == set(tasks.get("attributes").default_names) - {"Young"}
    assert samples["a.jpg@expression"].subject == "ann"
    assert samples["b.mp4"].kind == "video"


def test_folder_reads_json_lines_with_the_users_own_names(tmp_path: Path) -> None:
    put(tmp_path, "x/1.jpg", "x/2.jpg")
    rows = [
        {
            "file": "x/1.jpg",
            "mood": "happy",
            "years": 41.4,
            "box": [1, 2, 3, 4],
            "action_units": {"AU6": 0.9, "AU4": 0.2},
        },
        {"file": "x/2.jpg", "mood": "unclear", "description": ["Smiles.", "Grins."], "authenticity": "real"},
    ]
    write(tmp_path, "mine.jsonl", *map(json.dumps, rows))
    samples = by_id(
        read(
            tmp_path,
            file="mine.jsonl",
            columns={"expression": "mood", "age": "years"},
            values={"happy": "happiness"},
            ignore=["unclear"],
            known={"action_units": ["AU4", "AU6", "AU12"]},
            active_from=0.5,
            inactive_to=0.1,
            licence="CC0",
        )
    )
    assert samples["x/1.jpg@expression"].label == "happiness" and samples["x/1.jpg@age"].label == 41
    units = samples["x/1.jpg@action_units"]
    assert units.label == ("AU6",) and units.known == ("AU6", "AU12"), "0.2 is neither active nor inactive"
    assert units.box == (1.0, 2.0, 3.0, 4.0)
    assert dict(samples["x/2.jpg"].meta) == {"description": "Smiles.", "licence": "CC0"}


def test_folder_takes_nothing_known_for_nothing_there(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")

    def units(value: object, **options: object) -> tuple[object, ...] | None:
        write(tmp_path, "labels.jsonl", json.dumps({"file": "a.jpg", "action_units": value}))
        found = read(tmp_path, known={"action_units": ["AU1", "AU4", "AU6"]}, **options)
        return (found[0].label, found[0].known) if found else None

    assert units(["unclear"], ignore=["unclear"]) is None and units("unclear", ignore=["unclear"]) is None
    assert units([]) == ((), ("AU1", "AU4", "AU6")), "an empty list says that nothing is active"
    assert units({"AU01_r": 0.9, "AU04_r": 0.1}, values={"AU01_r": "AU1", "AU04_r": "AU4"}) == (
        ("AU1",),
        ("AU1", "AU4", "AU6"),
    )
    assert units({"AU1": None, "AU4": float("nan"), "AU6": 0.9}) == (("AU6",), ("AU6",))
    with pytest.raises(
        LabelUnknown, match=r"line 1: action_units is given by 'AU01_r', of which nothing is known; map"
    ):
        units({"AU01_r": 0.9})
    with pytest.raises(SourceLayout, match=r"line 1: action_units is .*, but strengths are numbers"):
        units({"AU1": "x"})
    with pytest.raises(SourceLayout, match="line 1: found 5 where names of labels are expected"):
        units(5)
    for options, said in (
        ({"columns": ["age"]}, "columns must be a table"),
        ({"active_from": "0.3"}, "must be a float"),
    ):
        with pytest.raises(UsageError, match=said):
            units([], **options)


def test_folder_reads_one_folder_for_each_class(tmp_path: Path) -> None:
    put(tmp_path, "happy/1.jpg", "anger/deep/2.mp4", ".cache/3.jpg")
    samples = read(tmp_path, task="expression", values={"happy": "happiness"})
    assert {s.id: s.label for s in samples} == {
        "folder/anger/deep/2.mp4": "anger",
        "folder/happy/1.jpg": "happiness",
    }
    assert read(tmp_path, "test", task="expression", values={"happy": "happiness"}) == []
    with pytest.raises(LabelUnknown, match="happy is named after no class of expression; known: anger"):
        read(tmp_path, task="expression")
    put(tmp_path / "ages", "31/1.jpg")
    assert [s.label for s in read(tmp_path / "ages", task="age")] == [31]
    with pytest.raises(SourceLayout, match="gone is no folder"):
        read(tmp_path / "gone", task="age")


@pytest.mark.parametrize(
    ("row", "error", "said"),
    [
        ("a.jpg,train,ann,,,,old,,", SourceLayout, "line 2: age is 'old', but must be a number of years"),
        ("a.jpg,train,ann,,,,inf,,", SourceLayout, "line 2: age is 'inf', but must be a number of years"),
        ("a.jpg,train,ann,,,,130,,", LabelUnknown, "line 2: age 130 is not between 0 and 116"),
        ("a.jpg,dev,ann,fear,,,,,", LabelUnknown, "line 2: split is 'dev'; use train, val, test"),
        ("a.jpg,train,ann,,AU99,,,,", LabelUnknown, "line 2: action_units is 'AU99'; known: AU1"),
        (",train,ann,fear,,,,,", SourceLayout, "line 2: 'file' is missing"),
        ("a.jpg,train", SourceLayout, "line 2: expected 9 values"),
    ],
)
def test_folder_mistakes_are_told_with_their_line(root: Path, row: str, error: type[Exception], said: str) -> None:
    header = (root / "labels.csv").read_text().splitlines()[0]
    write(root, "labels.csv", header, row)
    with pytest.raises(error, match=said):
        read(root)


def test_a_second_table_groups_and_least_values(tmp_path: Path) -> None:
    """Facts beside the labels: joined by id, kept as groups (nought is one, too), rows below a value left out."""
    rows = [
        {"id": "a", "file": "a.jpg", "age": 30, "strength": 0.9},
        {"id": "b", "file": "b.jpg", "age": 40, "strength": 0.2},
        {"id": "c", "file": "c.jpg", "age": 50, "strength": None},
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    beside = [{"id": "a", "gender": 0, "age": 99}, {"id": "c", "gender": ""}]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in beside))
    options = {"join": "facts.jsonl", "groups": {"gender": "gender"}, "at_least": {"strength": 0.5}}
    found = list(folder.read(tmp_path, "train", **options))
    assert [(s.id, s.label, dict(s.meta)) for s in found] == [
        ("folder/a", 30, {"gender": "0"}),
        ("folder/c", 50, {}),
    ]
    (tmp_path / "labels.jsonl").write_text(json.dumps({**rows[0], "strength": "much"}) + "\n")
    with pytest.raises(SourceLayout, match="line 1: strength is 'much'"):
        list(folder.read(tmp_path, "train", **options))
