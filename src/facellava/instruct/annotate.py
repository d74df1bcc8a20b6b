"""Descriptions of labelled faces (appendix E.2): by a model, from a recording, or from measured evidence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from facellava import tasks, weights
from facellava.errors import FileMissing, SourceLayout
from facellava.face import blendshape_names
from facellava.instruct import asking
from facellava.instruct.evidence import FaceEvidence, description_parts, measures_from_blendshapes
from facellava.instruct.leaks import find_disclaimer, find_inner_state, find_leak
from facellava.instruct.prompts import FRAMES, annotation_prompt, fingerprint_of
from facellava.instruct.records import Annotation, Rejected
from facellava.instruct.sources.fields import objects
from facellava.instruct.temporal import course_of
from facellava.llm import ChatClient, ChatReply, ChatRequest
from facellava.model import experts
from facellava.model.frames import frame_indices
from facellava.tasks.task import Task
from facellava.types import FaceClip, LabelValue, Sample

CODE_VERSION = 2
"""Raised when the same sample would be described in other words, or other answers would pass."""
FEWEST_WORDS, MOST_CHARACTERS = 5, 2500
_TEXTS = ("evidence.toml", "temporal.toml")


class Annotator(Protocol):
    """Describes samples.

    Attributes:
        fingerprint: hash of everything that determines its words besides the sample and its clip.
    """

    fingerprint: str

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """A description that states the label; age and deepfake begin with it. Raises ``Rejected`` with a reason."""
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
    """A short hash of plain values and of this module's version."""
    return hashlib.sha256(json.dumps([CODE_VERSION, *parts], sort_keys=True).encode()).hexdigest()[:16]


def evidence_hash() -> str:
    """A hash of the words in which evidence is put."""
    folder = resources.files("facellava.instruct")
    return fingerprint([(folder / name).read_text(encoding="utf-8") for name in _TEXTS])


# --- from measured evidence ---


class EvidenceAnnotator:
    """Words that follow from the label and from measured movement; asks no model and needs no network.

    A video also gets a sentence on how the movement that speaks for its label develops, where it can be measured.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.fingerprint = fingerprint("evidence", seed, evidence_hash())

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """See ``Annotator``. Rejected: ``no_label`` for a sample without one."""
        if sample.label is None:
            raise Rejected("no_label", "the evidence annotator explains labels, and this sample has none")
        rng = random.Random(f"{self.seed}-{sample.id}-evidence")
        course = course_of(sample, clip)
        measures = measures_from_blendshapes(clip.blendshapes[course.apex], blendshape_names())
        head, rest = description_parts(evidence_of(sample, measures), sample.task, rng)
        sentences = [head, *rest, course.sentence(rng)]
        return Annotation(" ".join(text for text in sentences if text), "evidence")


class ExpertAnnotator:
    """Names what frozen face experts see and explains it like ``EvidenceAnnotator``; it is told no label.

    It stands in for a vision-language model where labels are left out (Table 12), without a network. Expression (mean
    of two packages' networks) and age only; a video is judged by eight frames.
    """

    def __init__(self, seed: int = 0) -> None:
        self._evidence = EvidenceAnnotator(seed)
        digests = [weights.default_register()[name].sha256 for name in experts.WEIGHTS]
        self.fingerprint = fingerprint("experts", self._evidence.fingerprint, digests)
        self._encoder: experts.ExpertEncoder | None = None

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """See ``Annotator``. Rejected: ``no_guess`` for other tasks."""
        if sample.task not in ("expression", "age"):
            raise Rejected("no_guess", f"the face experts say nothing about {sample.task}")
        told = dataclasses.replace(sample, label=self._guess(sample.task, clip))
        found = self._evidence.annotate(told, clip)
        return dataclasses.replace(
            found, annotator="experts", model="facex+fer" if sample.task == "expression" else "age-v1"
        )

    def _guess(self, task: str, clip: FaceClip) -> LabelValue:
        if self._encoder is None:
            self._encoder = experts.ExpertEncoder(weights.resolve)
        chosen = frame_indices(len(clip.frames), min(len(clip.frames), FRAMES))
        _, values = self._encoder.encode(clip.frames[chosen], clip.landmarks[chosen], clip.blendshapes[chosen])
        opinions = experts.opinions(values)
        if task == "age":
            return round(opinions.years)
        return experts.FACEX_LABELS[int((opinions.facex + opinions.fer).argmax())]


def evidence_of(sample: Sample, measures: Mapping[str, float]) -> FaceEvidence:
    """The sample's label and the measured movement, as the evidence language takes them."""
    task, label = sample.task, sample.label
    active = label if isinstance(label, tuple) else ()
    known = {name: name in active for name in sample.known}
    return FaceEvidence(
        expression=label if task == "expression" and isinstance(label, str) else None,
        action_units=known if task == "action_units" else None,
        attributes=known if task == "attributes" else None,
        age=label if task == "age" and isinstance(label, int) else None,
        authenticity="fake" if label == "fake" else "real" if label == "real" else None,
        measures=measures,
    )


# --- from a recording ---


class RecordedAnnotator:
    """Descriptions that somebody wrote before, by sample id or from the source itself.

    Args:
        file: JSON lines with ``id`` and ``description`` (or ``descriptions``, whose first is taken); None for the
            descriptions in the samples' ``meta``. An id may be the sample's whole id or the medium's alone: without
            the source before it, and without ``#<piece>`` and ``@<task>`` behind.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.descriptions = {} if file is None else _read_descriptions(file)
        self.fingerprint = fingerprint("recorded", self.descriptions)

    def annotate(self, sample: Sample, clip: FaceClip) -> Annotation:
        """See ``Annotator``. Rejected: ``no_description``, ``label_leak``, ``refused``, ``inner_state``,
        ``contradicts_label``.
        """
        text = self._find(sample)
        if text is None:
            raise Rejected("no_description", "no description is recorded for this sample")
        _refuse_words(text)
        if sample.label is not None:
            begun = _begun(tasks.get(sample.task), text, sample.label)
            if begun is None:
                raise Rejected("contradicts_label", f"the description speaks for another label: {text[:80]!r}")
            text = begun
        return Annotation(text, "recorded")

    def _find(self, sample: Sample) -> str | None:
        medium = re.sub(r"(?:#\d+|@\w+)*$", "", sample.id.removeprefix(f"{sample.source}/"))
        for key in (sample.id, medium):
            if key in self.descriptions:
                return self.descriptions[key]
        found = sample.meta.get("description")
        return found.strip() if isinstance(found, str) and found.strip() else None


def _read_descriptions(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise FileMissing(f"{file} is missing: it should hold the recorded descriptions")
    found = {}
    for number, row in objects(file):
        try:
            found[str(row["id"])] = str(row.get("description") or row["descriptions"][0]).strip()
        except (KeyError, IndexError, TypeError) as error:
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
        prompts = fingerprint_of("annotate")
        self.fingerprint = fingerprint("llm", client.name, model, use_labels, attempts, max_tokens, prompts)

    def request(self, sample: Sample, clip: FaceClip, attempt: int = 0, problem: str = "") -> ChatRequest:
        """The question about one sample; the same bytes whenever it is asked."""
        pictures = asking.pictures(clip)
        _, text = annotation_prompt(sample, use_label=self.use_labels, frames=len(pictures))
        return ChatRequest(
            model=self.model,
            text=asking.repaired(text, attempt, problem),
            attachments=pictures,
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
        if len(reason.split()) < FEWEST_WORDS:
            raise Rejected("invalid_answer", f"the reason has {len(reason.split())} words, fewer than {FEWEST_WORDS}")
        if len(reason) > MOST_CHARACTERS:
            raise Rejected("invalid_answer", f"the reason is longer than {MOST_CHARACTERS} characters")
        _refuse_words(reason)
        named = _named(sample, answer["label"])
        if named is None:
            raise Rejected("invalid_answer", f"'label' is {answer['label']!r}, which is none of the task's labels")
        if self.use_labels and sample.label is not None and named != sample.label:
            raise Rejected("contradicts_label", f"'label' is {answer['label']!r}, not what was asked about")
        return _stating(tasks.get(sample.task), reason, named)


def _stating(task: Task, reason: str, label: LabelValue) -> str:
    """The reason, begun with the label where it names none; raises ``Rejected`` where it states something else."""
    if task.name in ("age", "deepfake") and not re.match(rf"\W*{label}\b", reason, re.IGNORECASE):
        raise Rejected("contradicts_label", f"the reason does not begin with {label}")
    # a good explanation of an expression need not name it; several labels must all be explained
    text = _begun(task, reason, label) if task.name == "expression" else reason
    if text is None or not says(task, text, label):
        stated = _shown(task, _stated(task, reason))
        raise Rejected("contradicts_label", f"the reason states {stated}, not {_shown(task, label)}")
    return text


def _shown(task: Task, label: set[str] | LabelValue) -> str:
    if isinstance(label, set | tuple):
        return ", ".join(task.sort(label)) or "none"
    return "nothing" if label is None else str(label)


def _begun(task: Task, text: str, label: LabelValue) -> str | None:
    """The text, begun with the task's own statement where it states no label; None where it states another one."""
    assert label is not None
    if says(task, text, label):
        return text
    if task.kind == "single" and label_in(task, text) is not None:
        return None
    begun = f"{task.head(label).removesuffix('.')}. {text}"
    return begun if says(task, begun, label) else None


def says(task: Task, text: str, label: LabelValue) -> bool:
    """Whether a description states the label.

    Attributes: each one spelled exactly, and no other one spelled so; other words for further attributes may occur.
    """
    return _stated(task, text) == (set(label) if isinstance(label, tuple) else label)


def _stated(task: Task, text: str) -> set[str] | LabelValue:
    """What a description states, of several labels as a set; see ``says``."""
    found = label_in(task, text)
    if task.kind != "multi":
        return found
    names = found if isinstance(found, tuple) else ()
    spelled = {name: rf"(?<!\w){re.escape(name)}(?!\w)" for name in names}
    return {name for name in names if task.name != "attributes" or re.search(spelled[name], text)}


def _named(sample: Sample, value: Any) -> LabelValue:
    """The label in an answer's JSON; None where it is none of those that were asked for."""
    task = tasks.get(sample.task)
    if task.number is not None:
        digits = re.fullmatch(r"\s*(\d{1,3})(?:\s*years?(?:\s+old)?)?\s*", str(value))
        years = int(digits[1]) if digits else -1
        return years if task.number.minimum <= years <= task.number.maximum else None
    if task.kind == "single":
        name = str(value).strip().lower()
        return name if name in task.names else None
    if not isinstance(value, list):
        return None
    names = [str(item).replace(" ", "") for item in value]
    return task.sort(names) if set(names) <= set(sample.known or task.default_names) else None


def _refuse_words(text: str) -> None:
    for find, code, what in (
        (find_leak, "label_leak", "it tells that the label was known"),
        (find_disclaimer, "refused", "it holds a refusal or a caveat"),
        (find_inner_state, "inner_state", "it claims a feeling"),
    ):
        if words := find(text):
            raise Rejected(code, f"{what}: {words!r}")
