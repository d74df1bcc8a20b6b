"""Checking a copy: a whole one is told apart from a damaged one, and every kind of damage is named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from source_fixtures import fixtures, put, write
from source_fixtures_expression import CREMA_D_CODES

from facellava.cli import run
from facellava.errors import SOME_INPUTS_FAILED, UsageError
from facellava.instruct import sources
from facellava.instruct.check import SHOWN, CheckReport, check


@pytest.fixture
def expect(monkeypatch: pytest.MonkeyPatch):
    """The copies are tiny: states their own counts as the official ones."""

    def state(name: str) -> dict[str, int]:
        source = sources.get(name)
        labels = fixtures()[name].labels
        counts = {split: len(labels[split]) for split in labels}
        counts = {"all": sum(counts.values())} if "all" in source.INFO.expected else counts
        monkeypatch.setattr(source, "INFO", dataclasses.replace(source.INFO, expected=counts))
        return counts

    return state


@pytest.mark.parametrize("name", sorted(fixtures()))
def test_a_whole_copy_is_complete(name: str, expect, tmp_path: Path) -> None:
    fixture = fixtures()[name]
    fixture.build(tmp_path)
    expected = expect(name)
    report = check(name, tmp_path, {})
    assert report.complete, report.text()
    assert dict(report.expected) == expected
    assert dict(report.samples) == {split: len(labels) for split, labels in fixture.labels.items()}
    assert report.opened == report.files > 0
    every = [label for labels in fixture.labels.values() for label in labels.values()]
    assert report.unlabelled == every.count(None)
    assert report.text().endswith("complete")
    assert json.loads(json.dumps(report.to_json()))["complete"] is True


def test_labels_are_counted_in_canonical_order(tmp_path: Path) -> None:
    fixtures()["folder"].build(tmp_path)
    labels = check("folder", tmp_path, {}).labels
    assert list(labels) == ["expression", "action_units", "attributes", "age", "deepfake"]
    assert {k: v for k, v in labels["action_units"].items() if v} == {"AU6": 1, "AU12": 1}
    assert list(labels["expression"]) == ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert labels["age"] == {"0-9": 1, "30-39": 1}
    assert labels["deepfake"] == {"real": 1, "fake": 1}


def test_histogram_is_that_of_the_labels(tmp_path: Path) -> None:
    fixtures()["crema_d"].build(tmp_path)
    report = check("crema_d", tmp_path, {}, 0)
    assert report.labels["expression"] == {**dict.fromkeys(["surprise"], 0), **Counter(CREMA_D_CODES.values())}
    assert report.subjects == 5 and report.opened == 0


def damaged(tmp_path: Path) -> CheckReport:
    """Of seven training clips of FERV39k's copy: one gone, one empty, one cut off, one no video at all."""
    root = tmp_path / "copy"
    fixtures()["ferv39k"].build(root)
    clips = root / "0_7_LabelClips"
    (clips / "Action/Happy/0267.mp4").unlink()
    (clips / "Crime/Angry/0001.mp4").write_bytes(b"")
    whole = (clips / "War/Fear/0012.mp4").read_bytes()
    (clips / "War/Fear/0012.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "Action/Sad/0268.mp4").write_text("404 not found")
    return check("ferv39k", root, {})


def test_a_damaged_copy_is_told_file_by_file(expect, tmp_path: Path) -> None:
    expect("ferv39k")
    report = damaged(tmp_path)
    assert not report.complete and not report.differing
    assert [path.name for path in report.missing] == ["0267.mp4"]
    assert {(bad.path.name, bad.code) for bad in report.unreadable} == {
        ("0001.mp4", "empty_file"),
        ("0012.mp4", "damaged_media"),
        ("0268.mp4", "unsupported_media"),
    }
    assert report.opened == 6
    text = report.text()
    assert "missing: 1 media are missing" in text and "0267.mp4" in text
    assert "unreadable: 3 media cannot be read" in text and "bytes are missing" in text
    assert text.endswith("incomplete")
    media = report.to_json()["media"]
    assert (media["missing"], media["unreadable"]) == (1, 3)


def test_pictures_are_decoded_wholly(tmp_path: Path) -> None:
    fixtures()["raf_db"].build(tmp_path)
    path = tmp_path / "Image/original/train_00004.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    report = check("raf_db", tmp_path, {})
    assert [(bad.path.name, bad.code) for bad in report.unreadable] == [("train_00004.jpg", "damaged_media")]


def test_official_counts_are_compared(tmp_path: Path) -> None:
    fixtures()["celeba"].build(tmp_path)
    report = check("celeba", tmp_path, {})
    assert report.differing == {"train": (2, 162_770), "val": (1, 19_867), "test": (1, 19_962)}
    assert not report.complete
    assert "wrong: train has 2 samples, expected 162,770" in report.text()
    assert "Table 11 of the paper starts from 203,000" in report.text()
    assert report.to_json()["table_11_initial"] == 203_000


def test_a_difference_that_publications_have_too_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, "labels.csv", "file,expression", *(f"{n}.jpg,fear" for n in range(98)))
    put(tmp_path, *(f"{n}.jpg" for n in range(98)))
    source = sources.get("folder")
    for tolerance, complete in ((0.0, False), (0.01, False), (0.02, True)):
        info = dataclasses.replace(source.INFO, expected={"all": 100}, tolerance=tolerance)
        monkeypatch.setattr(source, "INFO", info)
        assert check("folder", tmp_path, {}).complete is complete


def test_an_option_that_thins_out_suspends_the_official_counts(tmp_path: Path) -> None:
    fixtures()["disfa"].build(tmp_path)
    assert check("disfa", tmp_path, {"threshold": 3}).differing == {"all": (8, 130_788)}
    thinned = check("disfa", tmp_path, {"every": 2})
    assert thinned.complete and thinned.total == 4
    assert thinned.text().endswith("nothing is wrong (no official count to compare with)")


def test_broken_annotations_are_told_and_the_other_splits_read(expect, tmp_path: Path) -> None:
    expect("ferv39k")
    fixture = fixtures()["ferv39k"]
    fixture.build(tmp_path)
    assert fixture.breakage is not None
    fixture.breakage.do(tmp_path)
    report = check("ferv39k", tmp_path, {})
    assert len(report.problems) == 1 and "line 2: label is 'Contempt'" in report.problems[0]
    assert report.samples == {"train": 1, "test": 3}
    assert not report.complete


def test_a_wrong_root_is_one_problem(tmp_path: Path) -> None:
    report = check("faceforensics", tmp_path, {"compression": "c23"})
    assert len(report.problems) == 3, "each split has a file of its own"
    assert all("The official layout is" in problem for problem in report.problems)
    assert len(check("celeba", tmp_path, {}).problems) == 1
    assert report.text().endswith("incomplete: no samples")


def test_people_in_two_splits_and_repeated_ids_are_told(tmp_path: Path) -> None:
    rows = ["1.jpg,train,ann,fear", "2.jpg,test,ann,anger", "3.jpg,test,ben,anger", "3.jpg,test,ben,anger"]
    write(tmp_path, "labels.csv", "file,split,subject,expression", *rows)
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    report = check("folder", tmp_path, {})
    assert dict(report.shared) == {"ann": ("test", "train")} and report.subjects == 2
    assert report.repeated == ("folder/3.jpg",)
    assert not report.complete
    assert "1 people are in more than one split" in report.text() and "ann: test, train" in report.text()


def test_a_sample_of_the_media_is_the_same_each_time_and_wherever_the_copy_lies(tmp_path: Path) -> None:
    write(tmp_path / "a", "labels.csv", "file,expression", *(f"{n:03}.jpg,fear" for n in range(60)))
    put(tmp_path / "a", *(f"{n:03}.jpg" for n in range(60)))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for root in (tmp_path / "a", tmp_path / "b"):
        for n in range(60):
            (root / f"{n:03}.jpg").write_bytes(b"")
    bad = [{u.path.name for u in check("folder", tmp_path / name, {}, 25).unreadable} for name in ("a", "a", "b")]
    assert bad[0] == bad[1] == bad[2] and len(bad[0]) == 25
    few = {u.path.name for u in check("folder", tmp_path / "a", {}, 10).unreadable}
    assert few < bad[0]
    report = check("folder", tmp_path / "a", {}, None)
    assert report.opened == len(report.unreadable) == 60
    assert len(report.to_json()["media"]["unreadable_examples"]) == SHOWN
    assert "... and 40 more" in report.text()


def test_progress_is_told(tmp_path: Path) -> None:
    fixtures()["ffhq"].build(tmp_path)
    seen: list[tuple[int, int]] = []
    check("ffhq", tmp_path, {}, 3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_mistakes_of_the_caller_are_no_findings(tmp_path: Path) -> None:
    fixtures()["dfew"].build(tmp_path)
    with pytest.raises(UsageError, match="unknown source"):
        check("dfw", tmp_path, {})
    with pytest.raises(UsageError, match="dfew has no option 'folds'; it has fold"):
        check("dfew", tmp_path, {"folds": 1})
    with pytest.raises(UsageError, match="option fold is 9"):
        check("dfew", tmp_path, {"fold": 9})


def test_command_line(expect, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expect("dfew")
    fixtures()["dfew"].build(tmp_path)
    assert run(["data", "check", "dfew", "--root", str(tmp_path), "--option", "fold=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"] == {"fold": 2} and found["samples"] == {"train": 5, "test": 2, "all": 7}
    (tmp_path / "Clip/original/3.mp4").unlink()
    assert run(["data", "check", "dfew", "--root", str(tmp_path), "--media", "-1"]) == SOME_INPUTS_FAILED
    assert "3.mp4" in capsys.readouterr().out
    assert run(["data", "check", "dfew", "--root", str(tmp_path), "--option", "fold=7"]) == 2
    assert "option fold is 7; known: 1, 2, 3, 4, 5" in capsys.readouterr().err
