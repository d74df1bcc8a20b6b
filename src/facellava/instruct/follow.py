"""Second questions that mean something only after the first one: "Why?", "As JSON, please.", "And the mouth?"."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from .. import tasks
from .facts import FaceEvidence, Facts, join_clauses, texts, upper_first
from .free import Turn


def follow_up(turn: Turn, evidence: FaceEvidence, rng: random.Random, reason: str = "") -> Turn | None:
    """A question about the answer just given, None where there is nothing to ask about it.

    Args:
        turn: one of the five tasks. reason: the sentence that supports its answer, for "Why?".
    """
    makers = [make for make in _MAKERS.get(turn.task, ()) if make is not _why or reason]
    if not makers:
        return None
    made = rng.choice(makers)(turn, evidence, rng, reason)
    return None if made is None else Turn("follow", *made)


_Made = tuple[str, str] | None


def _ask(kind: str, rng: random.Random) -> str:
    return rng.choice(texts("questions")["follow"][kind])


def _value(turn: Turn, evidence: FaceEvidence) -> str | int | list[str] | None:
    if turn.task == "action_units":
        active = [unit for unit, on in (evidence.action_units or {}).items() if on]
        return list(tasks.get("action_units").sort(active))
    return {"expression": evidence.expression, "age": evidence.age, "deepfake": evidence.authenticity}[turn.task]


def _why(_turn: Turn, _evidence: FaceEvidence, rng: random.Random, reason: str) -> _Made:
    return _ask("why", rng), reason


def _json(turn: Turn, evidence: FaceEvidence, rng: random.Random, _reason: str) -> _Made:
    key = {"deepfake": "authenticity"}.get(turn.task, turn.task)
    return _ask("json", rng), json.dumps({key: _value(turn, evidence)})


def _one_word(turn: Turn, evidence: FaceEvidence, rng: random.Random, _reason: str) -> _Made:
    return _ask("one_word", rng), tasks.get(turn.task).label(str(_value(turn, evidence))).spoken + "."


def _only_number(turn: Turn, evidence: FaceEvidence, rng: random.Random, _reason: str) -> _Made:
    return _ask("only_number", rng), str(_value(turn, evidence))


def _older(_turn: Turn, evidence: FaceEvidence, rng: random.Random, _reason: str) -> _Made:
    assert evidence.age is not None
    limit = max(10, min(90, 5 * round((evidence.age + rng.choice([-20, -10, 10, 20])) / 5)))
    if abs(limit - evidence.age) < 5:
        return None
    form = texts("questions")["follow"]["older"]
    older = evidence.age > limit
    return rng.choice(form["ask"]).format(n=limit), rng.choice(form["yes" if older else "no"]).format(a=evidence.age)


def _codes(turn: Turn, evidence: FaceEvidence, rng: random.Random, _reason: str) -> _Made:
    units = _value(turn, evidence)
    assert isinstance(units, list)
    return _ask("codes", rng), ", ".join(units) or "None."


def _region(_turn: Turn, evidence: FaceEvidence, rng: random.Random, _reason: str) -> _Made:
    facts, region = Facts(evidence), rng.choice(["mouth", "eyes", "brows"])
    stated = facts.in_region(region)
    if not stated:
        return None
    said = join_clauses([facts.clause(name, rng) for name in stated[:2]], rng)
    return rng.choice(texts("questions")["follow"]["region"]).format(region=region), upper_first(said) + "."


_Maker = Callable[[Turn, FaceEvidence, random.Random, str], _Made]
_MAKERS: dict[str, tuple[_Maker, ...]] = {
    "expression": (_why, _why, _json, _one_word, _region),
    "action_units": (_json, _codes, _region),
    "age": (_json, _only_number, _only_number, _older),
    "deepfake": (_json, _one_word, _why),
}
