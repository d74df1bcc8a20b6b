"""``facellava ask``: a question about a picture or video, answered as it is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellava.cli._common import loader, require_readable, show_notice
from facellava.errors import FileMissing, UsageError
from facellava.files import from_json

if TYPE_CHECKING:
    from facellava.runtime.constrained import Constraint


def ask(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A picture or video.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In plain words.")],
    face: Annotated[int | None, typer.Option(min=0, help="Number of the face, from 0, left to right.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A JSON schema: the answer is JSON that fits it.")] = None,
    choice: Annotated[list[str] | None, typer.Option(help="Answer with one of these; repeatable.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of the answer at most.")] = 200,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores, at most 4.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> int:
    """Ask a question about a face."""
    if not question.strip():
        raise UsageError("the question is empty")
    show_notice()
    file = require_readable(Path(path))
    constraint = _constraint(schema, choice or [])
    analyzer = loader(threads, offline, quiet=False)()
    pieces = analyzer.ask(file, question, face=face, stream=True, max_new_tokens=max_new_tokens, constraint=constraint)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


def _constraint(schema: Path | None, choices: list[str]) -> Constraint | None:
    """The form of the answer that the options ask for; told before any model is loaded."""
    if schema is None and not choices:
        return None
    from facellava.runtime.constrained import Constraint

    if schema is None:
        return Constraint.choices(choices)
    if choices:
        raise UsageError("give --schema or --choice, not both")
    if not schema.is_file():
        raise FileMissing(f"{schema}: no such file")
    try:
        found = from_json(schema.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{schema} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{schema} is no JSON schema: expected an object")
    return Constraint.json(found)
