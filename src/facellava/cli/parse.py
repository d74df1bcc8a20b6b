"""``facellava parse``: typed predictions out of answers in free text, JSON lines in, JSON lines out."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def parse(
    task: Annotated[
        str, typer.Option(help="expression, action_units, attributes, age or deepfake.", show_default=False)
    ],
) -> int:
    """Read JSON lines with a 'text' field on standard input, print them with the prediction added."""
    from facellava.tasks import get, parse_lines

    for row in parse_lines(get(task), sys.stdin):
        print(json.dumps(row, ensure_ascii=False))
    return 0
