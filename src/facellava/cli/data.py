"""``facellava data``: from your copies of datasets to instruction data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facellava.cli._common import Bar, pairs, show_notice
from facellava.errors import SOME_INPUTS_FAILED

if TYPE_CHECKING:
    from facellava.instruct.executor import Engine
    from facellava.instruct.recipe import Recipe

app = typer.Typer(help="Build instruction data: sources, check, build, plan, export, import.")

_Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
_Roots = Annotated[
    list[str] | None, typer.Option("--root", metavar="SOURCE=DIR", help="Where a source lies; repeatable.")
]


@app.command("sources")
def list_sources(as_json: _Json = False) -> int:
    """The datasets that can be read, and how to obtain them."""
    from dataclasses import asdict

    from facellava.instruct.sources import all_sources

    infos = [source.INFO for source in all_sources().values()]
    if as_json:
        print(json.dumps([asdict(info) for info in infos], indent=2, ensure_ascii=False))
        return 0
    wide = max(len(info.name) for info in infos)
    for info in infos:
        initial = f"{info.counts[0]:>9,}" if info.counts else f"{'':>9}"
        print(f"{info.name:<{wide}}  {info.task or 'any':<12}  {info.modality:<5}  {initial}  {info.title}")
        print(f"{'':<{wide}}  {info.licence}. {info.obtain}")
    return 0


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="SOURCE")],
    root: Annotated[Path, typer.Option(help="Folder of your copy.")],
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the reader.")] = None,
    media: Annotated[int, typer.Option(help="How many media to open, spread over all; -1 for every one.")] = 200,
    as_json: _Json = False,
) -> int:
    """Compare a copy with the official layout and counts. Exit code 3 when it is incomplete."""
    from facellava.instruct.check import check as check_copy

    report = check_copy(name, root, _options(option or []), media=None if media < 0 else media)
    print(json.dumps(report.to_json(), indent=2, ensure_ascii=False) if as_json else report.text())
    return 0 if report.complete else SOME_INPUTS_FAILED


@app.command()
def build(
    recipe: Annotated[str, typer.Option(help="A TOML file, or the name of a shipped recipe.")],
    out: Annotated[Path, typer.Option(help="Build folder; a build that was stopped goes on in it.")],
    root: _Roots = None,
    only: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help="Leave the other sources out.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many samples of each split of a source.")] = 0,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="What runs the work.")] = "local",
    workers: Annotated[int, typer.Option(min=0, help="0: one for each core.")] = 0,
    send_media_to: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Agree that faces are sent to this service; repeatable."),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Preprocess, then say what the calls will cost.")
    ] = False,
    as_json: _Json = False,
) -> int:
    """Read, crop, annotate, rate, filter and write a dataset."""
    from facellava.instruct.output import describe, write
    from facellava.instruct.pipeline import Build
    from facellava.instruct.services import Services

    show_notice()
    chosen = _recipe(recipe, root, only, limit, changes or [])
    with Bar() as bar:
        services = Services(chosen, out, send_media_to or ())
        job = Build(chosen, out, _engine(engine, workers), services, bar)
        if estimate:
            found = job.estimate()
            print(json.dumps(found) if as_json else "\n".join(f"{k}: {v}" for k, v in found.items()))
            return 0
        summary = write(job.run(), chosen, out, bar)
    print(json.dumps(summary, indent=2, ensure_ascii=False) if as_json else describe(summary))
    return 0


@app.command()
def plan(
    build: Annotated[Path, typer.Option(help="A build folder whose costs were measured.")],
    images: Annotated[int, typer.Option(min=0)] = 850_000,
    video_hours: Annotated[float, typer.Option(min=0)] = 120.0,
    cores: Annotated[int, typer.Option(min=1, help="That preprocess at once.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Samples annotated and rated at once.")] = 1,
    price_input: Annotated[float, typer.Option(min=0, help="Money per million input tokens.")] = 0.0,
    price_output: Annotated[float, typer.Option(min=0, help="Money per million output tokens.")] = 0.0,
    rater_price_input: Annotated[float | None, typer.Option(min=0, help="The same of the rater, if other.")] = None,
    rater_price_output: Annotated[float | None, typer.Option(min=0, help="The same of the rater, if other.")] = None,
    as_json: _Json = False,
) -> int:
    """Hours, disk, tokens and money of a large build, from the measured costs of a small one."""
    from dataclasses import asdict

    from facellava.instruct.plan import measure
    from facellava.instruct.plan import plan as make_plan

    prices = {
        "annotate_input": price_input,
        "annotate_output": price_output,
        "rate_input": price_input if rater_price_input is None else rater_price_input,
        "rate_output": price_output if rater_price_output is None else rater_price_output,
    }
    costs = measure(build)
    found = make_plan(
        costs, images=images, video_hours=video_hours, cores=cores, concurrency=concurrency, prices=prices
    )
    if as_json:
        print(json.dumps({"measured": asdict(costs), "plan": found.to_json()}, indent=2))
        return 0
    print(f"measured on {costs.images:,} pictures and {costs.video_seconds:,.0f} s of video of {build}")
    for key, value in found.to_json().items():
        shown = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        print(f"{key.replace('_', ' '):<24}{shown:>16}")
    return 0


@app.command()
def export(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder that 'data build' wrote (OUT/dataset).")],
    form: Annotated[str, typer.Option("--format", help="llava, sharegpt or webdataset.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    multi_turn: Annotated[
        bool, typer.Option("--multi-turn", help="One conversation for each face, of all rows about it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Fixes the order of the turns.")] = 0,
) -> int:
    """Write a dataset in another format."""
    from facellava.instruct.export import export as export_dataset

    written = export_dataset(dataset, form, out, multi_turn=multi_turn, seed=seed)
    print(f"{written:,} conversations in {out}")
    return 0


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="LLaVA JSON.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset to write.")],
    media: Annotated[Path | None, typer.Option(help="Folder that the file's paths are relative to.")] = None,
) -> int:
    """Read LLaVA JSON into the store of record."""
    from facellava.instruct.importer import import_llava

    print(f"{import_llava(file, out, media or file.parent):,} rows in {out}")
    return 0


def _options(given: list[str]) -> dict[str, Any]:
    from facellava.settings import parse

    return {key: parse(value) for key, value in pairs(given, "--option").items()}


def _recipe(name: str, roots: list[str] | None, only: list[str] | None, limit: int, changes: list[str]) -> Recipe:
    from dataclasses import replace

    from facellava.instruct.recipe import load_recipe

    places = {key: Path(value).expanduser().resolve() for key, value in pairs(roots or [], "--root").items()}
    recipe = load_recipe(name, places, only=only, changes=pairs(changes, "--set"))
    if limit:
        recipe = replace(recipe, sources=tuple(replace(source, limit=limit) for source in recipe.sources))
    return recipe


def _engine(name: str, workers: int) -> Engine:
    from facellava.instruct.executor import LocalEngine, RayEngine

    return RayEngine(workers) if name == "ray" else LocalEngine(workers)
