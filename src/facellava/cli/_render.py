"""Results for people: one block per medium, one table per face. Wording follows ``docs/responsible-use.md``."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from facellava.results import ActionUnitsResult, ExpressionResult, FaceResult, MediaResult, TaskResult
from facellava.showing import TITLES, said
from facellava.tasks import get

__all__ = ["render"]


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
        table.add_row(TITLES[name], _value(name, task))
        if task.text and not task.abstained:
            table.add_row("", Text(task.text, style="italic"))
    if face.region_attention:
        table.add_row("looked at", _regions(face.region_attention))
    for note in face.notes:
        table.add_row("note", Text(note))
    return table


def _value(name: str, task: TaskResult) -> Text:
    """In the words of ``showing``; a terminal has room for the next expressions and for what the codes mean."""
    if isinstance(task, ExpressionResult) and task.label is not None:
        return _expression(task, task.label)
    if isinstance(task, ActionUnitsResult) and not task.abstained:
        return _units(task)
    return Text(said(name, task.to_dict()))


def _percent(probabilities: dict[str, float], name: str) -> str:
    return f" {probabilities[name]:.0%}" if name in probabilities else ""


def _expression(task: ExpressionResult, label: str) -> Text:
    others = sorted((item for item in task.probabilities.items() if item[0] != label), key=lambda item: -item[1])
    rest = ", ".join(f"{name} {chance:.0%}" for name, chance in others[:2] if chance >= 0.05)
    head = Text(label + _percent(task.probabilities, label), style="bold")
    return head.append(f"  ({rest})", style="not bold") if rest else head


def _units(task: ActionUnitsResult) -> Text:
    words = {label.name: label.text for label in get("action_units").labels}
    parts = [f"{name} {words[name]}{_percent(task.probabilities, name)}" for name in task.active]
    return Text(", ".join(parts) or "none clearly visible")


def _regions(shares: dict[str, float]) -> Text:
    top = sorted(shares.items(), key=lambda item: -item[1])[:4]
    return Text(", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in top))
