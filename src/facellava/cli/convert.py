"""``facellava convert``: checkpoints of others into our layout and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facellava.cli._common import pairs
from facellava.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from facellava.model.layouts import Report


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A checkpoint: a folder, a .safetensors or .bin file.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="[DST]", help="The folder to write; left out with --check.")
    ] = None,
    to: Annotated[str, typer.Option("--to", help="ours, official, video-llava, video-llava-hub.")] = "ours",
    layout: Annotated[str, typer.Option(help="Layout of SRC; found out by default.", show_default=False)] = "",
    towers: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Take vision towers from this checkpoint; repeatable.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting: fusion.kind=official_simple.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the tokenizer, if not SRC.")] = None,
    style: Annotated[str, typer.Option(help="Turns: vicuna or chatml; by the layout.", show_default=False)] = "",
    profile: Annotated[
        str, typer.Option(help="Run the release as it runs itself: release, or release-landmarks.", show_default=False)
    ] = "",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16; as in SRC.", show_default=False)] = "",
    seed: Annotated[int, typer.Option(help="Of parts that SRC does not have.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Read names and shapes, report, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON, with every name.")] = False,
) -> int:
    """Convert a checkpoint of the official release, Video-LLaVA, LLaVA or a language model to our layout, and back."""
    if style not in ("", "vicuna", "chatml"):
        raise UsageError(f"--style {style}: choose vicuna or chatml")
    if (target is None) != check:
        raise UsageError("give DST, the folder to write, or --check alone")
    layouts = _layouts()
    options = layouts.Options(
        layout=layout,
        towers=tuple(towers or ()),
        changes=_settings(changes or []),
        seed=seed,
        dtype=dtype,
        tokenizer=tokenizer,
        style=style,  # pyright: ignore[reportArgumentType] - checked above
        profile=profile,
    )
    if target is None:
        report = layouts.inspect(source, options)
        _show(report, as_json)
        report.refuse()
        return 0
    _show(_write(layouts, source, target, options, to), as_json)
    return 0


def _layouts() -> Any:
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("torch", "converting checkpoints") from error
    logging.disable_progress_bar()
    from facellava.model import layouts

    return layouts


def _settings(changes: list[str]) -> dict[str, Any]:
    from facellava import settings

    tables: dict[str, Any] = {}
    settings.override(tables, pairs(changes, "--set"))
    return tables


def _write(layouts: Any, source: Path, target: Path, options: Any, to: str) -> Report:
    from facellava.weights.cache import writing

    with writing(target, "name a folder"):
        return layouts.convert(source, target, options, to=to)


def _show(report: Report, as_json: bool) -> None:
    print(json.dumps(report.to_json(), indent=2) if as_json else report.text(), flush=True)
    for warning in report.warnings:
        print(f"facellava: warning: {warning}", file=sys.stderr)
