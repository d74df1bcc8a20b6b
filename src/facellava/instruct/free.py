"""Turns outside the five tasks: open questions, short formats, and questions that are not answered.

Forms are in ``questions.toml``. Every builder returns None when its evidence is unknown; then another one is
drawn.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from .. import tasks
from .facts import FaceEvidence, Facts, join_clauses, join_items, texts, upper_first


@dataclass(frozen=True)
class Turn:
    """One question and its answer.

    Attributes:
        task: one of the five tasks, ``checklist_<task>``, or ``free``, ``format``, ``refusal``.
        question: the user's text.
        answer: the assistant's text.
    """

    task: str
    question: str
    answer: str


@dataclass(frozen=True)
class _Scene:
    """All that a builder needs: the evidence, its facts, the random generator, the medium, a quotable
    sentence."""

    evidence: FaceEvidence
    facts: Facts
    rng: random.Random
    media: str
    quote: str | None

    def ask(self, forms: list[str]) -> str:
        """A question with the person and the medium filled in."""
        who = person(self.evidence, self.rng)
        return self.rng.choice(forms).format(p=who, whose=_WHOSE.get(who, f"{who}'s"), media=self.media)

    def noun(self) -> str:
        """man or woman for adults where the attribute Male is known, else person."""
        male, age = (self.evidence.attributes or {}).get("Male"), self.evidence.age
        if male is None or age is None or age < 20 or self.rng.random() < 0.4:
            return "person"
        return "man" if male else "woman"


_WHOSE = {"he": "his", "she": "her"}
_Builder = Callable[[_Scene], Turn | None]


def person(evidence: FaceEvidence, rng: random.Random) -> str:
    """How a user may speak of the person; he or she only where the attribute Male is known."""
    male = (evidence.attributes or {}).get("Male")
    if male is None or rng.random() < 0.5:
        return "the person"
    return "he" if male else "she"


def free_turn(evidence: FaceEvidence, rng: random.Random, media: str, *, quote: str | None = None) -> Turn | None:
    """One turn outside the five tasks, or None when the evidence supports none of the drawn ones.

    `quote` is a sentence about the face that may stand in a description.
    """
    scene = _Scene(evidence, Facts(evidence), rng, media, quote)
    builders = list(_WEIGHTS)
    for _ in range(8):
        builder = rng.choices(builders, weights=[_WEIGHTS[b] for b in builders])[0]
        turn = builder(scene)
        if turn is not None:
            return turn
    return None


def _region(scene: _Scene) -> Turn | None:
    forms = texts("questions")["region"]
    region = scene.rng.choice(["mouth", "eyes", "brows"])
    stated = scene.facts.in_region(region)
    if not stated:
        return None
    shown = [name for name in stated if scene.facts.status[name]]
    absent = [name for name in stated if not scene.facts.status[name]]
    used = scene.rng.sample(shown, min(len(shown), 3))
    if len(used) < 2:
        used += scene.rng.sample(absent, min(len(absent), 2 - len(used) + (not shown)))
    sentence = upper_first(join_clauses([scene.facts.clause(n, scene.rng) for n in used], scene.rng)) + "."
    if not shown and len(absent) > 2 and scene.rng.random() < 0.5:
        sentence = scene.rng.choice(forms["rest"][region]) + " " + sentence
    return Turn("free", scene.ask(forms[region]), sentence)


def _hair(scene: _Scene) -> Turn | None:
    forms, rng = texts("questions")["hair"], scene.rng
    known = scene.evidence.attributes or {}
    present = {name for name, on in known.items() if on}
    if not known.keys() & forms["colour"].keys():
        return None
    how = [word for kind in ("colour", "style") for name, word in forms[kind].items() if name in present]
    more = [clause for name, clause in forms["more"].items() if name in present]
    if "Bald" in present:
        said = rng.choice(forms["bald"])
    elif how:
        who = upper_first(person(scene.evidence, rng))
        said = rng.choice(forms["form"]).format(how=join_items(how), p=who)
    else:
        said = rng.choice(forms["none"])
    return Turn("free", scene.ask(forms["ask"]), " ".join([said, *(upper_first(clause) + "." for clause in more[:1])]))


def _describe(scene: _Scene) -> Turn | None:
    data, rng, facts = texts("evidence")["describe"], scene.rng, scene.facts
    sentences = [_first_sentence(scene, data)]
    items = _visible_items(scene)
    if scene.quote and rng.random() < 0.4:
        sentences.append(scene.quote)
    elif items and rng.random() < 0.8:
        form = rng.choice(data["items"])
        sentences.append(form.format(items=join_items(items), noun=scene.noun()))
    used = rng.sample(facts.shown, min(len(facts.shown), 2)) or rng.sample(facts.absent, min(len(facts.absent), 2))
    if used and (len(sentences) == 1 or rng.random() < 0.6):
        sentences.append(upper_first(join_clauses([facts.clause(n, rng) for n in used], rng)) + ".")
    if len(sentences) == 1 and scene.evidence.expression is None and scene.evidence.age is None:
        return None
    return Turn("free", scene.ask(texts("questions")["describe"]["ask"]), " ".join(sentences))


def _first_sentence(scene: _Scene, data: dict) -> str:
    age, label = scene.evidence.age, scene.evidence.expression
    kind = ("age_expression" if age else "expression") if label else ("age" if age else "nothing")
    if kind == "age_expression" and scene.rng.random() < 0.2:
        kind = scene.rng.choice(["age", "expression"])
    adjective = texts("evidence")["words"]["adjective"].get(label, "")
    article = "an" if adjective[:1] in "aeiou" else "a"
    form = scene.rng.choice(data[kind])
    years = f"{age} year" if age == 1 else f"{age} years"
    return form.format(a=age, y=years, noun=scene.noun(), adj=f"{article} {adjective}", media=scene.media)


_SAID_ELSEWHERE = ("Attractive", "Male", "Young", "Smiling", "Mouth_Slightly_Open", "No_Beard", "Blurry")


def _visible_items(scene: _Scene) -> list[str]:
    task = tasks.get("attributes")
    present = [name for name, on in (scene.evidence.attributes or {}).items() if on and name not in _SAID_ELSEWHERE]
    chosen = scene.rng.sample(present, min(len(present), scene.rng.randint(1, 4)))
    return [task.label(name).text for name in chosen]


def _strongest(scene: _Scene) -> Turn | None:
    forms = texts("questions")["strongest"]
    name = scene.facts.strongest()
    if name is None:
        if len(scene.facts.absent) < 4:
            return None
        return Turn("free", scene.ask(forms["ask"]), scene.rng.choice(forms["none"]))
    short = texts("evidence")["facts"][name]["short"]
    return Turn("free", scene.ask(forms["ask"]), scene.rng.choice(forms["form"]).format(short=short))


def _compare(scene: _Scene) -> Turn | None:
    forms, clauses, moving = texts("questions")["compare"], {}, {}
    for region in ("eyes", "mouth"):
        stated = scene.facts.in_region(region)
        if not stated:
            return None
        moving[region] = bool(scene.facts.status[stated[0]])
        same = [name for name in stated if bool(scene.facts.status[name]) == moving[region]]
        clauses[region] = scene.facts.clause(scene.rng.choice(same), scene.rng)
    kind = {(True, True): "both", (True, False): "eyes", (False, True): "mouth", (False, False): "neither"}
    answer = scene.rng.choice(forms[kind[moving["eyes"], moving["mouth"]]]).format(**clauses)
    return Turn("free", scene.ask(forms["ask"]), answer)


def _one_word(scene: _Scene) -> Turn | None:
    forms = texts("questions")["one_word"]
    values = {"expression": scene.evidence.expression, "deepfake": scene.evidence.authenticity}
    known = [name for name, value in values.items() if value]
    if not known:
        return None
    name = scene.rng.choice(known)
    return Turn("format", scene.ask(forms[name]), tasks.get(name).label(str(values[name])).spoken + ".")


def _only_age(scene: _Scene) -> Turn | None:
    if scene.evidence.age is None:
        return None
    return Turn("format", scene.ask(texts("questions")["only_age"]["ask"]), str(scene.evidence.age))


def _codes(scene: _Scene) -> Turn | None:
    units = scene.evidence.action_units
    if not units:
        return None
    active = tasks.get("action_units").sort(unit for unit, on in units.items() if on)
    return Turn("format", scene.ask(texts("questions")["codes"]["ask"]), ", ".join(active) or "None.")


WHOLE = 0.3
"""How often JSON is asked for everything that is known."""


def _json(scene: _Scene) -> Turn | None:
    forms, evidence = texts("questions")["json"], scene.evidence
    units = evidence.action_units
    kinds: dict[str, dict] = {}
    if evidence.expression:
        kinds["expression"] = {"expression": evidence.expression}
    if evidence.age is not None:
        kinds["age"] = {"age": evidence.age}
    if len(kinds) == 2:
        kinds["both"] = kinds["expression"] | kinds["age"]
    if units:
        task = tasks.get("action_units")
        kinds["units"] = {"action_units": list(task.sort(unit for unit, on in units.items() if on))}
    if not kinds:
        return None
    if len(kinds) == 4 and evidence.authenticity and evidence.attributes:
        kinds["all"] = kinds["both"] | {"authenticity": evidence.authenticity} | kinds["units"]
        present = [name for name in tasks.get("attributes").default_names if evidence.attributes.get(name)]
        kinds["all"]["attributes"] = present
    kind = "all" if "all" in kinds and scene.rng.random() < WHOLE else scene.rng.choice(list(kinds))
    return Turn("format", scene.ask(forms[kind]), json.dumps(kinds[kind]))


def course_turn(evidence: FaceEvidence, rng: random.Random, media: str) -> Turn:
    """A question about how the expression changes; of a still, that it cannot be said."""
    return _course(_Scene(evidence, Facts(evidence), rng, media, None))


def declined_turn(evidence: FaceEvidence, rng: random.Random, media: str) -> Turn:
    """A question that is not answered (``[refuse]``: who, feelings, looks, ..., what no label is trained for)."""
    return _refuse(_Scene(evidence, Facts(evidence), rng, media, None))


def unit_meaning_turn(evidence: FaceEvidence, rng: random.Random, media: str) -> Turn | None:
    """What the code of an action unit means; None where no units are known."""
    return _unit_meaning(_Scene(evidence, Facts(evidence), rng, media, None))


def _refuse(scene: _Scene) -> Turn:
    forms = texts("questions")["refuse"]
    kind = _draw(forms, scene.rng)
    question = scene.rng.choice(forms[kind]["ask"])
    for word in re.findall(r"{(\w+)}", question):
        if word in forms[kind]:
            question = question.replace(f"{{{word}}}", scene.rng.choice(forms[kind][word]))
    more, label = "", scene.evidence.expression
    if kind == "feeling" and label and scene.rng.random() < 0.6:
        more = scene.rng.choice(forms[kind]["more"]).format(label=label)
    answer = scene.rng.choice(forms[kind]["answer"]).replace("{more}", more).replace("{media}", scene.media)
    return Turn("refusal", upper_first(scene.ask([question])), answer)


def _draw(kinds: dict, rng: random.Random) -> str:
    """One of the kinds, by their weights."""
    return rng.choices(list(kinds), weights=[form.get("weight", 1) for form in kinds.values()])[0]


def _small_talk(scene: _Scene) -> Turn:
    forms = texts("questions")["small_talk"]
    form = forms[_draw(forms, scene.rng)]
    return Turn("free", scene.ask(form["ask"]), scene.rng.choice(form["answer"]).format(media=scene.media))


def _course(scene: _Scene) -> Turn:
    forms, rng, course = texts("questions")["course"], scene.rng, scene.evidence.course
    kind = rng.choice(["whole", "whole", "first", "last", "polar"])
    form = forms if kind == "whole" else forms[kind]
    if not course:
        return Turn("free", scene.ask(form["ask"]), rng.choice(forms["still"]))
    label = course[0] if kind == "first" else course[-1]
    names = {"first": course[0], "rest": ", then ".join(course[1:]), "label": label}
    if kind in ("first", "last"):
        answers = form["answer"]
    elif kind == "polar":
        answers = form["yes" if len(course) > 1 else "no"]
    else:
        answers = forms["changes" if len(course) > 1 else "stays"]
    return Turn("free", scene.ask(form["ask"]), rng.choice(answers).format(**names))


def _gender(scene: _Scene) -> Turn | None:
    male = (scene.evidence.attributes or {}).get("Male")
    if male is None:
        return None
    forms = texts("questions")["gender"]
    return Turn("free", scene.ask(forms["ask"]), scene.rng.choice(forms["male" if male else "female"]))


def _unit_meaning(scene: _Scene) -> Turn | None:
    if not scene.evidence.action_units:
        return None
    forms = texts("questions")["unit_meaning"]
    unit = scene.rng.choice(list(scene.evidence.action_units))
    answer = scene.rng.choice(forms["answer"]).format(unit=unit, name=tasks.get("action_units").label(unit).text)
    return Turn("free", scene.rng.choice(forms["ask"]).format(unit=unit), answer)


def _sure(scene: _Scene) -> Turn | None:
    kind = scene.rng.choice(["age", "expression"])
    form = texts("questions")["sure"][kind]
    return Turn("free", scene.ask(form["ask"]), scene.rng.choice(form["answer"]))


_WEIGHTS: dict[_Builder, float] = {
    _region: 3.0,
    _describe: 3.0,
    _hair: 2.5,
    _strongest: 1.0,
    _compare: 1.0,
    _one_word: 1.5,
    _only_age: 1.0,
    _codes: 1.2,
    _json: 1.5,
    _refuse: 2.0,
    _small_talk: 4.0,
    _gender: 2.5,
    _course: 0.6,
    _unit_meaning: 0.5,
    _sure: 0.3,
}
