"""Which labels an expert head answers for, in the tasks' own names and order (see ``model.expert_report``)."""

from __future__ import annotations

from collections.abc import Collection

from facellava import tasks
from facellava.model.expert_report import HeadSpec, Slot

AGES = 100
"""Whole years that a head tells apart."""
SINGLE = ("expression", "deepfake")
MULTI = ("action_units", "attributes")


def head_spec(labels: Collection[str]) -> HeadSpec:
    """The layout for ``expression``, ``deepfake``, ``age`` and names of action units and attributes."""
    slots = []
    for name in SINGLE:
        if name in labels:
            words = tuple(tasks.get(name).names)
            slots.append(Slot(name, name, "single", len(words), words))
    if "age" in labels:
        slots.append(Slot("age", "age", "number", AGES))
    for task in MULTI:
        slots += [Slot(name, task, "binary", 1) for name in tasks.get(task).names if name in labels]
    return HeadSpec(tuple(slots))


def untrained(spec: HeadSpec) -> dict[str, list[str]]:
    """Multi-label task -> names without a slot."""
    return {task: [n for n in tasks.get(task).names if n not in spec.labels(task)] for task in MULTI}
