"""A video's windows in a folder: an append-only file while it goes, tables and a summary at the end.

A killed run loses the window it was at and nothing else: the next one with the same folder goes on there, with the same
numbers for the faces, and ends with the same files as one that was never stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from facellava.analyzer import Analyzer
from facellava.errors import DamagedFile, RunMismatch
from facellava.face.stretches import VideoFile
from facellava.files import read_object, reading, write_atomic
from facellava.instruct.journal import json_line, locked
from facellava.timeline import tables
from facellava.timeline.numbering import Numbering
from facellava.timeline.summary import Summary
from facellava.timeline.watch import LIMITS, Asked, WindowResult, results

__all__ = ["CSV", "JOURNAL", "PARQUET", "SUMMARY", "record"]

ABOUT, JOURNAL, CSV, PARQUET, SUMMARY = (
    "about.json",
    "windows.jsonl",
    "timeline.csv",
    "timeline.parquet",
    "summary.txt",
)
_KEYS = {"start", "end", "error", "faces", "state"}
"""Of a window's row."""
VERSION = 1
"""Of the folder; within one version fields and columns are only added."""

Heard = Callable[[WindowResult], object]


def record(
    analyzer: Analyzer,
    source: str | Path,
    out: str | Path,
    asked: Asked | None = None,
    *,
    parquet: bool = False,
    heard: Heard = lambda _: None,
) -> Summary:
    """Watch a video and keep its windows in ``out``, going on where an earlier run was stopped.

    Args:
        asked: length of a window, frames, tasks; see ``Asked.of``.
        parquet: write ``timeline.parquet`` beside ``timeline.csv``.
        heard: is told of every new window.

    Raises:
        RunMismatch: the folder holds another video, or other wishes. BuildLocked: another process is at it.
        MissingExtra: Parquet without pyarrow. FacellavaError: as ``watch``.
    """
    asked, folder = asked or Asked.of(), Path(out)
    if parquet:
        tables.require_parquet()
    file = VideoFile.of(Path(source), asked.seconds, asked.frames, LIMITS)
    about = _about(analyzer, file, asked)
    with locked(folder):
        _claim(folder / ABOUT, about)
        summary = _watched(analyzer, file, asked, folder / JOURNAL, heard)
        tables.write_csv(folder / CSV, _windows(folder / JOURNAL), about["columns"])
        if parquet:
            tables.write_parquet(folder / PARQUET, _windows(folder / JOURNAL), about["columns"])
        write_atomic(folder / SUMMARY, summary.text() + "\n")
    return summary


def _about(analyzer: Analyzer, file: VideoFile, asked: Asked) -> dict[str, Any]:
    columns = tables.columns(asked.tasks, analyzer.engine.untrained)
    wishes = {"seconds": asked.seconds, "frames": asked.frames, "tasks": list(asked.tasks)}
    return {"version": VERSION, "sha256": file.sha256, "model": analyzer.name, **wishes, "columns": columns}


def _claim(path: Path, about: Mapping[str, Any]) -> None:
    """Make the folder this run's, or see that it is."""
    if not path.is_file():
        write_atomic(path, json.dumps(about, indent=1) + "\n")
        return
    known = read_object(path, "choose another folder", DamagedFile)
    for name, value in about.items():
        if known.get(name) != value:
            what = "another video" if name == "sha256" else f"a run with other {name}"
            raise RunMismatch(f"{path.parent} holds {what}: choose another folder, or the same wishes")


def _watched(analyzer: Analyzer, file: VideoFile, asked: Asked, path: Path, heard: Heard) -> Summary:
    """Bring the journal to its end; what it amounts to."""
    summary, state = Summary(file.path.name, asked.tasks), {"next": 0, **Numbering().state()}
    with _appending(path) as (known, append):
        for row in known:
            if row.get("complete"):
                return summary
            summary.add(row)
            state = row["state"]
        numbering = Numbering.of(state, asked.kept)
        for stretch, result in results(analyzer, file, asked, numbering, state["next"]):
            row = {**result.to_dict(), "state": {"next": stretch.after, **numbering.state()}}
            append(row)
            summary.add(row)
            heard(result)
        append({"complete": True})
    return summary


@contextmanager
def _appending(path: Path) -> Iterator[tuple[Iterator[dict[str, Any]], Callable[[Mapping[str, Any]], None]]]:
    """The whole rows of a file, one at a time, and a function that adds one; a torn last line is cut off first.

    A row is safe from SIGKILL when the function returns, and from a power cut at the end.
    """
    with path.open("ab+") as file:
        file.truncate(_whole(file))

        def append(row: Mapping[str, Any]) -> None:
            file.write(json_line(row))
            file.flush()

        yield _rows(path), append
        os.fsync(file.fileno())


def _whole(file: IO[bytes]) -> int:
    """Where the last whole line ends."""
    file.seek(0)
    return sum(len(line) for line in file if line.endswith(b"\n"))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            with reading(path, "choose another folder, or delete it"):
                row = json.loads(line)
                if not row.get("complete") and not row.keys() >= _KEYS:
                    raise KeyError(f"a line holds {', '.join(row)[:60] or 'nothing'}")
            yield row


def _windows(path: Path) -> Iterator[dict[str, Any]]:
    return (row for row in _rows(path) if not row.get("complete"))
