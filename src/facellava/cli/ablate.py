"""``facellava ablate``: a table of the paper's ablations, trained and tested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facellava.cli._common import need_training, pairs, show_notice


def ablate(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="table6 or table12.")],
    data: Annotated[list[str], typer.Option(metavar="[ROW=]DIR", help="Dataset of all rows, or of one; repeatable.")],
    test: Annotated[Path, typer.Option(help="Dataset whose held-out part is tested.")],
    out: Annotated[Path, typer.Option(help="Folder; a table that was stopped goes on in it.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row.")] = 3,
    row: Annotated[list[str] | None, typer.Option(help="Some of the rows; repeatable.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
) -> int:
    """Train every row of a table with several seeds and print it beside the paper's numbers."""
    need_training()
    from facellava.training.ablate import load_table, run_table

    show_notice()
    places = {name: Path(path) for name, _, path in (text.rpartition("=") for text in data)}
    chosen = load_table(table)
    print(run_table(chosen, places, test, out, seeds=seeds, rows=row or (), changes=pairs(changes or [], "--set")))
    return 0
