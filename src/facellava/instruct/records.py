"""What the stages of a build hand to each other. Every record is plain data and has a JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facellava.types import Sample

Stage = Literal["read", "preprocess", "annotate", "rate", "filter", "select"]
CRITERIA = ("label_accuracy", "description_media", "description_label", "overall")
"""The four criteria of section 3.2 in the order of Table 2, each rated 1 to 10."""


class Rejected(Exception):
    """A sample that a stage refuses; becomes a line of the ledger, never a crash.

    Attributes:
        code: stable identifier of the reason, e.g. ``several_faces``, ``label_leak``, ``overall_rating``.
        message: one line for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Annotation:
    """A description of one sample and where it came from.

    Attributes:
        description: the text that becomes the answer; starts with the label for age and deepfake (appendix E.2).
        annotator: provider or kind: ``evidence``, ``recorded``, the service's host.
        model: pinned model id, "" without a model.
        prompt: hash of the prompt's template, "" without one.
        attempts: how often the model was asked.
        input_tokens, output_tokens: over all attempts.
    """

    description: str
    annotator: str
    model: str = ""
    prompt: str = ""
    attempts: int = 1
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Rating:
    """Four criteria from 1 to 10 (section 3.2), a reason, and where they came from (as in ``Annotation``)."""

    label_accuracy: int
    description_media: int
    description_label: int
    overall: int
    reason: str
    rater: str
    model: str = ""
    prompt: str = ""
    attempts: int = 1
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        assert all(1 <= getattr(self, name) <= 10 for name in CRITERIA)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One line of the ledger: which sample was dropped where, and why."""

    sample: str
    source: str
    task: str
    stage: Stage
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One row of the finished dataset.

    Attributes:
        sample: as read from the source.
        subset: ``train`` or ``test`` of the instruction dataset (not the source's split).
        clip: key of the preprocessed clip in the clip store.
        duration: seconds, 0 for a picture.
        question: drawn from the task's 100.
        annotation, rating: see there; rating is None where a build rates nothing.
    """

    sample: Sample
    subset: Literal["train", "test"]
    clip: str
    duration: float
    question: str
    annotation: Annotation
    rating: Rating | None


def sample_to_json(sample: Sample) -> dict[str, Any]:
    """The sample as JSON values."""
    record = {f.name: getattr(sample, f.name) for f in dataclasses.fields(sample)}
    return {**record, "media": str(sample.media), "meta": dict(sample.meta)}


def sample_from_json(record: dict[str, Any]) -> Sample:
    """The inverse of ``sample_to_json``."""
    label = record["label"]
    return Sample(
        **{
            **record,
            "media": Path(record["media"]),
            "label": tuple(label) if isinstance(label, list) else label,
            "known": tuple(record["known"]),
            "window": record["window"] and tuple(record["window"]),
            "box": record["box"] and tuple(record["box"]),
        }
    )
