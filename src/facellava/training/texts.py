"""Conversations to token ids, labels and label weights."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from facellava import tasks
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import IGNORED
from facellava.runtime.report import SINGLE
from facellava.training.recipe import StageConfig
from facellava.training.talks import Talk

Turn = tuple[str, str]
_HASHES = 2**32
VERDICT_WEIGHT, ITEM_WEIGHT = 3.0, 0.1
"""In a checklist the yes or no is what is learned; the item before it was given."""
CHECKLIST_ITEMS, TURNS_BESIDE = 14, 3
"""Items of a checklist, and other turns of a conversation that holds checklists."""


class Encoded(NamedTuple):
    """ids, labels (-100 outside answers) and weights of the labels, equally long."""

    ids: list[int]
    labels: list[int]
    weights: list[float]


class TextEncoder:
    """Turns a stage's conversations into ids.

    Args:
        processor: the same as at inference.
        stage: says how answers are weighed and whether checklists are drawn.
        seed: of the checklists.
    """

    def __init__(self, processor: FaceLlavaProcessor, stage: StageConfig, seed: int = 0) -> None:
        self.processor, self.stage, self.seed = processor, stage, seed
        words = {word for task in tasks.all_tasks().values() if task.kind == "multi" for word in _verdicts(task)}
        encode = processor.tokenizer.encode
        self._verdicts = frozenset(encode(word, add_special_tokens=False)[0] for word in words)
        self._polar = frozenset(encode(word, add_special_tokens=False)[0] for word in ("Yes", "No"))

    def __call__(self, talk: Talk, frames: int, report: str = "") -> Encoded:
        """One conversation about a clip of which the model looks at so many frames.

        Args:
            report: what the expert head found; left out in a share of the conversations (``stage.blank``).
        """
        if zlib.crc32(f"{self.seed}-{talk.id}".encode()) < self.stage.blank * _HASHES:
            report = ""
        turns: Sequence[Turn] = talk.turns
        if self.stage.closed and talk.task in talk.labels and talk.task in SINGLE:
            closed = tasks.get(talk.task).closed
            turns = [(closed.question, f"{closed.prefix} {talk.labels[talk.task]}.")]
        if self.stage.checklists:
            rng = random.Random(f"{self.seed}-{talk.id}")
            turns = [*turns[:TURNS_BESIDE], *checklists(talk.labels, rng)]
            rng.shuffle(turns)
        messages = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        rendered = self.processor.render(messages, frames, True, report)
        verdicts = self._verdicts if self.stage.checklists else frozenset()
        weights = label_weights(rendered.labels, self.stage.label_tokens, self.stage.label_weight, verdicts)
        if self.stage.polar_weight != 1.0:
            weights = polar_weights(rendered.labels, weights, self._polar, self.stage.polar_weight)
        return Encoded(rendered.ids, rendered.labels, weights)


def _verdicts(task: Any) -> tuple[str, str]:
    return task.closed.yes, task.closed.no


def label_weights(
    labels: Sequence[int], first: int = 8, weight: float = 1.0, verdicts: frozenset[int] = frozenset()
) -> list[float]:
    """Weights of a conversation's label tokens.

    ``weight`` for the ``first`` tokens of an answer and 1 for the rest; in a checklist (an answer with three verdict
    tokens or more) 3 for a verdict and 0.1 for everything else; 0 outside answers.
    """
    result: list[float] = []
    for ignored, run in itertools.groupby(labels, lambda label: label == IGNORED):
        answer = list(run)
        if ignored:
            result += [0.0] * len(answer)
        elif sum(label in verdicts for label in answer) >= 3:
            result += [VERDICT_WEIGHT if label in verdicts else ITEM_WEIGHT for label in answer]
        else:
            result += [weight if i < first else 1.0 for i in range(len(answer))]
    return result


def polar_weights(labels: Sequence[int], weights: Sequence[float], words: frozenset[int], weight: float) -> list[float]:
    """The weights, but ``weight`` where an answer opens with one of the words yes and no: one token is all that
    decides such an answer."""
    opens = [label != IGNORED and (i == 0 or labels[i - 1] == IGNORED) for i, label in enumerate(labels)]
    return [
        weight if first and label in words else old for first, label, old in zip(opens, labels, weights, strict=True)
    ]


def checklists(labels: Mapping[str, Any], rng: random.Random) -> list[Turn]:
    """One long checklist turn for each multi-label task with known labels, in random order."""
    turns = []
    for task in tasks.all_tasks().values():
        known = [name for name in task.names if task.kind == "multi" and name in labels]
        rng.shuffle(known)
        if known:
            verdict = {True: task.closed.yes, False: task.closed.no}
            lines = [task.item(name) + verdict[bool(labels[name])] for name in known[:CHECKLIST_ITEMS]]
            turns.append((task.closed.question, "\n".join(lines)))
    rng.shuffle(turns)
    return turns
