"""``facellava judge``: a model rates the explanations of finished runs (appendix F.4)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from facellava.cli._common import Bar, show_notice
from facellava.errors import UsageError

if TYPE_CHECKING:
    from facellava.instruct.recipe import ServiceConfig


def judge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, RUNS/BENCHMARK/MODEL.")],
    by: Annotated[str, typer.Option("--judge", help="openai:MODEL, gemini:MODEL, facellava:MODEL, or a preset.")],
    out: Annotated[Path, typer.Option(help="The folder of runs that they are in.")] = Path("runs/eval"),
    base_url: Annotated[str, typer.Option(help="Of the service, e.g. a local one.")] = "",
    key_env: Annotated[str, typer.Option(help="Environment variable with the key.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Explanations of each run; the paper judges 500 a task.")] = 0,
    send_media_to: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Agree that faces are sent to this service; repeatable.")
    ] = None,
    price_input: Annotated[float, typer.Option(min=0, help="Money per million input tokens.")] = 0.0,
    price_output: Annotated[float, typer.Option(min=0, help="Money per million output tokens.")] = 0.0,
    max_money: Annotated[float, typer.Option(min=0, help="Cap, in the unit of the prices.")] = 0.0,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it will cost, and ask nothing.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="Another judge's marks.jsonl, or a CSV of people's, to compare with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> int:
    """Three marks for each explanation: against the picture, against the label, and completeness."""
    from facellava.evaluation.judge import (
        Judge,
        agreement,
        estimate_cost,
        judge_runs,
        load_marks,
        mean_marks,
        read_human,
        refusals,
    )
    from facellava.llm import Budget

    show_notice()
    who = Judge(
        _config(by, base_url, key_env, (price_input, price_output)),
        out / "judge",
        send_media_to or (),
        Budget(money=max_money),
    )
    if estimate:
        cost = dataclasses.asdict(estimate_cost(who, runs, out, limit))
        print(json.dumps(cost) if as_json else "\n".join(f"{k}: {v:,.2f}" for k, v in cost.items()))
        return 0
    given = None  # before anything is paid for
    if against is not None:
        given = read_human(against) if against.suffix == ".csv" else load_marks(against)
    with Bar() as bar:
        marks = judge_runs(who, runs, out, limit=limit, progress=bar)
    means = mean_marks(marks)
    other = None if given is None else agreement(marks, given)
    if as_json:
        found = {f"{criterion}.{task}": {"mean": mean, "n": n} for (criterion, task), (mean, n) in means.items()}
        agreed = None if other is None else [dataclasses.asdict(a) for a in other]
        print(json.dumps({"means": found, "unmarked": refusals(marks), "agreement": agreed}))
        return 0
    for (criterion, task), (mean, n) in means.items():
        print(f"{criterion:<20} {task:<14} {mean:5.2f}  n={n}")
    for code, count in refusals(marks).items():
        print(f"without marks: {code} {count}")
    for a in other or ():
        figures = f"kappa {a.kappa:.2f}, Spearman {a.spearman:.2f}, off by {a.distance:.2f}, n={a.n}"
        print(f"agreement on {a.criterion}: {figures}")
    return 0


def _config(text: str, base_url: str, key_env: str, prices: tuple[float, float]) -> ServiceConfig:
    """The judge's service from ``KIND:MODEL``, or a preset as ``facellava eval`` takes."""
    from facellava.evaluation.respondents import read_config
    from facellava.instruct.recipe import ServiceConfig

    kind, colon, model = text.partition(":")
    if colon and kind in ("openai", "gemini", "facellava"):
        input_, output = prices
        return ServiceConfig(
            kind, model=model, base_url=base_url, key_env=key_env, price_input=input_, price_output=output
        )
    preset = read_config(text)
    if not preset.is_service:
        raise UsageError(f"--judge {text}: give KIND:MODEL with openai, gemini or facellava, or a service's preset")
    shared = {field.name for field in dataclasses.fields(ServiceConfig)} - {"kind", "max_tokens"}
    values = {name: value for name, value in dataclasses.asdict(preset).items() if name in shared}
    for name, price in zip(("price_input", "price_output"), prices, strict=True):
        values[name] = price or values[name]
    return ServiceConfig(kind=cast(Any, preset.kind), **values)
