"""The layout of the expert head's report: which labels, in which words (see ``model.expert_spec``)."""

from __future__ import annotations

from collections.abc import Collection

from tokenizers import Tokenizer

from facellava import tasks
from facellava.model.expert_spec import ExpertSpec, binary, number, single

AGES = 100
SINGLE = ("expression", "deepfake")


def report_spec(tokenizer: Tokenizer, labels: Collection[str]) -> ExpertSpec:
    """A report on the given labels in the words of answers, in a fixed order.

    Args:
        tokenizer: of the language model.
        labels: ``expression``, ``deepfake``, ``age``, and names of action units and attributes.
    """

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    expression, deepfake = tasks.get("expression"), tasks.get("deepfake")
    slots = []
    if "expression" in labels:
        words = [f" {name}" for name in expression.names]
        slots.append(single("expression", words, ids(expression.closed.prefix), ids(".")))
    if "deepfake" in labels:
        words = [f" {name}" for name in deepfake.names]
        slots.append(single("deepfake", words, ids(" Authenticity:"), ids(".")))
    if "age" in labels:
        slots.append(number("age", AGES, ids(" Age: "), ids(" years old.")))
    for task in (tasks.get("action_units"), tasks.get("attributes")):
        slots += [binary(name, ids("\n" + task.item(name))) for name in task.names if name in labels]
    return ExpertSpec(tuple(slots))
