"""Conversations about a face whose every sentence follows from given evidence (the ``evidence`` annotator).

The answers are short and plain, for a language model of 135 million parameters. Their heads come from the
tasks' ``task.toml`` (the runtime scores labels at those places); the other text from ``evidence.toml`` and
``questions.toml``. Everything is drawn from the given random generator, so a seed fixes the text.
"""

from __future__ import annotations

import random
import re

from .. import tasks
from .facts import (
    MEASURES,
    FaceEvidence,
    Facts,
    join_clauses,
    join_items,
    measures_from_blendshapes,
    texts,
    upper_first,
)
from .follow import follow_up
from .free import Turn, course_turn, declined_turn, free_turn, unit_meaning_turn
from .polar import polar_turn

__all__ = [
    "FORBIDDEN",
    "MEASURES",
    "FaceEvidence",
    "Turn",
    "checklist",
    "conversation",
    "description_parts",
    "measures_from_blendshapes",
    "task_turn",
]

MAX_WORDS = 55
FORBIDDEN = re.compile(
    r"\b(?:feel|feels|feeling|feelings|felt|proof|proves?|proven|beautiful|handsome|pretty|ugly|attractive|gorgeous"
    r"|celebrity|famous|ethnic\w*|race|caucasian|asian|african)\b",
    re.IGNORECASE,
)
"""Words that no answer contains: claims about inner states, certainty, looks, identity or origin."""

TASK_PROBABILITY = 0.65
CANONICAL_QUESTION = 0.3
CHECKLIST = 0.4
FOLLOW_UP = 0.7
POLAR_PAIRS, POLAR_PAIR = 2, 0.75
"""At most so many times, and each of them so often, two questions for yes or no are asked, one answered with no."""
COURSES = 3
"""So often it is asked how the expression of a clip changes."""
DECLINED = 0.7
"""How often one more question is one that no face answers: a small model else answers "Is she rich?" like any other."""
EXPLAINED = 0.6
"""How often the meaning of a unit's code is asked: sixteen arbitrary facts, learned by nothing but repetition."""
UNMENTIONED = ("Attractive", "Male", "Young", "Smiling", "Mouth_Slightly_Open", "No_Beard", "Blurry")
"""Attributes left out of plain sentences: judgements, or said elsewhere in better words."""


def conversation(
    evidence: FaceEvidence, rng: random.Random, *, max_turns: int = 10, media: str = "image"
) -> list[Turn]:
    """Question and answer turns about one face, in random order.

    Each of the five tasks whose evidence is known appears with probability 0.65; mostly one or two pairs of questions
    for yes and no, often a question that is declined and one for the meaning of a code, and two to four other turns
    (checklists, free questions, formats, refusals), mostly a second question after one of the tasks, while `max_turns`
    allows. Never empty while anything is known.
    """
    known = [name for name in tasks.all_tasks() if _known(evidence, name)]
    chosen = [name for name in known if rng.random() < TASK_PROBABILITY] or rng.sample(known, min(1, len(known)))
    turns = [task_turn(evidence, name, rng, media=media) for name in rng.sample(chosen, len(chosen))][:max_turns]
    more: list[Turn | None] = [course_turn(evidence, rng, media) for _ in range(COURSES if evidence.course else 0)]
    pairs = sum(rng.random() < POLAR_PAIR for _ in range(POLAR_PAIRS))
    more += [polar_turn(evidence, rng, media, holds=holds) for _ in range(pairs) for holds in (True, False)]
    if rng.random() < DECLINED:
        more.append(declined_turn(evidence, rng, media))
    if rng.random() < EXPLAINED:
        more.append(unit_meaning_turn(evidence, rng, media))
    more += [_extra_turn(evidence, rng, media) for _ in range(rng.randint(2, 4))]
    for turn in more:
        if turn is not None and len(turns) < max_turns - 1 and all(turn.question != other.question for other in turns):
            turns.append(turn)
    rng.shuffle(turns)
    return _with_follow_up(turns, evidence, rng) if 0 < len(turns) < max_turns else turns


def _with_follow_up(turns: list[Turn], evidence: FaceEvidence, rng: random.Random) -> list[Turn]:
    """The turns and, sometimes, a second question right after one of them."""
    followed = [turn for turn in turns if turn.task in tasks.all_tasks()]
    if not followed or rng.random() > FOLLOW_UP:
        return turns
    first = rng.choice(followed)
    reason = ""
    if first.task in ("expression", "deepfake"):
        reason = next(iter(description_parts(evidence, first.task, rng)[1]), "")
    second = follow_up(first, evidence, rng, reason)
    place = turns.index(first) + 1
    return turns if second is None else [*turns[:place], second, *turns[place:]]


def task_turn(evidence: FaceEvidence, name: str, rng: random.Random, *, media: str = "image") -> Turn:
    """One turn of the task `name`; its answer parses back to the evidence. The evidence must be known."""
    task = tasks.get(name)
    closed = task.kind != "multi" and rng.random() < CANONICAL_QUESTION
    question = task.closed_question(media) if closed else task.ask(rng, media)
    return Turn(name, question, _bounded(*description_parts(evidence, name, rng)))


def description_parts(evidence: FaceEvidence, name: str, rng: random.Random) -> tuple[str, list[str]]:
    """The fixed head of the task's answer, and the sentences after it. The evidence must be known."""
    return _ANSWERS[name](evidence, rng)


def checklist(evidence: FaceEvidence, name: str, rng: random.Random) -> Turn:
    """The closed form of a multi task: 3 to 8 known labels in random order, each answered yes or no.

    The labels that hold fill about half of the list where there are enough. The evidence must be known.
    """
    task = tasks.get(name)
    known = {k: v for k, v in _values(evidence, name).items() if task.label(k).default}
    size = min(rng.randint(3, 8), len(known))
    yes = [label for label in known if known[label]]
    no = [label for label in known if not known[label]]
    picked = rng.sample(yes, min(len(yes), (size + rng.randint(0, 1)) // 2))
    picked += rng.sample(no, min(len(no), size - len(picked)))
    rest = [label for label in yes if label not in picked]
    picked += rng.sample(rest, size - len(picked))
    rng.shuffle(picked)
    lines = [task.item(label) + (task.closed.yes if known[label] else task.closed.no) for label in picked]
    return Turn(f"checklist_{name}", task.closed.question, "\n".join(lines))


def _extra_turn(evidence: FaceEvidence, rng: random.Random, media: str) -> Turn | None:
    lists = [name for name in ("action_units", "attributes") if _known(evidence, name)]
    if lists and rng.random() < CHECKLIST:
        return checklist(evidence, rng.choice(lists), rng)
    return free_turn(evidence, rng, media, quote=_quotable(evidence))


def _values(evidence: FaceEvidence, name: str) -> dict[str, bool]:
    return dict((evidence.action_units if name == "action_units" else evidence.attributes) or {})


def _known(evidence: FaceEvidence, name: str) -> bool:
    if name in ("action_units", "attributes"):
        return bool(_values(evidence, name))
    value = {"expression": evidence.expression, "age": evidence.age, "deepfake": evidence.authenticity}[name]
    return value is not None


def _bounded(head: str, rest: list[str]) -> str:
    """The head and as many following sentences as stay within MAX_WORDS."""
    answer = head
    for sentence in rest:
        longer = f"{answer} {sentence}".strip()
        if sentence and len(longer.split()) <= MAX_WORDS:
            answer = longer
    return answer


def _quotable(evidence: FaceEvidence) -> str | None:
    """The description when it is short and free of forbidden words."""
    text = (evidence.description or "").strip()
    if not text or len(text.split()) > 24 or FORBIDDEN.search(text):
        return None
    return text if text.endswith(".") else text + "."


# --- the five tasks: each returns the fixed head and the sentences after it ---


def _expression(evidence: FaceEvidence, rng: random.Random) -> tuple[str, list[str]]:
    assert evidence.expression is not None
    facts, label = Facts(evidence), evidence.expression
    data = texts("evidence")["expression"][label]
    if label == "neutral":
        reason, used = _neutral_reason(facts, data, rng)
    else:
        reason, used = _supported_reason(facts, data, rng)
    rest = [reason]
    quote = _quotable(evidence)
    # What is added must not argue against the label: no missing support, and no movement in a neutral face.
    side = [name for name in facts.absent if name not in data["support"]]
    other = [name for name in side + (facts.shown if label != "neutral" else []) if name not in used]
    if quote and rng.random() < 0.35:
        rest = [quote] if rng.random() < 0.5 else [reason, quote]
    elif other and rng.random() < (0.4 if len(used) > 1 else 0.75):
        rest.append(upper_first(facts.clause(rng.choice(other), rng)) + ".")
    return tasks.get("expression").head(label), rest


def _sentence(facts: Facts, used: list[str], link: str, rng: random.Random) -> str:
    text = join_clauses([facts.clause(name, rng) for name in used], rng)
    opener = rng.choice(texts("evidence")["join"]["openers"]) if rng.random() < 0.35 else ""
    return upper_first(opener + text + link) + "."


def _link(data: dict, rng: random.Random) -> str:
    return ", " + rng.choice(data["link"]) if rng.random() < 0.5 else ""


def _supported_reason(facts: Facts, data: dict, rng: random.Random) -> tuple[str, list[str]]:
    support = [name for name in data["support"] if facts.status[name]]
    if not support:
        return _faint(texts("evidence")["faint"]["say"], facts, rng), []
    # The first entries of `support` are the most telling ones of the class.
    used = support[:1] + rng.sample(support[1:], min(len(support) - 1, rng.randint(0, 2)))
    rng.shuffle(used)
    return _sentence(facts, used, _link(data, rng), rng), used


def _faint(forms: list[str], facts: Facts, rng: random.Random) -> str:
    label = str(facts.evidence.expression)
    adjective = texts("evidence")["words"]["adjective"][label]
    said = rng.choice(forms).format(label=label, adj=adjective)
    return said + rng.choice(texts("evidence")["faint"]["add"]) + "."


def _neutral_reason(facts: Facts, data: dict, rng: random.Random) -> tuple[str, list[str]]:
    telling = [name for name in facts.shown if name != "eyes_closed"]
    if telling and rng.random() < 0.5:
        name = rng.choice(telling)
        clause = upper_first(facts.clause(name, rng))
        return rng.choice(texts("evidence")["neutral"]["but"]).format(Clause=clause), [name]
    if len(facts.absent) < 2 or rng.random() < 0.15:
        return _faint(data["faint"], facts, rng), []
    used = rng.sample(facts.absent, min(len(facts.absent), rng.randint(2, 3)))
    return _sentence(facts, used, _link(data, rng), rng), used


def _action_units(evidence: FaceEvidence, rng: random.Random) -> tuple[str, list[str]]:
    facts, data = Facts(evidence), texts("evidence")
    active = [unit for unit, on in _values(evidence, "action_units").items() if on]
    head = tasks.get("action_units").head(active)
    if not active:
        return head, [_at_rest(facts, rng)]
    named = [name for name in facts.shown if set(data["facts"][name]["units"]) & set(active)]
    if not named:
        return head, []
    used = rng.sample(named, min(len(named), rng.randint(1, 3)))
    text = join_clauses([facts.clause(name, rng) for name in used], rng)
    rest = [rng.choice(data["action_units"]["joint"]).format(facts=text, Facts=upper_first(text))]
    if facts.absent and rng.random() < 0.5:
        rest.append(upper_first(facts.clause(rng.choice(facts.absent), rng)) + ".")
    return head, rest


def _at_rest(facts: Facts, rng: random.Random) -> str:
    data = texts("evidence")["action_units"]
    rest = rng.choice(data["rest"])
    if not facts.absent:
        return rest + "."
    used = rng.sample(facts.absent, min(len(facts.absent), rng.randint(2, 3)))
    text = join_clauses([facts.clause(name, rng) for name in used], rng)
    return rng.choice(data["rest_joint"]).format(rest=rest, facts=text, Facts=upper_first(text))


def _attributes(evidence: FaceEvidence, rng: random.Random) -> tuple[str, list[str]]:
    task = tasks.get("attributes")
    values = _values(evidence, "attributes")
    present = [name for name in task.default_names if values.get(name)]
    plain = [task.label(name).text for name in present if name not in UNMENTIONED]
    if not plain or rng.random() < 0.4:
        return task.head(present), []
    items = rng.sample(plain, min(len(plain), rng.randint(1, 3)))
    form = rng.choice(texts("evidence")["attributes"]["plain"])
    return task.head(present), [form.format(items=join_items(items))]


_SPREAD = ((20, "three"), (35, "four"), (50, "five"), (65, "six"), (200, "seven"))
_DECADES = (
    "",
    "teens",
    "twenties",
    "thirties",
    "forties",
    "fifties",
    "sixties",
    "seventies",
    "eighties",
    "nineties",
)


def _age(evidence: FaceEvidence, rng: random.Random) -> tuple[str, list[str]]:
    assert evidence.age is not None
    age, data = evidence.age, texts("evidence")["age"]
    head = tasks.get("age").head(age)
    if rng.random() < 0.5:
        spread = next(words for limit, words in _SPREAD if age < limit)
        head += ", " + rng.choice(data["spread"]).format(n=spread)
    rest = []
    clues = _age_clues(evidence, age)
    if clues and rng.random() < 0.6:
        clue = rng.choice(clues)
        rest.append(rng.choice(data["clues"]).format(clue=clue, Clue=upper_first(clue)))
    if 20 <= age < 100 and rng.random() < 0.4:
        part = ("early", "mid", "late")[(age % 10 > 3) + (age % 10 > 6)]
        joint = "-" if part == "mid" else " "
        rest.append(rng.choice(data["decade"]).format(decade=f"their {part}{joint}{_DECADES[age // 10]}"))
    if not rest or rng.random() < 0.4:
        rest.append(rng.choice(data["plain"]))
    return head + ".", rest


def _age_clues(evidence: FaceEvidence, age: int) -> list[str]:
    data = texts("evidence")["age"]
    side = data["old"] if age >= 45 else data["young"] if age < 40 else {}
    return [words for name, words in side.items() if (evidence.attributes or {}).get(name)]


def _deepfake(evidence: FaceEvidence, rng: random.Random) -> tuple[str, list[str]]:
    assert evidence.authenticity is not None
    data = texts("evidence")["deepfake"]
    head = tasks.get("deepfake").head(evidence.authenticity)
    if evidence.authenticity == "real":
        reason = rng.choice(data["real"]) + "."
        parts = rng.sample(data["real_parts"], rng.randint(2, 3))
        second = upper_first(f"{join_items(parts)} {rng.choice(data['real_looks'])}.")
    else:
        kind = data["why"][evidence.manipulation or "any"]
        why = f"{rng.choice(kind['what'])} {rng.choice(kind['how'])}"
        reason, second = rng.choice(data["fake"]).format(why=why), ""
    more = rng.choice(data["more"]) if rng.random() < 0.5 else ""
    return head, [reason, second, more]


_ANSWERS = {
    "expression": _expression,
    "action_units": _action_units,
    "attributes": _attributes,
    "age": _age,
    "deepfake": _deepfake,
}
