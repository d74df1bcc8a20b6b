"""``facellava analyze``: every face and every task of files, folders and patterns."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facellava.cli._common import loader, obstacles, report, require_readable, show_notice
from facellava.errors import (
    SOME_INPUTS_FAILED,
    FacellavaError,
    HashMismatch,
    LicenseNotAccepted,
    MissingExtra,
    NoSpace,
    UsageError,
    WeightsUnavailable,
)

if TYPE_CHECKING:
    from facellava.analyzer import Analyzer
    from facellava.results import MediaResult

_SETUP = (HashMismatch, LicenseNotAccepted, MissingExtra, NoSpace, UsageError, WeightsUnavailable)
"""Errors that say nothing about an input and would meet every other input too: they end the run."""


@dataclass(frozen=True)
class _Request:
    """What is asked of every input."""

    tasks: tuple[str, ...] | None
    policy: Literal["all", "paper"]
    mode: Literal["full", "movements"]
    blur: bool
    brief: bool
    as_json: bool
    load: Callable[[], Analyzer]


def analyze(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders (recursive), patterns.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; repeatable: expression, action_units, attributes, age, deepfake."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per input and line.")] = False,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Write a picture with boxes, landmarks and attention here (a folder for several)."),
    ] = None,
    mode: Annotated[
        Literal["full", "movements"],
        typer.Option(help="full, or movements: report movement only, no claim about expression."),
    ] = "full",
    policy: Annotated[
        Literal["all", "paper"],
        typer.Option(help="all faces, or paper: refuse clips that the paper's data preparation drops."),
    ] = "all",
    blur: Annotated[bool, typer.Option("--blur", help="Blur faces in the pictures that are written.")] = False,
    brief: Annotated[bool, typer.Option("--brief", help="Labels only, no explanation: several times faster.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores, at most 4.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> int:
    """Describe every face: expression, movements, attributes, age, signs of manipulation."""
    from facellava.cli._inputs import expand, overlay_paths

    _check_tasks(task or [])
    show_notice()
    inputs = expand(paths)
    places = overlay_paths(overlay, inputs)
    load = loader(threads, offline, quiet=as_json)
    request = _Request(tuple(task) if task else None, policy, mode, blur, brief, as_json, load)
    failures: list[FacellavaError] = []
    with _bar(len(inputs)) as advance:
        for position, (path, place) in enumerate(zip(inputs, places, strict=True)):
            try:
                with obstacles(str(path)):
                    _one(path, place, request)
            except FacellavaError as error:
                _failed(path, error, as_json=as_json)
                failures.append(error)
                if isinstance(error, _SETUP):
                    _abandon(inputs[position + 1 :], error, as_json=as_json)
                    return error.exit_code
            advance()
    return _exit_code(failures, len(inputs))


def _check_tasks(names: list[str]) -> None:
    if names:
        from facellava import tasks

        for name in names:
            tasks.get(name)


def _one(path: Path, place: Path | None, request: _Request) -> None:
    require_readable(path)
    result = request.load().analyze(
        path, tasks=request.tasks, policy=request.policy, mode=request.mode, explain=not request.brief
    )
    for face in result.faces:
        if len(face.spans) > 1:
            times = ", ".join(f"{end:.1f}-{start:.1f} s" for (_, end), (start, _) in pairwise(face.spans))
            print(f"facellava: note: {path}: face {face.id} is not seen at {times}", file=sys.stderr)
    if unread := len(result.unread):
        hidden = ", and hidden in the picture" if place is not None and request.blur else ""
        what = "what may be another face" if unread == 1 else f"what may be {unread} more faces"
        print(
            f"facellava: note: {path}: {what} is not clear enough for landmarks, so not described{hidden}",
            file=sys.stderr,
        )
    if place is not None:
        _write_overlay(result, place, blur=request.blur)
    _print(result, as_json=request.as_json)


def _write_overlay(result: MediaResult, place: Path, *, blur: bool) -> None:
    from PIL import Image

    from facellava.files import atomic_path
    from facellava.overlay import draw_overlay
    from facellava.weights import writing

    assert result.frame is not None, "the analyzer keeps the representative frame"
    picture = Image.fromarray(draw_overlay(result.frame, result, blur=blur))
    with writing(place, "choose a folder for --overlay"), atomic_path(place) as temporary:
        try:
            picture.save(temporary, Image.registered_extensions()[place.suffix.lower()])
        except ValueError as error:  # WebP ends at 16,383 pixels
            raise UsageError(f"--overlay {place}: the picture cannot be written ({error}): use .png") from error


def _print(result: MediaResult, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False), flush=True)
        return
    from facellava.cli._render import render

    render(result)


def _failed(path: Path, error: FacellavaError, *, as_json: bool) -> None:
    if as_json:
        from facellava.results import MediaResult

        _print(MediaResult.failed(str(path), error), as_json=True)
    message = str(error)
    report(error if str(path) in message or isinstance(error, _SETUP) else type(error)(f"{path}: {message}"))


def _abandon(rest: list[Path], error: FacellavaError, *, as_json: bool) -> None:
    """In JSON every input has its line, also those that the run never came to."""
    if as_json:
        from facellava.results import MediaResult

        for path in rest:
            _print(MediaResult.failed(str(path), error), as_json=True)


def _exit_code(failures: list[FacellavaError], inputs: int) -> int:
    if not failures:
        return 0
    if inputs == 1:
        return failures[0].exit_code
    print(
        f"facellava: {inputs - len(failures)} of {inputs} inputs analysed, {len(failures)} failed",
        file=sys.stderr,
    )
    return SOME_INPUTS_FAILED


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], object]]:
    """A progress bar on standard error for several inputs, when that is a terminal and standard output is not."""
    if total < 2 or not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("inputs", total=total)
        yield lambda: bar.advance(task)
