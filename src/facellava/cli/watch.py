"""``facellava watch``: a long video, window by window, into a table and a summary."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facellava.cli._common import loader, require_readable, show_notice

if TYPE_CHECKING:
    from facellava.timeline import Summary, WindowResult


def watch(
    path: Annotated[str, typer.Argument(metavar="VIDEO", help="A video of any length.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table and the summary; the same folder goes on where it was.")
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds of a window, .1 to 3600.")] = 5.0,
    frames: Annotated[int, typer.Option(help="Frames of a window that are looked at, 1 to 64.")] = 4,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; repeatable: expression, action_units, attributes, age, deepfake."),
    ] = None,
    mode: Annotated[
        Literal["full", "movements"],
        typer.Option(help="full, or movements: report movement only, no claim about expression."),
    ] = "full",
    parquet: Annotated[bool, typer.Option("--parquet", help="Write timeline.parquet too (extra data).")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per window and line, as they come; no summary.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores, at most 4.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> int:
    """What each face of a long video displays over time."""
    from facellava.errors import UsageError
    from facellava.timeline import Asked, Summary, record
    from facellava.timeline import watch as watched

    if parquet and out is None:
        raise UsageError("--parquet needs a folder: give --out")
    file, asked = require_readable(Path(path)), Asked.of(window, frames, task, mode)
    show_notice()
    analyzer = loader(threads, offline, quiet=as_json)()
    if out is not None:
        summary = record(analyzer, file, out, asked, parquet=parquet, heard=_json if as_json else _progress)
    else:
        summary = Summary(file.name, asked.tasks)
        for result in watched(analyzer, file, seconds=window, frames=frames, tasks=task, mode=mode):
            summary.add(result.to_dict())
            (_json if as_json else _progress)(result)
    if not as_json:
        _tell(summary, out)
    return 0


def _json(result: WindowResult) -> None:
    print(json.dumps(result.to_dict(), ensure_ascii=False), flush=True)


def _progress(result: WindowResult) -> None:
    """One line on standard error that rewrites itself; silent when nobody is watching."""
    from facellava.timeline.summary import clock

    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{clock(result.end)} watched")
        sys.stderr.flush()


def _tell(summary: Summary, out: Path | None) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    print(summary.text())
    if out is not None:
        print(f"\nevery window: {out / 'timeline.csv'}", flush=True)
