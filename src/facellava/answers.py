"""One task, one face: labels scored under the model, a head that states them, and the model's own words after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facellava.model.expert_report import read_years
from facellava.results import (
    ActionUnitsResult,
    AgeResult,
    AttributesResult,
    DeepfakeResult,
    ExpressionResult,
    TaskResult,
)
from facellava.tasks.task import Task, fill_media
from facellava.types import FaceClip

if TYPE_CHECKING:
    from facellava.runtime.engine import Engine, Seen

MIN_SIZE, MIN_BLUR, MAX_YAW = 32.0, 4.0, 60.0
"""Below 32 source pixels, below this Laplacian variance, or turned further than this many degrees: abstain."""
EXPLANATION_TOKENS = 56

_RESULTS = {
    "expression": ExpressionResult,
    "action_units": ActionUnitsResult,
    "attributes": AttributesResult,
    "age": AgeResult,
    "deepfake": DeepfakeResult,
}


def reason_to_abstain(clip: FaceClip) -> str | None:
    """Why this face should not be judged, or None."""
    quality = clip.quality
    if quality.size < MIN_SIZE:
        return f"the face is {quality.size:.0f} pixels wide; at least {MIN_SIZE:.0f} are needed"
    if quality.blur < MIN_BLUR:
        return "the face is too blurred"
    if abs(quality.yaw) > MAX_YAW:
        return f"the face is turned away by {abs(quality.yaw):.0f} degrees"
    return None


def abstain(name: str, reason: str) -> TaskResult:
    """The result of a task that is not answered."""
    if name in ("expression", "deepfake"):
        return _RESULTS[name](label=None, abstained=True, reason=reason)
    if name == "age":
        return AgeResult(years=None, abstained=True, reason=reason)
    return _RESULTS[name](abstained=True, reason=reason)


def answer_task(engine: Engine, seen: Seen, task: Task, media: str, *, explain: bool = True) -> TaskResult:
    """Score the task's labels, state them as the head of the answer, let the model go on from there.

    Args:
        explain: False ends the answer after its head: the same typed result, sooner.
    """
    speak = _explain if explain else _head_only
    question = task.closed_question(media)
    if task.kind == "number":
        if engine.scores_by_head(task.name):
            distribution = seen.head[task.name].astype(np.float64)
        else:
            distribution = engine.score_years(seen, question, [task.head(year) for year in range(100)])
        years, low, high = read_years(distribution)
        return AgeResult(years=years, range=(low, high), text=speak(engine, seen, task, question, years))
    if task.kind == "single":
        names = list(task.names)
        if engine.scores_by_head(task.name):
            p = seen.head[task.name].astype(np.float64)
        else:
            p = engine.score(seen, question, task.closed.prefix, [task.candidate(n) for n in names])
        p = _tempered(p, engine.temperature.get(task.name, 1.0))
        probabilities = dict(zip(names, map(float, p), strict=True))
        label = names[int(p.argmax())]
        text = speak(engine, seen, task, question, label)
        return _RESULTS[task.name](label=label, probabilities=probabilities, text=text)
    return _multi(engine, seen, task, media, speak)


def _multi(engine: Engine, seen: Seen, task: Task, media: str, speak: Callable[..., str]) -> TaskResult:
    untrained = engine.untrained.get(task.name, [])
    names = [n for n in task.names if n not in untrained]
    if engine.scores_by_head(task.name):
        given = np.clip([seen.head[n][0] for n in names], 1e-6, 1 - 1e-6).astype(np.float64)
        odds = np.log(given / (1 - given))
    else:
        items = [task.item(n) for n in names]
        odds = engine.score_yes(seen, task.closed.question, items, task.closed.yes, task.closed.no)
    p = 1 / (1 + np.exp(-odds / engine.temperature.get(task.name, 1.0)))
    probabilities = dict(zip(names, map(float, p), strict=True))
    present = tuple(n for n in names if probabilities[n] >= engine.thresholds.get(n, 0.5))
    shown = tuple(n for n in present if task.label(n).default)
    question = fill_media(task.questions[0], media)
    if task.name == "action_units":
        text = speak(engine, seen, task, question, shown)
        return ActionUnitsResult(active=present, probabilities=probabilities, text=text)
    # A list of attributes explains itself; the model's own words come with the movements and the expression.
    text = _head_only(engine, seen, task, question, shown)
    missing = tuple(n for n in task.default_names if n in untrained)
    return AttributesResult(present=present, probabilities=probabilities, untrained=missing, text=text)


def _explain(engine: Engine, seen: Seen, task: Task, question: str, value: str | int | tuple[str, ...]) -> str:
    """The head and one sentence of explanation: what follows is mostly padding, and costs as much again."""
    pieces = engine.ask(seen, question, head=task.head(value), max_new_tokens=EXPLANATION_TOKENS)
    head, own = next(pieces), ""
    for piece in pieces:
        own += piece
        if own.rstrip().endswith(".") and own.strip(" ."):
            break
    return (head + own).strip()


def _head_only(engine: Engine, seen: Seen, task: Task, question: str, value: str | int | tuple[str, ...]) -> str:
    return task.head(value)


def _tempered(p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powered = p ** (1 / temperature)
    return powered / powered.sum()
