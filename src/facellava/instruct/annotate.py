"""Descriptions of labelled faces (appendix E.2): by a model, from a recording, or from measured evidence."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from facellava import tasks
from facellava.errors import FileMissing, SourceLayout
from facellava.face import blendshape_names
from facellava.instruct import asking
from facellava.instruct.evidence import FaceEvidence, description_parts, measures_from_blendshapes
from facellava.instruct.leaks import find_disclaimer, find_inner_state, find_leak
from facellava.instruct.prompts import annotation_prompt
from facellava.instruct.records import Annotation, Rejected
from facellava.instruct.temporal import course_of
from facellava.llm import ChatClient, ChatReply, ChatRequest
from facellava.tasks.task import Task
from facellava.types import FaceClip, LabelValue, Sample

CODE_VERSION = 1
"""Raised when the same sample would be described in other words."""
FEWEST_WORDS, MOST_CHARACTERS = 5, 2500


class Annotator(Protocol):
    """Describes samples.

    Attributes:
        fingerprint: hash of everything that determines its words besides the sample and its clip.
    """

    fingerprint: str

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """A description whose beginning states the label. Raises ``Rejected`` with a reason."""
        ...


def label_in(task: Task, text: str) -> LabelValue:
    """What a description says about its task, in the form of a label; None when it says nothing."""
    parsed = task.parse(text)
    if task.kind == "number":
        return None if parsed.years is None else round(parsed.years)
    if task.kind == "single":
        return parsed.label
    return parsed.active if task.code else parsed.present


def fingerprint(*parts: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps([CODE_VERSION, *parts], sort_keys=True).encode()).hexdigest()[:16]


# --- from measured evidence ---


class EvidenceAnnotator:
    """Words that follow from the label and from measured movement; asks no model and needs no network.

    A video also gets a sentence on how the movement develops, where something measurable moves.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.fingerprint = fingerprint("evidence", seed)

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """See ``Annotator``. Rejected: ``no_label`` for a sample without one."""
        if sample.label is None:
            raise Rejected("no_label", "the evidence annotator explains labels, and this sample has none")
        rng = random.Random(f"{self.seed}-{sample.id}-evidence")
        names = blendshape_names()
        course = course_of(clip, names)
        evidence = evidence_of(sample, measures_from_blendshapes(clip.blendshapes[course.apex], names))
        head, rest = description_parts(evidence, sample.task, rng)
        if sample.kind == "video" and (sentence := course.sentence(sample, rng)):
            rest = [sentence, *rest[1:]] if sample.task == "expression" and len(rest) > 1 else [*rest, sentence]
        return Annotation(" ".join([head, *(text for text in rest if text)]), "evidence")


def evidence_of(sample: Sample, measures: Mapping[str, float]) -> FaceEvidence:
    """The sample's label and the measured movement, as the evidence language takes them."""
    label, names = sample.label, set(sample.label if isinstance(sample.label, tuple) else ())
    known = {name: name in names for name in sample.known}
    return FaceEvidence(
        expression=str(label) if sample.task == "expression" else None,
        action_units=known if sample.task == "action_units" else None,
        attributes=known if sample.task == "attributes" else None,
        age=int(label) if sample.task == "age" and not isinstance(label, tuple) and label is not None else None,
        authenticity=("fake" if label == "fake" else "real") if sample.task == "deepfake" else None,
        measures=measures,
    )


# --- from a recording ---


class RecordedAnnotator:
    """Descriptions that somebody wrote before, by sample id or from the source itself.

    Args:
        file: JSON lines with ``id`` and ``description`` (or ``descriptions``, whose first is taken); None for the
            descriptions in the samples' ``meta``. An id may be the sample's whole id or the part after the source.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.descriptions = {} if file is None else _read_descriptions(file)
        self.fingerprint = fingerprint("recorded", self.descriptions)

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """See ``Annotator``. Rejected: ``no_description``, ``label_leak``, ``inner_state``, ``contradicts_label``."""
        text = self._find(sample)
        if text is None:
            raise Rejected("no_description", "no description is recorded for this sample")
        _refuse_words(text)
        task = tasks.get(sample.task)
        if sample.label is not None and not says(task, text, sample.label):
            # a recorded sentence describes the face; the task's own beginning states the label
            text = f"{task.head(sample.label)} {text}"
            if not says(task, text, sample.label):
                raise Rejected("contradicts_label", f"the description speaks for another label: {text[:80]!r}")
        return Annotation(text, "recorded")

    def _find(self, sample: Sample) -> str | None:
        short = sample.id.removeprefix(f"{sample.source}/").split("@")[0].split("#")[0]
        for key in (sample.id, short):
            if key in self.descriptions:
                return self.descriptions[key]
        found = sample.meta.get("description")
        return found.strip() if isinstance(found, str) and found.strip() else None


def _read_descriptions(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise FileMissing(f"{file} is missing: it should hold the recorded descriptions")
    found = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            found[str(row["id"])] = str(row.get("description") or row["descriptions"][0]).strip()
        except (json.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise SourceLayout(f"{file}, line {number}: expected an object with 'id' and 'description'") from error
    return found


# --- from a model ---


class LlmAnnotator:
    """Asks a model to explain the label, checks what it says, and asks again where that fails.

    Args:
        client: the service. model: its pinned id.
        use_labels: tell the label (the paper); False is the ablation of Table 12.
        attempts: how often one sample is asked for. max_tokens: of one answer.
    """

    def __init__(
        self, client: ChatClient, model: str, *, use_labels: bool = True, attempts: int = 3, max_tokens: int = 512
    ) -> None:
        self.client, self.model = client, model
        self.use_labels, self.attempts, self.max_tokens = use_labels, attempts, max_tokens
        hashes = [annotation_prompt(sample, use_label=use_labels)[0].hash for sample in _one_of_each(tasks.all_tasks())]
        self.fingerprint = fingerprint("llm", client.name, model, use_labels, attempts, max_tokens, hashes)

    def request(self, sample: Sample, clip: FaceClip, attempt: int = 0, problem: str = "") -> ChatRequest:
        """The question about one sample; the same bytes whenever it is asked."""
        _, text = annotation_prompt(sample, use_label=self.use_labels)
        return ChatRequest(
            model=self.model,
            text=asking.repaired(text, attempt, problem),
            attachments=asking.pictures(clip),
            max_tokens=self.max_tokens,
            attempt=attempt,
        )

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """See ``Annotator``. Rejected: ``invalid_answer``, ``label_leak``, ``inner_state``, ``refused``,
        ``contradicts_label``, ``provider_failed``.
        """
        prompt, _ = annotation_prompt(sample, use_label=self.use_labels)
        text, asked = asking.ask(
            self.client,
            lambda attempt, problem: self.request(sample, clip, attempt, problem),
            lambda reply: self.read(reply, sample),
            self.attempts,
        )
        return Annotation(
            text,
            self.client.name,
            self.model,
            prompt.hash,
            asked.attempts,
            asked.input_tokens,
            asked.output_tokens,
        )

    def read(self, reply: ChatReply, sample: Sample) -> str:
        """The description out of an answer. Raises ``Rejected`` where it cannot be used; see ``annotate``."""
        answer = asking.read_object(reply)
        reason = answer.get("reason")
        if not isinstance(reason, str) or "label" not in answer:
            raise Rejected("invalid_answer", "the object lacks 'label' or 'reason'")
        reason = " ".join(reason.split())
        if len(reason.split()) < FEWEST_WORDS or len(reason) > MOST_CHARACTERS:
            raise Rejected("invalid_answer", f"the reason has {len(reason.split())} words")
        _refuse_words(reason)
        task = tasks.get(sample.task)
        named = _named(task, answer["label"])
        if named is None:
            raise Rejected("invalid_answer", f"'label' is {answer['label']!r}, which is no label of the task")
        given = sample.label if self.use_labels else None
        if given is not None and named != given:
            raise Rejected("contradicts_label", f"'label' is {answer['label']!r}, not the label that was asked about")
        return _checked(task, reason, named)


def _checked(task: Task, reason: str, label: LabelValue) -> str:
    """The reason, begun with the label where the task wants that; raises ``Rejected`` where it says something else."""
    if task.name in ("age", "deepfake") and not re.match(rf"\W*{label}\b", reason, re.IGNORECASE):
        raise Rejected("contradicts_label", f"the reason does not begin with {label}")
    if says(task, reason, label):
        return reason
    # a good explanation need not name what it explains; the task's own beginning does
    begun = f"{task.head(label)} {reason}" if label is not None else reason
    if task.kind == "single" and task.name != "deepfake" and says(task, begun, label):
        return begun
    raise Rejected("contradicts_label", f"the reason speaks for {label_in(task, reason)!r} instead of {label!r}")


def says(task: Task, text: str, label: LabelValue) -> bool:
    """Whether a description states the label (attributes: at least the given ones, each spelled exactly)."""
    found = label_in(task, text)
    if task.name == "attributes" and isinstance(label, tuple):
        return all(name in text for name in label) and set(label) <= set(found if isinstance(found, tuple) else ())
    if isinstance(label, tuple) and not label:
        return not found
    return found == label


def _named(task: Task, value: Any) -> LabelValue:
    """The label in an answer's JSON; None where it is none of the task's."""
    if task.kind == "number":
        digits = re.fullmatch(r"\s*(\d{1,3})\s*(?:years?(?: old)?)?\s*", str(value))
        return int(digits.group(1)) if digits else None
    if task.kind == "single":
        name = str(value).strip().lower()
        return name if name in task.names else None
    names = [str(item).replace(" ", "") for item in value] if isinstance(value, list) else None
    if names is None or not set(names) <= set(task.names):
        return None
    return task.sort(names)


def _refuse_words(text: str) -> None:
    for find, code, what in (
        (find_leak, "label_leak", "it tells that the label was known"),
        (find_disclaimer, "refused", "it holds a refusal or a caveat"),
        (find_inner_state, "inner_state", "it claims a feeling"),
    ):
        if words := find(text):
            raise Rejected(code, f"{what}: {words!r}")


def _one_of_each(known: Mapping[str, Task]) -> list[Sample]:
    """A sample for every prompt that an annotator may use."""
    labels: dict[str, list[LabelValue]] = {"single": ["x"], "multi": [()], "number": [1]}
    found = []
    for task in known.values():
        values = ["real", "fake"] if task.name == "deepfake" else labels[task.kind]
        found += [Sample("x/x", "x", "train", task.name, Path("/x"), "image", value) for value in [*values, None]]
    return found
