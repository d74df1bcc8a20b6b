"""``facellava analyze``: inputs, JSON, exit codes, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facellava.analyzer
from facellava.errors import EmptyFile, FileMissing, NoFace, UsageError, WeightsUnavailable
from facellava.notice import TEXT


def black(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    return path


def good(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(path)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two good pictures in two folders, a text, an empty file, a black picture, a hidden file."""
    folder = tmp_path / "mixed"
    good(folder / "a.png")
    good(folder / "deep" / "b.png")
    black(folder / "black.png")
    (folder / "notes.jpg").write_text("not a picture at all")
    (folder / "zero.png").touch()
    (folder / ".hidden.png").write_bytes(b"x")
    return folder


def test_one_picture_for_people(run, analyzer, picture: Path) -> None:
    code, out, errors = run("analyze", picture)
    assert (code, errors) == (0, "")
    flat = " ".join(out.replace("│", " ").split())
    for expected in (
        "face.png: 1 face (image)",
        "displayed expression happiness 91%",
        "AU6 cheek raiser 80%, AU12 lip corner puller 97%",
        "Smiling",
        "about 41 years, between 36 and 47 (an estimate)",
        "no sign of manipulation found (model's score for manipulation: 12%); this is no proof",
        "AU6 and AU12 are active.",
        "lips 60%",
        "the measured lip corners did not move",
    ):
        assert expected in flat
    assert analyzer.calls == [{"tasks": None, "policy": "all", "mode": "full", "explain": True}]


def test_options_reach_the_analyzer(run, analyzer, picture: Path) -> None:
    code, out, _ = run("analyze", picture, "--json", "--task", "age", "--task", "deepfake", "--policy", "paper")
    assert code == 0
    assert analyzer.calls == [{"tasks": ("age", "deepfake"), "policy": "paper", "mode": "full", "explain": True}]
    assert list(json.loads(out)["faces"][0]["tasks"]) == ["age", "deepfake"]


def test_directory_with_mixed_content(run, analyzer, mixed: Path) -> None:
    code, out, errors = run("analyze", mixed, "--json")
    assert code == 3
    rows = [json.loads(line) for line in out.splitlines()]
    told = {Path(row["media"]).name: row["error"] and row["error"]["code"] for row in rows}
    assert told == {
        "a.png": None,
        "black.png": "no_face",
        "b.png": None,
        "notes.jpg": "unsupported_media",
        "zero.png": "empty_file",
    }
    assert [bool(row["faces"]) for row in rows] == [row["error"] is None for row in rows]
    lines = errors.splitlines()
    assert lines[-1] == "facellava: 2 of 5 inputs analysed, 3 failed"
    assert len(lines) == 4
    assert all(line.startswith("facellava: error: ") and str(mixed) in line for line in lines[:-1])


def test_directory_order_is_stable(run, analyzer, mixed: Path) -> None:
    names = [json.loads(line)["media"] for line in run("analyze", mixed, "--json")[1].splitlines()]
    assert names == sorted(names)


def test_patterns_and_repetition(run, analyzer, mixed: Path) -> None:
    code, out, _ = run("analyze", mixed / "**" / "[ab].png", mixed / "a.png", "--json")
    assert code == 0
    assert [Path(json.loads(line)["media"]).name for line in out.splitlines()] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("name", "error"), [("nothing.png", FileMissing), ("zero.png", EmptyFile), ("black.png", NoFace)]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_only_input_failing_gives_its_own_code(run, analyzer, mixed: Path, name, error, as_json: bool) -> None:
    code, out, errors = run("analyze", mixed / name, *(["--json"] if as_json else []))
    assert code == error.exit_code
    assert errors.startswith("facellava: error: ")
    assert errors.count("\n") == 1
    if as_json:
        row = json.loads(out)
        assert row["error"]["code"] == error.code
        assert row["faces"] == []
    else:
        assert out == ""


def test_missing_file_is_told_without_loading_a_model(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(facellava.analyzer, "load", load)
    code, _, errors = run("analyze", tmp_path / "nothing.png")
    assert code == FileMissing.exit_code
    assert errors == f"facellava: error: {tmp_path / 'nothing.png'}: no such file\n"


def test_empty_folder_and_pattern_without_match(run, analyzer, tmp_path: Path) -> None:
    assert run("analyze", tmp_path)[0] == FileMissing.exit_code
    code, _, errors = run("analyze", tmp_path / "*.png")
    assert code == FileMissing.exit_code
    assert "this pattern has no files" in errors


def test_set_up_error_ends_the_run_once(run, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**_: object) -> None:
        raise WeightsUnavailable("smollm2: not on this machine,\nand downloads are off")

    monkeypatch.setattr(facellava.analyzer, "load", load)
    code, out, errors = run("analyze", mixed, "--json")
    assert code == WeightsUnavailable.exit_code
    assert errors == "facellava: error: smollm2: not on this machine, and downloads are off\n"
    assert [json.loads(line)["error"]["code"] for line in out.splitlines()] == ["weights_unavailable"] * 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("--task", "mood"),
        ("--mode", "guess"),
        ("--policy", "some"),
        ("--threads", "0"),
        ("--overlay", "out.txt"),
        ("--no-such-option",),
    ],
)
def test_wrong_use_is_one_line(run, analyzer, picture: Path, arguments: tuple[str, ...]) -> None:
    code, out, errors = run("analyze", picture, *arguments)
    assert (code, out) == (UsageError.exit_code, "")
    assert errors.startswith("facellava: error: ")
    assert errors.count("\n") == 1
    assert analyzer.calls == []


def test_nothing_given_is_wrong_use(run, analyzer) -> None:
    assert run("analyze")[0] == UsageError.exit_code


def test_overlay_is_a_changed_picture_of_the_same_size(run, analyzer, picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.png"
    assert run("analyze", picture, "--overlay", target)[0] == 0
    before, after = np.asarray(Image.open(picture)), np.asarray(Image.open(target))
    assert before.shape == after.shape
    assert (before != after).any()


def test_brief_asks_for_labels_only(run, analyzer, picture: Path) -> None:
    assert run("analyze", picture, "--json", "--brief")[0] == 0
    assert [call["explain"] for call in analyzer.calls] == [False]


def test_overlays_of_several_inputs_go_to_a_folder(run, analyzer, mixed: Path, tmp_path: Path) -> None:
    good(mixed / "deep" / "a.png")
    target = tmp_path / "out"
    assert run("analyze", mixed / "a.png", mixed / "deep", "--overlay", target)[0] == 0
    assert sorted(path.name for path in target.iterdir()) == ["a-2-overlay.png", "a-overlay.png", "b-overlay.png"]
    code, _, errors = run("analyze", mixed, "--overlay", tmp_path / "one.png")
    assert code == UsageError.exit_code
    assert "need a folder" in errors


def test_overlay_that_cannot_be_written(run, analyzer, picture: Path) -> None:
    code, _, errors = run("analyze", picture, "--overlay", picture / "below" / "out.png")
    assert code == 22
    assert "--overlay" in errors


def test_blur_hides_the_face(run, analyzer, picture: Path, tmp_path: Path) -> None:
    run("analyze", picture, "--overlay", tmp_path / "sharp.png")
    run("analyze", picture, "--overlay", tmp_path / "blurred.png", "--blur")
    inside = np.s_[60:95, 25:95]
    sharp, blurred = (np.asarray(Image.open(tmp_path / f"{name}.png"))[inside] for name in ("sharp", "blurred"))
    original = np.asarray(Image.open(picture))[inside]
    assert (sharp == original).mean() > 0.5, "only lines were drawn over it"
    assert blurred.std() < 0.3 * original.std()


def test_notice_is_shown_once_on_standard_error(analyzer, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from facellava import cli

    cli.run(["analyze", str(picture), "--json"])
    first = capsys.readouterr()
    assert TEXT in first.err
    assert json.loads(first.out)["version"] == 1
    cli.run(["analyze", str(picture), "--json"])
    assert capsys.readouterr().err == ""
