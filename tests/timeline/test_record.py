"""A folder of windows: killed and gone on with, the same as one that never was; tables and words of the same rows."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from timeline_world import film, wall, with_faces

from facellava import cli, timeline
from facellava.analyzer import Analyzer
from facellava.errors import BuildLocked, DamagedFile, MissingExtra, RunMismatch
from facellava.instruct.journal import locked
from facellava.results import FaceResult
from facellava.timeline import Asked, Summary, record
from facellava.timeline.record import CSV, JOURNAL, PARQUET, SUMMARY
from facellava.timeline.summary import clock

QUICK = Asked.of(seconds=1, frames=1)
SCRIPT = Path(__file__).with_name("watch_tiny.py")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face, two, none: two seconds each."""

    def frame_at(seconds: float):
        return with_faces(165) if seconds < 2 else with_faces(0, 165) if seconds < 4 else wall()

    return film(tmp_path_factory.mktemp("film") / "a.mp4", frame_at, seconds=6)


@pytest.fixture(scope="module")
def whole(model: Analyzer, video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a run that nobody stopped."""
    pytest.importorskip("pyarrow", reason="needs the data extra")
    out = tmp_path_factory.mktemp("whole")
    record(model, video, out, QUICK, parquet=True)
    return out


def table(out: Path) -> list[dict[str, str]]:
    with (out / CSV).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_rows_are_the_windows(whole: Path) -> None:
    rows = table(whole)
    assert [(row["window"], row["track"], row["error"]) for row in rows] == [
        ("0", "0", ""),
        ("1", "0", ""),
        ("2", "0", ""),
        ("2", "1", ""),
        ("3", "0", ""),
        ("3", "1", ""),
        ("4", "", "no_face"),
        ("5", "", "no_face"),
    ]
    assert all(row["expression.label"] and row["age.low"] and row["deepfake.p.fake"] for row in rows[:6])
    assert all(float(row["end"]) == float(row["start"]) + 1 for row in rows)


def test_csv_parquet_and_json_say_the_same(whole: Path) -> None:
    import pyarrow.parquet

    typed = pyarrow.parquet.read_table(whole / PARQUET)
    rows = table(whole)
    assert typed.column_names == list(rows[0])
    for plain, exact in zip(rows, typed.to_pylist(), strict=True):
        assert plain == {name: "" if value is None else str(value) for name, value in exact.items()}
    windows = [json.loads(line) for line in (whole / JOURNAL).read_text().splitlines()]
    faces = [(w["window"], face) for w in windows[:-1] for face in w["faces"]]
    assert windows[-1] == {"complete": True}
    for row, (window, face) in zip((row for row in typed.to_pylist() if row["track"] is not None), faces, strict=True):
        assert (row["window"], row["track"]) == (window, face["id"])
        assert row["expression.label"] == face["tasks"]["expression"]["label"]
        assert [row["age.low"], row["age.high"]] == face["tasks"]["age"]["range"]
        for unit, chance in face["tasks"]["action_units"]["probabilities"].items():
            assert row[f"action_units.p.{unit}"] == chance


def test_the_summary_counts_the_rows(whole: Path) -> None:
    text = (whole / SUMMARY).read_text(encoding="utf-8")
    assert text.startswith("a.mp4: 0:06 in 6 windows, 2 faces")
    assert "No face in 0:02." in text
    assert "Face 0: between 0:00 and 0:04, seen for 0:04." in text
    assert "Face 1: between 0:02 and 0:04, seen for 0:02." in text
    label = table(whole)[0]["expression.label"]
    assert f"Displayed expression, of the time seen: {label} in " in text
    assert "feels" in text.splitlines()[-1]


@pytest.mark.parametrize("rows", [0, 1, 3, 6])
def test_going_on_gives_the_same(model: Analyzer, video: Path, whole: Path, tmp_path: Path, rows: int) -> None:
    """As if killed after so many windows, amid writing the next."""
    lines = (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    for name in ("about.json", JOURNAL):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[:rows]) + lines[rows][: len(lines[rows]) // 2])
    heard: list[int] = []
    record(model, video, tmp_path, QUICK, heard=lambda window: heard.append(window.window))
    assert heard == list(range(rows, 6))
    for name in (JOURNAL, CSV, SUMMARY):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_finished_folder_is_left_as_it_is(model: Analyzer, video: Path, whole: Path) -> None:
    before = (whole / JOURNAL).read_bytes()
    record(model, video, whole, QUICK, heard=lambda _: pytest.fail("nothing was left to watch"))
    assert (whole / JOURNAL).read_bytes() == before


def test_a_folder_of_something_else(model: Analyzer, video: Path, whole: Path, tmp_path: Path) -> None:
    other = film(tmp_path / "b.mp4", lambda _: wall(), seconds=1)
    with pytest.raises(RunMismatch, match="another video"):
        record(model, other, whole, QUICK)
    with pytest.raises(RunMismatch, match="other seconds"):
        record(model, video, whole, Asked.of(seconds=2, frames=1))
    with locked(tmp_path), pytest.raises(BuildLocked):
        record(model, other, tmp_path, QUICK)


@pytest.mark.parametrize("line", [b"{}\n", b"\0" * 30 + b"\n", b"[1]\n"])
def test_a_damaged_row_is_told(model: Analyzer, video: Path, whole: Path, tmp_path: Path, line: bytes) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    rows = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / JOURNAL).write_bytes(rows[0] + line + b"".join(rows[2:-1]))
    with pytest.raises(DamagedFile, match="choose another folder, or delete it"):
        record(model, video, folder, QUICK)


def test_parquet_without_its_library(model: Analyzer, video: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"facellava\[data\]"):
        record(model, video, tmp_path / "out", QUICK, parquet=True)
    assert not (tmp_path / "out").exists()


def test_no_face_at_all(model: Analyzer, tmp_path: Path, monkeypatch, capsys) -> None:
    path = film(tmp_path / "a.mp4", lambda _: wall(), seconds=2)
    monkeypatch.setattr("facellava.analyzer.load", lambda *_, **__: model)
    assert cli.run(["watch", str(path), "--out", str(tmp_path / "out"), "--window", "1", "--frames", "1"]) == 0
    text = capsys.readouterr().out
    assert "0 faces" in text
    assert "No face in 0:02." in text
    assert [row["error"] for row in table(tmp_path / "out")] == ["no_face"] * 2


def test_the_command_line(model: Analyzer, video: Path, whole: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("facellava.analyzer.load", lambda *_, **__: model)
    options = ["watch", str(video), "--window", "1", "--frames", "1"]
    assert cli.run([*options, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = [json.loads(line) for line in (whole / JOURNAL).read_text().splitlines()[:-1]]
    assert rows == [{name: value for name, value in row.items() if name != "state"} for row in kept]
    assert cli.run([*options, "--parquet"]) == 2
    assert cli.run(["watch", str(tmp_path / "nothing.mp4")]) == 10
    assert cli.run([*options[:2], "--task", "mood"]) == 2


@pytest.mark.slow
def test_killed_at_any_moment(video: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL, again and again, until it is done: nothing lost, nothing twice."""
    out, kills = tmp_path / "out", 0
    command = [sys.executable, str(SCRIPT), str(video), str(out)]
    for _ in range(40):  # more often than there are windows
        process = subprocess.Popen(command)
        seen = (out / JOURNAL).stat().st_size if (out / JOURNAL).exists() else 0
        while process.poll() is None and ((out / JOURNAL).stat().st_size if (out / JOURNAL).exists() else 0) <= seen:
            time.sleep(0.002)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    else:
        pytest.fail("it never came to its end")
    assert kills >= 3
    for name in (JOURNAL, CSV, SUMMARY):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Peaks of two processes, one with a video ten times as long: no more than noise between them."""
    peaks = []
    for minutes in (1, 10):
        path = film(tmp_path / f"{minutes}.mp4", lambda _: wall(), seconds=60 * minutes, rate=5)
        command = [sys.executable, str(SCRIPT), str(path), str(tmp_path / str(minutes))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    print(f"\npeaks {peaks} MiB")
    assert peaks[1] < 1.05 * peaks[0]
    assert peaks[1] < 1500


# --- words ---


def window(number: int, label: str | None, *, track: int = 0, units: tuple[str, ...] = ()) -> dict:
    """A window as the journal has it: one judged face, or one of which nothing is said."""
    abstained = {"abstained": label is None, "reason": "the face is too blurred" if label is None else None}
    tasks = {
        "expression": {"label": label, **abstained},
        "action_units": {"active": units, **abstained},
        "age": {"years": 30 + number, "range": [20, 40 + number], **abstained},
        "deepfake": {"label": "fake" if number == 1 else "real", **abstained},
    }
    start = 5.0 * number
    return {"window": number, "start": start, "end": start + 5, "error": None, "faces": [{"id": track, "tasks": tasks}]}


def test_words_out_of_rows() -> None:
    summary = Summary("film.mp4", FaceResult.TASKS)
    labels = ["happiness", "happiness", "neutral", None, "neutral", "happiness", "happiness", "happiness", "happiness"]
    for number, label in enumerate(labels):
        summary.add(window(number, label, units=("AU12",) if label == "happiness" else ()))
    summary.add({"start": 45.0, "end": 50.0, "error": {"code": "damaged_media"}, "faces": []})
    text = summary.text()
    assert "Could not be looked at: 0:05, among it 0:45 to 0:50 (damaged_media)." in text
    assert "Displayed expression, of the time seen: happiness in 67%, neutral in 22%." in text
    assert "2 changes between judged windows" in text
    assert "longest episodes: happiness from 0:25 to 0:45, happiness from 0:00 to 0:10, neutral from 0:10" in text
    assert "No statement in 11% of the time seen: the face is too blurred." in text
    assert "AU12 in 67%" in text
    assert "about 34 years, between 20 and 44 (an estimate)" in text
    assert "in 1 of 8 windows; this is no proof" in text


def test_many_faces_are_counted_not_listed() -> None:
    summary = Summary("film.mp4", FaceResult.TASKS)
    for number in range(14):
        summary.add(window(number, "neutral", track=number))
    assert summary.text().count("\nFace ") == 10
    assert "4 more faces, each seen for 0:05 or less" in summary.text()


def test_clock() -> None:
    assert [clock(s) for s in (4.6, 61, 3723)] == ["0:05", "1:01", "1:02:03"]


def test_the_module_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "timeline.md").read_text(encoding="utf-8")
    for name in timeline.__all__:
        assert name in text
    for name in (JOURNAL, CSV, PARQUET, SUMMARY):
        assert f"`{name}`" in text
