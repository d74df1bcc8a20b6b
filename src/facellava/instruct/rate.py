"""Ratings (section 3.2, appendix E.4): four criteria from 1 to 10, by a second model or by rules."""

from __future__ import annotations

from typing import Any, Protocol

from facellava import tasks
from facellava.face import blendshape_names
from facellava.instruct import asking
from facellava.instruct.annotate import evidence_of, fingerprint, label_in, says
from facellava.instruct.evidence import measures_from_blendshapes
from facellava.instruct.facts import Facts, texts
from facellava.instruct.leaks import find_disclaimer, find_inner_state, find_leak
from facellava.instruct.prompts import FRAMES, rating_prompt
from facellava.instruct.records import CRITERIA, Annotation, Rating, Rejected
from facellava.instruct.temporal import course_of
from facellava.llm import ChatClient, ChatReply, ChatRequest
from facellava.types import FaceClip, Quality, Sample

CODE_VERSION = 1
"""Raised when the rules would rate the same sample differently."""


class Rater(Protocol):
    """Rates annotated samples; ``fingerprint`` as in ``Annotator``."""

    fingerprint: str

    def rate(self, sample: Sample, clip: FaceClip, annotation: Annotation) -> Rating:
        """Four marks and a reason. Raises ``Rejected`` where none can be had."""
        ...


class LlmRater:
    """Asks a second model, shown the same frames, the label and the description."""

    def __init__(self, client: ChatClient, model: str, *, attempts: int = 3, max_tokens: int = 256) -> None:
        self.client, self.model = client, model
        self.attempts, self.max_tokens = attempts, max_tokens
        hashes = [asking_prompt(name) for name in tasks.all_tasks()]
        self.fingerprint = fingerprint("llm-rate", client.name, model, attempts, max_tokens, hashes)

    def request(
        self, sample: Sample, clip: FaceClip, annotation: Annotation, attempt: int = 0, problem: str = ""
    ) -> ChatRequest:
        """The question about one annotated sample; the same bytes whenever it is asked."""
        pictures = asking.pictures(clip)
        _, text = rating_prompt(sample, annotation.description, frames=len(pictures))
        return ChatRequest(
            model=self.model,
            text=asking.repaired(text, attempt, problem),
            attachments=pictures,
            max_tokens=self.max_tokens,
            attempt=attempt,
        )

    def rate(self, sample: Sample, clip: FaceClip, annotation: Annotation) -> Rating:
        """See ``Rater``. Rejected: ``invalid_answer``, ``refused``, ``provider_failed``."""
        (marks, reason), asked = asking.ask(
            self.client,
            lambda attempt, problem: self.request(sample, clip, annotation, attempt, problem),
            read_marks,
            self.attempts,
        )
        return Rating(
            *marks,
            reason=reason,
            rater=self.client.name,
            model=self.model,
            prompt=asking_prompt(sample.task),
            attempts=asked.attempts,
            input_tokens=asked.input_tokens,
            output_tokens=asked.output_tokens,
        )


def asking_prompt(task: str) -> str:
    """Hash of the task's rating prompt."""
    from facellava.instruct.prompts import prompt

    return prompt(task, "rate", "rate").hash


def read_marks(reply: ChatReply) -> tuple[list[int], str]:
    """Four whole numbers from 1 to 10 and the reason. Raises ``Rejected`` for anything else."""
    answer = asking.read_object(reply)
    given = answer.get("ratings")
    if not isinstance(given, dict) or not given.keys() >= set(CRITERIA):
        raise Rejected("invalid_answer", f"'ratings' must hold {', '.join(CRITERIA)}")
    marks = [_mark(name, given[name]) for name in CRITERIA]
    return marks, " ".join(str(answer.get("reason", "")).split())


def _mark(name: str, value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal() or not 1 <= int(text) <= 10 or isinstance(value, bool):
        raise Rejected("invalid_answer", f"{name} is {value!r}, not a whole number from 1 to 10")
    return int(text)


class RulesRater:
    """Ratings without a model: contradictions between label, words and measured movement, and the picture's quality.

    It knows nothing of language and little of faces: an unmeasurable claim costs nothing. Its marks show where a build
    contradicts itself and are not comparable with a model's.

    - label_accuracy: 9, and 3 less for each measured movement that speaks against the label.
    - description_media: 9, and 3 less for each stated movement that is measured as absent.
    - description_label: 10 where the description parses to the label, 2 where it parses to another, 4 where to none.
    - overall: the least of the three and of the picture's quality (small, soft or turned away costs marks).
    """

    fingerprint = fingerprint("rules", CODE_VERSION)

    def rate(self, sample: Sample, clip: FaceClip, annotation: Annotation) -> Rating:
        """See ``Rater``."""
        names = blendshape_names()
        measures = measures_from_blendshapes(clip.blendshapes[course_of(clip, names).apex], names)
        against = _against_label(sample, measures)
        claims = _false_claims(sample, annotation.description, measures)
        quality, flaws = _quality(clip.quality)
        told, problem = _consistency(sample, annotation.description)
        accuracy, media = max(1, 9 - 3 * len(against)), max(1, 9 - 3 * len(claims))
        reasons = [
            *(f"measured against the label: {a}" for a in against),
            *(f"said but not measured: {c}" for c in claims),
        ]
        reason = "; ".join([*reasons, *problem, *flaws]) or "label, words and measured movement agree"
        return Rating(accuracy, media, told, min(accuracy, media, told, quality), reason, "rules")


def _against_label(sample: Sample, measures: dict[str, float]) -> list[str]:
    """Facts that the label demands and the measurement denies (or the other way round)."""
    data, wrong = texts("evidence")["facts"], []
    labels = set(sample.label) if isinstance(sample.label, tuple) else set()
    for name, fact in data.items():
        value = measures.get(fact.get("measure", ""))
        if value is None or sample.task not in ("action_units", "attributes"):
            continue
        signs = fact["units"] if sample.task == "action_units" else [fact.get("attribute", "")]
        if set(signs) & labels and value <= fact.get("low", -1):
            wrong.append(f"{name} is absent ({value:.2f})")
    if sample.task == "expression" and sample.label == "happiness" and measures["frown"] > measures["smile"] + 0.3:
        wrong.append("the lip corners point down")
    if sample.task == "expression" and sample.label in ("sadness", "anger") and measures["smile"] > 0.6:
        wrong.append(f"a smile is measured ({measures['smile']:.2f})")
    return wrong


def _false_claims(sample: Sample, description: str, measures: dict[str, float]) -> list[str]:
    """Movements that the description states in the evidence language and that are measured as absent."""
    facts = Facts(evidence_of(sample, measures))
    lowered = description.lower()
    wrong = []
    for name, fact in texts("evidence")["facts"].items():
        value = facts.evidence.measures.get(fact.get("measure", ""))
        if value is None or value > fact.get("low", -1):
            continue
        if any(clause.lower() in lowered for clause in fact["yes"]):
            wrong.append(name)
    return wrong


def _consistency(sample: Sample, description: str) -> tuple[int, list[str]]:
    """The third mark, and what is wrong."""
    for find in (find_leak, find_disclaimer, find_inner_state):
        if words := find(description):
            return 3, [f"the description says {words!r}"]
    if sample.label is None:
        return 8, ["no label to compare with"]
    task = tasks.get(sample.task)
    if says(task, description, sample.label):
        return 10, []
    found = label_in(task, description)
    if not found:
        return 4, ["the description names no label"]
    return 2, [f"the description speaks for {found!r}"]


def _quality(quality: Quality) -> tuple[int, list[str]]:
    """A mark for size, sharpness and pose, and what costs marks."""
    mark, flaws = 10, []
    for bad, cost, words in (
        (quality.size < 24, 5, f"the face is {quality.size:.0f} pixels wide"),
        (24 <= quality.size < 48, 2, f"the face is {quality.size:.0f} pixels wide"),
        (quality.blur < 5, 4, "the face is blurred"),
        (5 <= quality.blur < 20, 1, "the face is soft"),
        (abs(quality.yaw) > 60, 3, f"the face is turned by {abs(quality.yaw):.0f} degrees"),
    ):
        if bad:
            mark -= cost
            flaws.append(words)
    return max(1, mark), flaws


__all__ = ["FRAMES", "LlmRater", "Rater", "RulesRater", "read_marks"]
