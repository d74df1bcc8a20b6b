"""The prompts of annotators, raters and judges: text files beside each task, filled in and hashed here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from facellava import tasks
from facellava.types import LabelValue, Sample

Purpose = Literal["annotate", "rate", "judge"]
FRAMES = 8
"""Frames of a video that are shown, uniformly sampled (appendix E.4)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template and the hash that goes into provenance."""

    template: str
    hash: str

    def fill(self, values: Mapping[str, str]) -> str:
        """The template with ``{name}`` replaced for every value; other braces stay as they are."""
        text = self.template
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text


@cache
def prompt(task: str, purpose: Purpose, section: str) -> Prompt:
    """One section of ``tasks/<task>/<purpose>.txt``."""
    text = (resources.files("facellava.tasks") / task / f"{purpose}.txt").read_text(encoding="utf-8")
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== ") and line.endswith(" =="):
            sections[line[3:-3]] = []
        else:
            sections[next(reversed(sections))].append(line)
    template = "\n".join(sections[section]).strip()
    return Prompt(template, hashlib.sha256(template.encode()).hexdigest()[:16])


def annotation_prompt(sample: Sample, *, use_label: bool) -> tuple[Prompt, str]:
    """The question for a description (appendix E.2), and its text for this sample.

    Args:
        use_label: tell the label, as the paper does; without it (Table 12), or where there is none, the model names it.
    """
    if not use_label or sample.label is None:
        section = "unlabelled"
    else:
        section = str(sample.label) if sample.task == "deepfake" else "labelled"
    found = prompt(sample.task, "annotate", section)
    names = sample.known or tasks.get(sample.task).default_names
    values = {"media": sample.kind, "choices": ", ".join(names)}
    if section != "unlabelled":
        values |= {"label": label_text(sample.task, sample.label), "codes": json.dumps(list(_names(sample.label)))}
    return found, found.fill(values)


def rating_prompt(
    sample: Sample, description: str, *, frames: int, purpose: Literal["rate", "judge"] = "rate"
) -> tuple[Prompt, str]:
    """The question for ratings (appendix E.4, Fig. 17 for judges), and its text for this sample.

    Args:
        frames: how many pictures are shown with it.
    """
    found = prompt(sample.task, purpose, purpose)
    shown = "You see a picture of a face."
    if sample.kind == "video":
        shown = f"You see {frames} frames of a video of a face, evenly spaced from its beginning to its end."
    label = "none was recorded" if sample.label is None else label_text(sample.task, sample.label)
    # the description comes last: nothing in it is filled in again
    values = {"shown": shown, "media": sample.kind, "label": label, "description": description}
    return found, found.fill(values)


def label_text(task: str, label: LabelValue) -> str:
    """A label in a prompt's words: a name, a number, or names with what they mean."""
    if not isinstance(label, tuple):
        return str(label)
    if not label:
        return "none of those that were looked for"
    known = tasks.get(task)
    # attributes are spelled exactly as they are to be used; the units' codes need their meaning
    return ", ".join(f"{name} ({known.label(name).text})" if known.code else name for name in label)


def _names(label: LabelValue) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else ()
