"""``facellava ask``: a question about a picture or video, answered as it is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from facellava.cli._common import loader, require_readable, show_notice
from facellava.errors import UsageError


def ask(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A picture or video.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In plain words.")],
    face: Annotated[int | None, typer.Option(min=0, help="Number of the face, from 0, left to right.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of the answer at most.")] = 200,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores, at most 4.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> int:
    """Ask a question about a face."""
    if not question.strip():
        raise UsageError("the question is empty")
    show_notice()
    file = require_readable(Path(path))
    analyzer = loader(threads, offline, quiet=False)()
    for piece in analyzer.ask(file, question, face=face, stream=True, max_new_tokens=max_new_tokens):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
