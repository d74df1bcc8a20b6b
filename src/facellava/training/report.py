"""A page about a run: loss, loss of each task, rates and speed as curves, and what the model said on the way."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

from facellava.training.recipe import TrainRecipe
from facellava.training.watch import LOG, SAMPLES

LAST_SAMPLES = 24
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#222;background:#fff}"
    "h1,h2{line-height:1.2}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem "
    ".6rem;text-align:left;vertical-align:top}svg{max-width:100%;height:auto}code{overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}"
    "svg{background:#fff;border-radius:4px}}"
)


def read_log(folder: Path) -> list[dict[str, float]]:
    """The logged steps of a stage."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def page(recipe: TrainRecipe, out: Path) -> str:
    """The page as one HTML file that loads nothing."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    parts = [_stage(stage.name, read_log(out / stage.name)) for stage in recipe.stages]
    name = html.escape(recipe.name)
    facts = html.escape(
        f"Recipe {manifest['recipe']}, data {manifest['data']}, {manifest['conversations']:,} conversations, "
        f"seed {recipe.seed}, facellava {manifest['code']}."
    )
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{name}: training</title>"
        f"<meta name='viewport' content='width=device-width,initial-scale=1'><style>{_STYLE}</style></head><body>"
        f"<h1>{name}</h1><p>{html.escape(recipe.description)}</p><p>{facts}</p>{''.join(parts)}{_samples(out)}</body></html>"
    )


def _stage(name: str, lines: list[dict[str, float]]) -> str:
    if not lines:
        return f"<h2>{html.escape(name)}</h2><p>Nothing was logged.</p>"
    tasks = sorted({key for line in lines for key in line if key.startswith("loss/")})
    last = lines[-1]
    rows = "".join(
        f"<tr><td>{html.escape(key.removeprefix('loss/'))}</td><td>{_last(lines, key):.4f}</td></tr>" for key in tasks
    )
    speed = sum(line["conversations_per_second"] for line in lines) / len(lines)
    return (
        f"<h2>{html.escape(name)}</h2><p>{last['step']:.0f} steps, last loss {last['loss']:.4f}, "
        f"{speed:.2f} conversations a second.</p>{_curves(lines, tasks)}"
        f"<table><tr><th>task</th><th>last loss</th></tr>{rows}</table>"
    )


def _last(lines: list[dict[str, float]], key: str) -> float:
    return next(line[key] for line in reversed(lines) if key in line)


def _curves(lines: list[dict[str, float]], tasks: list[str]) -> str:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "facellava", "font.size": 9}):
        figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
        _plot(axes[0], lines, ["loss"], "loss")
        if len(tasks) > 1:
            _plot(axes[1], lines, tasks, "loss by task")
        else:
            _plot(axes[1], lines, ["grad_norm"], "norm of the gradient")
        _plot(axes[2], lines, ["learning_rate"], "rate")
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    text = file.getvalue()
    return text[text.index("<svg") :]


def _plot(axis: Any, lines: list[dict[str, float]], keys: list[str], title: str) -> None:
    for key in keys:
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            axis.plot(*zip(*points, strict=True), label=key.removeprefix("loss/"), linewidth=1.2)
    axis.set_title(title)
    axis.set_xlabel("step")
    if len(keys) > 1:
        axis.legend(frameon=False, fontsize=7)


def _samples(out: Path) -> str:
    path = out / SAMPLES
    if not path.is_file():
        return ""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][-LAST_SAMPLES:]
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(line[key]))}</td>" for key in keys) + "</tr>"
        for line in lines
        for keys in [("stage", "step", "question", "answer", "wanted")]
    )
    names = ("stage", "step", "question", "the model's answer", "the data's answer")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<h2>Held-out faces</h2><table><tr>{head}</tr>{rows}</table>"
