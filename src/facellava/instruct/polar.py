"""Questions that are answered with yes or no, and what they ask about.

A claim about a face holds, does not hold, or is unknown; unknown ones are not asked about. A small model learns "no"
only from seeing both answers equally often, so a caller says which of the two it wants.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .. import tasks
from .facts import FaceEvidence, Facts, texts, upper_first
from .free import Turn, person

BARE = 0.3
"""How often the user wants nothing but the word."""
_NO_THING = ("Male", "Young", "No_Beard")
"""Attributes that cannot be asked about as a thing that is there."""


@dataclass(frozen=True)
class _Claim:
    """One thing that may be asked: forms of its question, whether it holds, forms of the clause that says so."""

    questions: list[str]
    holds: bool
    clauses: list[str]


def polar_turn(evidence: FaceEvidence, rng: random.Random, media: str, *, holds: bool | None = None) -> Turn | None:
    """A question with the answer yes or no, of any kind; None where the evidence supports none.

    Args:
        holds: whether the answer has to be yes; by chance where None.
    """
    wanted = rng.random() < 0.5 if holds is None else holds
    kinds = list(_KINDS)
    for kind in rng.sample(kinds, len(kinds)):
        if claims := [claim for claim in kind(evidence) if claim.holds == wanted]:
            return _turn(rng.choice(claims), evidence, rng, media)
    return None


def _turn(claim: _Claim, evidence: FaceEvidence, rng: random.Random, media: str) -> Turn:
    question = rng.choice(claim.questions).format(p=person(evidence, rng), media=media)
    word = "Yes" if claim.holds else "No"
    if rng.random() < BARE:
        return Turn("format", upper_first(_bare(question, rng)), word + ".")
    return Turn("free", upper_first(question), f"{word}, {rng.choice(claim.clauses)}.")


def _bare(question: str, rng: random.Random) -> str:
    """The question with the wish for one word, unless it says so itself."""
    if "or no" in question.lower():  # "a hat or not?"
        return question
    form = rng.choice(texts("questions")["polar"]["bare"])
    return form.format(question=question, stem=question.removesuffix("?"))


def _movements(evidence: FaceEvidence) -> Iterator[_Claim]:
    facts, forms = texts("evidence")["facts"], texts("questions")["yes_no"]
    status = Facts(evidence).status
    for name, questions in forms.items():
        fact = "eyes_closed" if name == "eyes_open" else name
        value = status[fact]
        clauses = facts[fact]["yes" if value else "no"]
        if value is not None and clauses:
            yield _Claim(questions, value != (name == "eyes_open"), clauses)


def _attributes(evidence: FaceEvidence) -> Iterator[_Claim]:
    forms = texts("questions")["yes_no_attributes"]
    for name, value in (evidence.attributes or {}).items():
        if name in forms:
            yield _Claim(forms[name]["ask"], value, [forms[name]["yes" if value else "no"]])


def _things(evidence: FaceEvidence) -> Iterator[_Claim]:
    task = tasks.get("attributes")
    for name, value in (evidence.attributes or {}).items():
        if name not in _NO_THING and task.label(name).default:
            yield _stated("thing", value, thing=task.label(name).text)


def _units(evidence: FaceEvidence) -> Iterator[_Claim]:
    task = tasks.get("action_units")
    for name, value in (evidence.action_units or {}).items():
        yield _stated("unit", value, unit=name, name=task.label(name).text)


def _expressions(evidence: FaceEvidence) -> Iterator[_Claim]:
    if evidence.expression is None:
        return
    for label, adjective in texts("evidence")["words"]["adjective"].items():
        yield _stated("expression", label == evidence.expression, label=label, adj=adjective, shown=evidence.expression)


def _older(evidence: FaceEvidence) -> Iterator[_Claim]:
    if evidence.age is None:
        return
    for limit in range(15, 90, 5):
        if 6 <= abs(evidence.age - limit) <= 30:
            yield _stated("older", evidence.age > limit, n=limit, a=evidence.age)
            yield _stated("younger", evidence.age < limit, n=limit, a=evidence.age)


def _authenticity(evidence: FaceEvidence) -> Iterator[_Claim]:
    if evidence.authenticity is not None:
        fake = evidence.authenticity == "fake"
        yield _stated("manipulated", fake)
        yield _stated("genuine", not fake)


def _stated(kind: str, holds: bool, **words: str | int) -> _Claim:
    """A claim in the forms of ``[polar]``; what stays in braces is filled in when it is asked."""
    form = texts("questions")["polar"][kind]
    filled = {"p": "{p}", "media": "{media}", **words}
    clauses = form["yes" if holds else "no"]
    return _Claim([q.format(**filled) for q in form["ask"]], holds, [c.format(**filled) for c in clauses])


_KINDS = (
    _movements,
    _movements,
    _attributes,
    _attributes,
    _things,
    _things,
    _units,
    _expressions,
    _older,
    _authenticity,
)
