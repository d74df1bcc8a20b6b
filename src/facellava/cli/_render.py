"""Results for people: one block per medium, one table per face. Wording follows ``docs/responsible-use.md``."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from facellava.results import (
    ActionUnitsResult,
    AgeResult,
    AttributesResult,
    DeepfakeResult,
    ExpressionResult,
    FaceResult,
    MediaResult,
    TaskResult,
)
from facellava.tasks import get

__all__ = ["render"]

_TITLES = {
    "expression": "displayed expression",
    "action_units": "movements",
    "attributes": "attributes",
    "age": "apparent age",
    "deepfake": "authenticity",
}


def render(result: MediaResult, console: Console | None = None) -> None:
    """Print a result; plain text without colours when standard output is not a terminal."""
    console = console or Console(highlight=False, width=None if Console().is_terminal else 100)
    count = len(result.faces)
    console.print(Text(f"{result.media}: {count} face{'' if count == 1 else 's'} ({result.kind})", style="bold"))
    for face in result.faces:
        console.print(Panel(_table(face), title=_title(face, result), title_align="left"))


def _title(face: FaceResult, result: MediaResult) -> Text:
    x0, y0, x1, y1 = (round(value) for value in face.box)
    where = f"face {face.id} at {x0},{y0} - {x1},{y1}"
    if result.kind == "video":
        where += ", " + ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in face.spans)
    return Text(where)


def _table(face: FaceResult) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, task in face.tasks.items():
        table.add_row(_TITLES[name], _abstention(task) if task.abstained else _value(task))
        if task.text and not task.abstained:
            table.add_row("", Text(task.text, style="italic"))
    if face.region_attention:
        table.add_row("looked at", _regions(face.region_attention))
    for note in face.notes:
        table.add_row("note", Text(note))
    return table


def _value(task: TaskResult) -> Text:
    match task:
        case ExpressionResult():
            return _expression(task)
        case ActionUnitsResult():
            return _units(task)
        case AttributesResult():
            return _attributes(task)
        case AgeResult():
            return _age(task)
        case DeepfakeResult():
            return _deepfake(task)
    raise AssertionError(f"no rendering for {type(task).__name__}")


def _abstention(task: TaskResult) -> Text:
    return Text(f"no statement: {task.reason or 'the picture does not allow one'}")


def _percent(probabilities: dict[str, float], name: str | None) -> str:
    return f" {probabilities[name]:.0%}" if name in probabilities else ""


def _expression(task: ExpressionResult) -> Text:
    if task.label is None:
        return Text("the answer names none")
    others = sorted((item for item in task.probabilities.items() if item[0] != task.label), key=lambda item: -item[1])
    rest = ", ".join(f"{name} {chance:.0%}" for name, chance in others[:2] if chance >= 0.05)
    head = Text(task.label + _percent(task.probabilities, task.label), style="bold")
    return head.append(f"  ({rest})", style="not bold") if rest else head


def _names(names: Iterable[str], words: dict[str, str], probabilities: dict[str, float]) -> Text:
    parts = [f"{name}{words.get(name, '')}{_percent(probabilities, name)}" for name in names]
    return Text(", ".join(parts) or "none clearly visible")


def _units(task: ActionUnitsResult) -> Text:
    words = {label.name: f" {label.text}" for label in get("action_units").labels}
    return _names(task.active, words, task.probabilities)


def _attributes(task: AttributesResult) -> Text:
    return _names((name.replace("_", " ") for name in task.present), {}, {})


def _age(task: AgeResult) -> Text:
    if task.years is None:
        return Text("the answer names none")
    span = f", between {task.range[0]} and {task.range[1]}" if task.range else ""
    return Text(f"about {task.years} years{span} (an estimate)")


def _deepfake(task: DeepfakeResult) -> Text:
    chance = _percent(task.probabilities, "fake").strip()
    if task.label is None:
        return Text("the answer makes no statement")
    score = f" (model's score for manipulation: {chance})" if chance else ""
    if task.label == "fake":
        return Text("possible manipulation" + score + "; this is no proof")
    return Text("no sign of manipulation found" + score + "; this is no proof")


def _regions(shares: dict[str, float]) -> Text:
    top = sorted(shares.items(), key=lambda item: -item[1])[:4]
    return Text(", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in top))
