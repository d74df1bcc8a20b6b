"""The prompts of annotators, raters, judges and tested models: text files beside each task, filled in and hashed here.

A file has sections (``== name ==``). A line that begins with ``[image]`` or ``[video]`` belongs to the prompts for that
kind of medium only. ``{name}`` is filled in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from facellava import tasks
from facellava.types import LabelValue, MediaKind, Sample

Purpose = Literal["annotate", "rate", "judge", "ask"]
FRAMES = 8
"""Frames of a video that are shown, uniformly sampled (appendix E.4)."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_KIND = re.compile(r"\[(image|video)\] ")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template and the hash of it that goes into provenance."""

    template: str
    hash: str

    def fill(self, values: Mapping[str, str]) -> str:
        """The template with each ``{name}`` replaced, in one pass: braces inside a value stay as they are.

        Raises:
            KeyError: the template has a name that ``values`` lacks.
        """
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.template)


def _text(task: str, purpose: Purpose) -> str:
    return (resources.files("facellava.tasks") / task / f"{purpose}.txt").read_text(encoding="utf-8")


@cache
def prompt(task: str, purpose: Purpose, section: str, kind: MediaKind) -> Prompt:
    """One section of ``tasks/<task>/<purpose>.txt``, as it is for pictures or for videos."""
    sections: dict[str, list[str]] = {}
    for line in _text(task, purpose).splitlines():
        if line.startswith("== ") and line.endswith(" =="):
            sections[line[3:-3]] = []
        elif (only := _KIND.match(line)) is None or only[1] == kind:
            sections[next(reversed(sections))].append(_KIND.sub("", line, count=1) if only else line)
    template = "\n".join(sections[section]).strip()
    return Prompt(template, hashlib.sha256(template.encode()).hexdigest()[:16])


def fingerprint_of(purpose: Purpose) -> str:
    """Hash of all prompts of one purpose, every task's."""
    texts = [_text(task, purpose) for task in tasks.all_tasks()]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def annotation_prompt(sample: Sample, *, use_label: bool, frames: int = FRAMES) -> tuple[Prompt, str]:
    """The question for a description (appendix E.2, Fig. 6), and its text for this sample.

    Args:
        use_label: tell the label, as the paper does; without it (Table 12), or where there is none, the model names it.
        frames: how many pictures are shown with it.
    """
    values = _values(sample, frames)
    if use_label and sample.label is not None:
        section = str(sample.label) if sample.task == "deepfake" else "labelled"
        values |= {"label": label_text(sample.task, sample.label), "json": json.dumps(sample.label)}
    else:
        section = "unlabelled"
    found = prompt(sample.task, "annotate", section, sample.kind)
    return found, found.fill(values)


def rating_prompt(
    sample: Sample, description: str, *, frames: int, purpose: Literal["rate", "judge"] = "rate"
) -> tuple[Prompt, str]:
    """The question for ratings (Fig. 8; Fig. 17 for judges), and its text for this sample.

    Args:
        frames: how many pictures are shown with it.
    """
    found = prompt(sample.task, purpose, purpose, sample.kind)
    label = "nothing; take the label that the text itself states"
    if sample.label is not None:
        label = label_text(sample.task, sample.label)
    return found, found.fill({**_values(sample, frames), "label": label, "description": description})


def question_prompt(
    task: str, section: Literal["metric", "reasoning"], names: Sequence[str], kind: MediaKind, frames: int
) -> tuple[Prompt, str]:
    """What a model that was not trained by us is asked (appendix G.2): the choices, and the form of the answer.

    Args:
        section: ``metric`` wants words that can be counted, ``reasoning`` an explanation.
        names: the labels to choose from. frames: how many pictures are shown with it.
    """
    found = prompt(task, "ask", section, kind)
    known = tasks.get(task)
    # the units' codes need their meaning
    choices = ", ".join(f"{name} ({known.label(name).text})" if known.code else name for name in names)
    return found, found.fill({"media": kind, "frames": str(frames), "choices": choices})


def _values(sample: Sample, frames: int) -> dict[str, str]:
    names = sample.known or tasks.get(sample.task).default_names
    return {"media": sample.kind, "frames": str(frames), "choices": ", ".join(names)}


def label_text(task: str, label: LabelValue) -> str:
    """A label in a prompt's words: a name, ``34 years``, or names with what they mean."""
    if isinstance(label, int):
        return f"{label} year" if label == 1 else f"{label} years"
    if not isinstance(label, tuple):
        return str(label)
    if not label:
        return "none of those that were looked for"
    known = tasks.get(task)
    # attributes are spelled exactly as they are to be used; the units' codes need their meaning
    return ", ".join(f"{name} ({known.label(name).text})" if known.code else name for name in label)
