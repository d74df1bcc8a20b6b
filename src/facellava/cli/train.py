"""``facellava train``: a recipe to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facellava.cli._common import Bar, need_training, pairs, show_notice


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a shipped recipe.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a stopped run goes on in it. runs/NAME.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: stages.align.lr=1e-3.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what the run needs, and train nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON.")] = False,
) -> int:
    """Train a model in stages; start it with torchrun or accelerate for several cards."""
    from facellava.training.recipe import load_recipe

    chosen = load_recipe(recipe, pairs(changes or [], "--set"))
    need_training()  # after the recipe: these imports take seconds, a mistake in it should not
    if plan:
        from facellava.training.plan import plan_run

        found = plan_run(chosen)
        print(found.json() if as_json else found.text())
        return 0
    from facellava.training.run import train as train_model

    show_notice()
    with Bar() as bar:
        folder = train_model(chosen, out or Path("runs") / chosen.name, show=_show, progress=bar)
    _show(f"written to {folder}")
    return 0


def _show(line: str) -> None:
    print(line, flush=True)
