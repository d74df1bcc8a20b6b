"""Ratings (section 3.2, appendix E.4): four criteria from 1 to 10, by a second model or by rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from facellava import tasks
from facellava.face import blendshape_names
from facellava.instruct import asking
from facellava.instruct.annotate import evidence_hash, fingerprint, label_in, says
from facellava.instruct.evidence import measures_from_blendshapes
from facellava.instruct.facts import texts
from facellava.instruct.leaks import find_disclaimer, find_inner_state, find_leak
from facellava.instruct.prompts import fingerprint_of, rating_prompt
from facellava.instruct.records import CRITERIA, Annotation, Rating, Rejected
from facellava.instruct.temporal import course_of
from facellava.llm import ChatClient, ChatReply, ChatRequest
from facellava.types import FaceClip, Quality, Sample

CODE_VERSION = 2
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
        self.fingerprint = fingerprint("llm-rate", client.name, model, attempts, max_tokens, fingerprint_of("rate"))

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
        prompt, _ = rating_prompt(sample, "", frames=0)
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
            prompt=prompt.hash,
            attempts=asked.attempts,
            input_tokens=asked.input_tokens,
            output_tokens=asked.output_tokens,
        )


def read_marks(reply: ChatReply) -> tuple[list[int], str]:
    """Four whole numbers from 1 to 10 and the reason. Raises ``Rejected`` for anything else."""
    answer = asking.read_object(reply)
    given = answer.get("ratings")
    if not isinstance(given, dict) or not given.keys() >= set(CRITERIA):
        raise Rejected("invalid_answer", f"'ratings' must hold {', '.join(CRITERIA)}")
    marks = [_mark(name, given[name]) for name in CRITERIA]
    return marks, " ".join(str(answer.get("reason", "")).split())


def _mark(name: str, value: Any) -> int:
    if not re.fullmatch(r"\s*(?:[1-9]|10)\s*", str(value), re.ASCII):
        raise Rejected("invalid_answer", f"{name} is {value!r}, not a whole number from 1 to 10")
    return int(value)


class RulesRater:
    """Ratings without a model: contradictions between label, words and measured movement, and the picture's quality.

    It knows nothing of language and little of faces: an unmeasurable claim costs nothing. Its marks show where a build
    contradicts itself and are not comparable with a model's.

    - label_accuracy: 9, and 3 less for each movement on which label and measurement disagree.
    - description_media: 9, and 3 less for each stated movement that is measured as absent.
    - description_label: 10 where the description parses to the label, 2 where it parses to another, 4 where to none, 3
      where it holds words that no description may hold, 8 where there is no label.
    - overall: the least of the three and of the picture's quality (10; small, soft or turned away costs marks).
    """

    def __init__(self) -> None:
        self.fingerprint = fingerprint("rules", CODE_VERSION, evidence_hash())

    def rate(self, sample: Sample, clip: FaceClip, annotation: Annotation) -> Rating:
        """See ``Rater``."""
        apex = course_of(sample, clip).apex
        measures = measures_from_blendshapes(clip.blendshapes[apex], blendshape_names())
        against = _against_label(sample, measures)
        claims = _false_claims(annotation.description, measures)
        quality, flaws = _quality(clip.quality)
        told, problem = _consistency(sample, annotation.description)
        accuracy, media = max(1, 9 - 3 * len(against)), max(1, 9 - 3 * len(claims))
        reasons = [f"against the label: {fact}" for fact in against]
        reasons += [f"said, but measured as absent: {fact}" for fact in claims]
        reason = "; ".join([*reasons, *problem, *flaws]) or "label, words and measured movement agree"
        return Rating(accuracy, media, told, min(accuracy, media, told, quality), reason, "rules")


def _against_label(sample: Sample, measures: Mapping[str, float]) -> list[str]:
    """Facts on which the label and the measurement disagree, and how."""
    wrong = []
    for name, fact in texts("evidence")["facts"].items():
        labelled, measured = _labelled(sample, name, fact), _measured(fact, measures)
        if labelled is not None and measured is not None and labelled != measured:
            wrong.append(f"{fact['short']}, {'shown' if measured else 'absent'} ({measures[fact['measure']]:.2f})")
    return wrong


def _labelled(sample: Sample, name: str, fact: Mapping[str, Any]) -> bool | None:
    """Whether the label says that a fact is shown (True) or absent (False); None where it says nothing."""
    if sample.task == "expression":
        # no other expression demands or excludes anything that can be measured
        return {"happiness": True, "sadness": False, "anger": False}.get(str(sample.label)) if name == "smile" else None
    if not isinstance(sample.label, tuple):
        return None
    # what the label does not hold may still move a little: coders leave out what is weak
    signs = fact["units"] if sample.task == "action_units" else [fact.get("attribute")]
    return True if set(signs) & set(sample.label) else None


def _measured(fact: Mapping[str, Any], measures: Mapping[str, float]) -> bool | None:
    """Whether a fact is measured as shown (True) or absent (False); None between and where nothing measures it."""
    value = measures.get(fact.get("measure", ""))
    if value is None or fact.get("low", -1.0) < value < fact["high"]:
        return None
    return value >= fact["high"]


def _false_claims(description: str, measures: Mapping[str, float]) -> list[str]:
    """Movements that the description states in the evidence language and that are measured as absent."""
    lowered = description.lower()
    return [
        fact["short"]
        for fact in texts("evidence")["facts"].values()
        if _measured(fact, measures) is False and any(clause in lowered for clause in fact["yes"])
    ]


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
    costs = (
        (5 if quality.size < 24 else 2 if quality.size < 48 else 0, f"the face is {quality.size:.0f} pixels wide"),
        (4 if quality.blur < 5 else 1 if quality.blur < 20 else 0, "the face is not sharp"),
        (3 if abs(quality.yaw) > 60 else 0, f"the face is turned by {abs(quality.yaw):.0f} degrees"),
    )
    return max(1, 10 - sum(cost for cost, _ in costs)), [words for cost, words in costs if cost]
