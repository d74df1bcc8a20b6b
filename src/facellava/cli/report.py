"""``facellava report``: the paper's tables with our runs beside them, and the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder of runs (facellava eval --out).")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    blur: Annotated[bool, typer.Option("--blur", help="Make the faces of failure cases unrecognisable.")] = False,
    no_groups: Annotated[bool, typer.Option("--no-groups", help="Leave out errors by group.")] = False,
) -> int:
    """Write report.html, report.md and one LaTeX file a table."""
    from facellava.evaluation.report import write_report

    for path in write_report(runs, out, blur=blur, groups=not no_groups):
        print(path)
    return 0
