"""``facellava eval``: test a model, ours or anybody's, on a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facellava.cli._common import Bar, pairs, show_notice
from facellava.errors import UsageError

if TYPE_CHECKING:
    from facellava.evaluation.benchmark import Benchmark
    from facellava.evaluation.respondents import RespondentConfig


def eval_(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="A shipped benchmark's name, or a TOML file.")],
    root: Annotated[
        list[str] | None, typer.Option(metavar="[SOURCE=]DIR", help="Your copy of the data; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FOLD=]MODEL",
            help="default or a trained folder, both also with :fp32, :int8, ...; a preset, a TOML file, or KIND:MODEL.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs; one that was stopped goes on in it.")] = Path("runs/eval"),
    name: Annotated[str, typer.Option(help="The run's name in folders and tables, if not the model's.")] = "",
    fold: Annotated[list[int] | None, typer.Option(help="Some of the folds; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many samples of each source and fold.")] = 0,
    answers: Annotated[
        Literal["both", "text", "typed"], typer.Option(help="Of models of ours: free answers, scored labels, or both.")
    ] = "both",
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Also ask for explanations, for judges.")] = False,
    by: Annotated[list[str] | None, typer.Option(help="Errors by group: gender, age_group, ...; repeatable.")] = None,
    setting: Annotated[
        Literal["zero-shot", "fine-tuned"],
        typer.Option(help="How the model was trained, for the tables (section 5.1)."),
    ] = "zero-shot",
    send_media_to: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Agree that faces are sent to this service; repeatable.")
    ] = None,
    max_money: Annotated[float, typer.Option(min=0, help="Cap over paid calls, in the unit of the prices.")] = 0.0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that crop faces; 0: one for each core.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of a model that runs here.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> int:
    """Answer every sample of a benchmark, count what the answers say, and keep all of it."""
    from facellava.evaluation.benchmark import read_items
    from facellava.evaluation.fairness import by_group, check_groups
    from facellava.evaluation.respondents.make import Access, connect_respondent
    from facellava.evaluation.run import Options, evaluate
    from facellava.evaluation.summary import summary
    from facellava.llm import Budget

    show_notice()
    chosen = _placed(benchmark, root or [])
    check_groups(chosen, by or ())
    configs = _models(model or ["default"], name)
    options = Options(tuple(fold or ()), limit, reasoning, workers, setting=setting)
    items = read_items(chosen, folds=options.folds, limit=limit)  # told before models load
    access = Access(
        calls=out / "calls",
        allowed=send_media_to or (),
        budget=Budget(money=max_money),
        typed=answers != "text",
        text=answers != "typed",
        threads=threads,
    )
    who = {number: connect_respondent(config, chosen, access) for number, config in configs.items()}
    heading = name or next(iter(configs.values())).heading
    with Bar() as bar:
        scores = evaluate(chosen, who, out, options, bar, heading, items)
    folder = out / chosen.name / next(iter(who.values())).name
    groups = by_group(chosen, folder, by) if by else None
    if as_json:
        print(json.dumps({**scores.to_json(), "folder": str(folder), "groups": groups and groups.to_json()}))
        return 0
    print(summary(chosen, scores, heading))
    if groups is not None:
        print(groups.text())
    print(f"written to {folder}")
    return 0


def _placed(name: str, given: list[str]) -> Benchmark:
    """The benchmark with its sources' folders: ``SOURCE=DIR``, or one DIR for all of them."""
    from facellava.evaluation.benchmark import load_benchmark

    roots = {source: Path(path) for source, path in pairs([r for r in given if "=" in r], "--root").items()}
    everywhere = [Path(r) for r in given if "=" not in r]
    if everywhere:
        roots = {source.label: everywhere[-1] for source in load_benchmark(name).sources} | roots
    return load_benchmark(name, roots)


def _models(given: list[str], name: str) -> dict[int, RespondentConfig]:
    """Fold -> who answers it; fold 0 for all of them."""
    import dataclasses

    from facellava.evaluation.respondents import read_config

    found: dict[int, RespondentConfig] = {}
    for text in given:
        number, equals, rest = text.partition("=")
        if equals and number.isdecimal():
            found[int(number)] = read_config(rest)
        else:
            found[0] = read_config(text)
    if 0 in found and len(found) > 1:
        raise UsageError("--model: give one model for all folds, or FOLD=MODEL for each of them")
    first = name or next(iter(found.values())).name
    return {number: dataclasses.replace(config, name=first) for number, config in found.items()}
