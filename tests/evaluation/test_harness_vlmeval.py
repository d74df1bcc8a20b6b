"""Tables for VLMEvalKit and its predictions: the columns it reads, our questions, and the way back to our count."""

from __future__ import annotations

import ast
import base64
import csv
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
from build_world import make_faces, portrait
from eval_world import benchmark
from PIL import Image

from facellava.errors import FileMissing, UsageError
from facellava.evaluation.harness.predictions import import_predictions
from facellava.evaluation.harness.vlmeval import export_vlmeval
from facellava.evaluation.respondents import read_config
from facellava.evaluation.respondents.others import RecordedRespondent
from facellava.evaluation.run import Options, evaluate
from facellava.instruct.prompts import question_prompt

UNUSABLE = {"folder/empty.jpg@expression", "folder/notes.png@expression", "folder/gone.png@expression"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    make_faces(root, images=3, videos=1)
    return root


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def table_of(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_closed_question_has_lettered_options(faces: Path, tmp_path: Path) -> None:
    small = benchmark(faces)
    done = export_vlmeval(small, tmp_path, faces="whole")
    assert (done.name, done.path) == ("facellava_small_expression", tmp_path / "facellava_small_expression.tsv")
    rows = {row["id"]: row for row in table_of(done.path)}
    assert len(rows) == done.rows and set(done.left_out) == UNUSABLE
    row = rows["folder/face00.png@expression"]
    assert tuple(row[letter] for letter in "ABCDEFG") == small.names
    assert row[row["answer"]] == row["category"] == "happiness"
    assert row["question"] == question_prompt("expression", "metric", small.names, "image", 1)[1]
    picture = Image.open(io.BytesIO(base64.b64decode(row["image"])))
    assert np.array_equal(np.asarray(picture), portrait(0))
    assert len(row["image"]) > 64, "shorter ones are taken for the index of another row"
    video = rows["folder/clip0.mp4@expression"]
    frames, names = ast.literal_eval(video["image"]), ast.literal_eval(video["image_path"])
    assert len(frames) == len(names) == 8 and "8 frames" in video["question"]
    assert [row["index"] for row in rows.values()] == [str(n) for n in range(len(rows))]


def test_other_questions_are_open(faces: Path, tmp_path: Path) -> None:
    for task in ("age", "action_units"):
        done = export_vlmeval(benchmark(faces, task), tmp_path, faces="whole", embed=False)
        assert done.name == f"facellava_small_{task}_openended"
        rows = table_of(done.path)
        assert "A" not in rows[0] and "image" not in rows[0]
        assert all(row["question"] and row["answer"] for row in rows)
        paths = [
            p
            for r in rows
            for p in (ast.literal_eval(r["image_path"]) if r["image_path"][0] == "[" else [r["image_path"]])
        ]
        assert all(Path(path).is_absolute() and Path(path).is_file() for path in paths)
    opened = export_vlmeval(benchmark(faces), tmp_path, faces="whole", choices=False)
    assert opened.name.endswith("_openended") and "A" not in table_of(opened.path)[0]


def test_pictures_that_others_would_show_turned_are_embedded_upright(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(portrait(0)).save(root / "turned.jpg", exif=exif)
    (root / "labels.csv").write_text("file,expression\nturned.jpg,happiness\n")
    done = export_vlmeval(benchmark(root), tmp_path / "out", faces="whole")
    picture = Image.open(io.BytesIO(base64.b64decode(table_of(done.path)[0]["image"])))
    assert picture.format == "PNG"
    turned = np.rot90(pixels(root / "turned.jpg"), -1)
    assert np.array_equal(np.asarray(picture), turned)


def spreadsheet(path: Path, rows: list[dict[str, Any]]) -> None:
    """As little of an xlsx as Excel opens: names shared, texts inline, numbers plain, empty cells missing."""
    names = list(rows[0])
    cells = "".join(f'<c r="{chr(65 + c)}1" t="s"><v>{c}</v></c>' for c in range(len(names)))
    lines = [f'<row r="1">{cells}</row>']
    for r, row in enumerate(rows, 2):
        cells = ""
        for c, name in enumerate(names):
            place, value = f"{chr(65 + c)}{r}", row[name]
            if isinstance(value, int):
                cells += f'<c r="{place}"><v>{value}</v></c>'
            elif value is not None:
                cells += f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        lines.append(f'<row r="{r}">{cells}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared = "".join(f"<si><r><t>{name[:1]}</t></r><r><t>{name[1:]}</t></r></si>" for name in names)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
        sheet = f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        archive.writestr("xl/worksheets/sheet1.xml", sheet)


PREDICTIONS: list[dict[str, Any]] = [
    {"index": 0, "id": "s/a", "A": "anger", "B": "happiness", "prediction": "B"},
    {"index": 1, "id": "s/b", "A": "anger", "B": "happiness", "prediction": "(a)."},
    {"index": 2, "id": "s/c", "A": "anger", "B": "happiness", "prediction": "Happiness, the lips\nare stretched & up."},
    {"index": 3, "id": "s/d", "A": "anger", "B": "happiness", "prediction": "Failed to obtain answer via API."},
    {"index": 4, "id": "s/e", "A": "anger", "B": "happiness", "prediction": 42},
    {"index": 5, "id": "s/f", "A": "anger", "B": "happiness", "prediction": "C"},
    {"index": 6, "id": "s/g", "A": "anger", "B": "happiness", "prediction": None},
]
READ = {
    "s/a": "happiness",
    "s/b": "anger",
    "s/c": "Happiness, the lips\nare stretched & up.",
    "s/e": "42",
    "s/f": "C",
    "s/g": "",
}


@pytest.mark.parametrize("kind", ["xlsx", "tsv", "csv", "json", "jsonl"])
def test_predictions_are_read_back(kind: str, tmp_path: Path) -> None:
    path, out = tmp_path / f"p.{kind}", tmp_path / "answers.jsonl"
    if kind == "xlsx":
        spreadsheet(path, PREDICTIONS)
    elif kind == "json":
        path.write_text(json.dumps(PREDICTIONS))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in PREDICTIONS))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(PREDICTIONS[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(PREDICTIONS)
    assert import_predictions(path, out) == len(READ)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["id"]: row["text"] for row in rows} == READ


def test_files_that_are_no_predictions(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with pytest.raises(FileMissing, match="that VLMEvalKit wrote"):
        import_predictions(tmp_path / "gone.xlsx", out)
    for name, text, message in (
        ("a.xlsx", "no zip", "save it as tsv"),
        ("a.txt", "", "cannot read .txt"),
        ("a.json", "{", "no JSON"),
        ("a.json", "{}", "expected a list"),
        ("a.tsv", "index\tprediction\n0\tx\n", "no 'id' and 'prediction'"),
        ("a.jsonl", "", "holds no answer"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=message):
            import_predictions(tmp_path / name, out)
    assert not out.exists()


def test_from_a_table_to_answers_to_scores(faces: Path, tmp_path: Path) -> None:
    """A model that answers with the right letter has everything right in our count, too."""
    small = benchmark(faces)
    rows = table_of(export_vlmeval(small, tmp_path, faces="whole").path)
    spreadsheet(
        tmp_path / "p.xlsx", [{"id": r["id"], **{c: r[c] for c in "ABCDEFG"}, "prediction": r["answer"]} for r in rows]
    )
    import_predictions(tmp_path / "p.xlsx", tmp_path / "answers.jsonl")
    who = RecordedRespondent(read_config(f"answers:{tmp_path / 'answers.jsonl'}"))
    found = evaluate(small, who, tmp_path / "runs", Options(workers=1, draws=2))
    assert found.views["text"]["war"].value == 1.0
    assert sum(found.excluded.values()) >= len(UNUSABLE), "what was left out is counted"
