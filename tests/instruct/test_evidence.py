"""The grounded annotator: answers follow from the evidence, read back to it, and stay short, varied and careful."""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest

from facellava import tasks
from facellava.instruct import FaceEvidence, checklist, conversation, measures_from_blendshapes, task_turn
from facellava.instruct.evidence import FORBIDDEN, MEASURES
from facellava.instruct.facts import Facts, texts

UNITS, ATTRIBUTES = tasks.get("action_units"), tasks.get("attributes")
NOTHING = FaceEvidence(None, None, None, None, None, {})


def random_evidence(rng: random.Random) -> FaceEvidence:
    """Evidence with every task known for some labels, and contradictions between its sources."""
    units = rng.sample(UNITS.names, rng.randint(5, len(UNITS.names)))
    attributes = rng.sample(ATTRIBUTES.names, rng.randint(3, len(ATTRIBUTES.names)))
    return FaceEvidence(
        expression=rng.choice(tasks.get("expression").names),
        action_units={unit: rng.random() < 0.25 for unit in units},
        attributes={name: rng.random() < 0.25 for name in attributes},
        age=rng.randint(1, 95),
        authenticity=rng.choice(["real", "fake"]),
        measures={name: rng.random() for name in MEASURES},
        manipulation=rng.choice([None, "self_blend", "swap", "warp", "generated"]),
    )


def expected(evidence: FaceEvidence, name: str) -> object:
    return {
        "expression": evidence.expression,
        "action_units": UNITS.sort(u for u, on in (evidence.action_units or {}).items() if on),
        "attributes": tuple(n for n in ATTRIBUTES.default_names if (evidence.attributes or {}).get(n)),
        "age": evidence.age,
        "deepfake": evidence.authenticity,
    }[name]


def many_turns(count: int, seed: int = 0) -> list:
    rng = random.Random(seed)
    return [turn for _ in range(count) for turn in conversation(random_evidence(rng), rng)]


def test_task_answers_read_back_to_the_evidence() -> None:
    rng = random.Random(1)
    for _ in range(500):
        evidence = random_evidence(rng)
        for name, task in tasks.all_tasks().items():
            turn = task_turn(evidence, name, rng)
            assert getattr(task.parse(turn.answer), task.field) == expected(evidence, name), turn.answer


def test_answers_are_careful_and_short() -> None:
    for turn in many_turns(400):
        assert not FORBIDDEN.search(turn.answer), turn
        assert "Attractive" not in turn.answer
        assert len(turn.answer.split()) <= 60, turn
        assert not re.search(r"\{|\}", turn.answer) or turn.task in ("format", "follow"), turn
        assert not re.search(r"  |\.\.|,,| ,| \.", turn.answer), turn
        assert not re.search(r"\{\w", turn.question), "a place that was not filled"


def test_sentences_begin_with_a_capital_and_end_with_a_stop() -> None:
    for turn in many_turns(200, seed=2):
        if turn.task in tasks.all_tasks() or turn.task in ("free", "refusal"):
            assert turn.answer[0].isupper() or turn.answer[0].isdigit(), turn
            assert turn.answer.endswith("."), turn
            assert not re.search(r"\. [a-z]", turn.answer), turn


def test_expression_answers_are_varied() -> None:
    rng = random.Random(3)
    answers = [task_turn(random_evidence(rng), "expression", rng).answer for _ in range(1000)]
    assert 1 - len(set(answers)) / len(answers) <= 0.05
    assert len({answer.split(". ", 1)[1] for answer in answers}) >= 500


@pytest.mark.parametrize("label", tasks.get("expression").names)
def test_every_expression_has_many_forms(label: str) -> None:
    rng = random.Random(4)
    evidence = replace(random_evidence(rng), expression=label)
    forms = {task_turn(evidence, "expression", rng).answer for _ in range(100)}
    assert len(forms) >= 12


def test_turns_are_reproducible_and_bounded() -> None:
    evidence = random_evidence(random.Random(5))
    first, second = (conversation(evidence, random.Random(6)) for _ in range(2))
    assert first == second
    for limit in range(1, 8):
        assert 1 <= len(conversation(evidence, random.Random(limit), max_turns=limit)) <= limit


def test_the_five_tasks_appear_most() -> None:
    counts: dict[str, int] = {}
    for turn in many_turns(300, seed=7):
        counts[turn.task] = counts.get(turn.task, 0) + 1
    for name in tasks.all_tasks():
        assert 0.55 * 300 < counts[name] < 0.75 * 300
    assert {"free", "format", "refusal", "checklist_action_units", "checklist_attributes"} <= set(counts)


def test_unknown_evidence_is_neither_asked_nor_mentioned() -> None:
    rng = random.Random(8)
    only_age = replace(NOTHING, age=40)
    for _ in range(100):
        for turn in conversation(only_age, rng):
            assert turn.task in ("age", "free", "format", "refusal", "follow")
            assert "expression is" not in turn.answer
    assert all(turn.task in ("free", "refusal") for _ in range(50) for turn in conversation(NOTHING, rng))


def test_unknown_attributes_are_never_mentioned() -> None:
    rng = random.Random(9)
    evidence = replace(NOTHING, attributes={"Smiling": True, "Eyeglasses": True}, expression="happiness", age=50)
    for _ in range(100):
        for turn in conversation(evidence, rng):
            if turn.task not in ("refusal", "format", "follow"):
                found = ATTRIBUTES.parse(turn.answer).present or ()
                assert set(found) <= {"Smiling", "Eyeglasses", "Male"} - {"Male"}, turn


def test_checklist_is_closed_balanced_and_true() -> None:
    rng = random.Random(10)
    for name in ("action_units", "attributes"):
        task = tasks.get(name)
        for _ in range(100):
            evidence = random_evidence(rng)
            known = dict(getattr(evidence, name))
            turn = checklist(evidence, name, rng)
            assert turn.question == task.closed.question
            lines = turn.answer.splitlines()
            assert len(set(lines)) == len(lines) <= 8
            assert len(lines) >= min(3, len(known) - ("Attractive" in known))
            for line in lines:
                label, word = line.split(":")
                assert word == (task.closed.yes if known[label] else task.closed.no)
            yes = sum(line.endswith("yes") for line in lines)
            on = sum(value for key, value in known.items() if key != "Attractive")
            assert yes >= min(on, len(lines) // 2)


def test_formats_are_obeyed() -> None:
    seen = set()
    for turn in many_turns(600, seed=11):
        if turn.task != "format":
            continue
        if "JSON" in turn.question or "{" in turn.question:
            seen.add("json")
            assert isinstance(json.loads(turn.answer), dict)
        elif re.search(r"\bword\b|[Jj]ust say", turn.question):
            seen.add("word")
            assert len(turn.answer.split()) == 1
        elif re.search(r"yes or no|yes/no|or not\?", turn.question.lower()):
            seen.add("yes/no")
            assert turn.answer in ("Yes.", "No.")
        elif re.search(r"AU|[Cc]ode", turn.question):
            seen.add("codes")
            assert re.fullmatch(r"AU\d+(, AU\d+)*|None\.", turn.answer), turn
        else:
            seen.add("age")
            assert turn.answer.isdigit()
    assert seen == {"json", "word", "yes/no", "codes", "age"}


def test_second_questions_mean_something_after_the_first_only() -> None:
    rng, seen = random.Random(12), set()
    for _ in range(800):
        evidence = random_evidence(rng)
        turns = conversation(evidence, rng)
        for before, turn in itertools.pairwise(turns):
            if turn.task != "follow":
                continue
            seen.add((before.task, turn.answer[0] == "{"))
            if turn.answer[0] == "{":
                key = {"deepfake": "authenticity"}.get(before.task, before.task)
                assert list(json.loads(turn.answer)) == [key]
                stated = json.loads(turn.answer)[key]
                parsed = getattr(tasks.get(before.task).parse(before.answer), tasks.get(before.task).field)
                assert stated == (list(parsed) if isinstance(parsed, tuple) else parsed), (before, turn)
            if match := re.search(r"\d+\?", turn.question):
                limit = int(match[0][:-1])
                assert turn.answer.startswith("Yes" if evidence.age > limit else "No"), turn
        assert turns[0].task != "follow"
    assert {task for task, _ in seen} == {"expression", "action_units", "age", "deepfake"}
    assert {as_json for _, as_json in seen} == {True, False}


def test_yes_no_answers_follow_the_evidence() -> None:
    rng = random.Random(12)
    smiling = replace(NOTHING, action_units={"AU12": True}, measures={"smile": 0.9})
    level = replace(NOTHING, action_units={"AU12": False}, measures={"smile": 0.0})
    for evidence, word in ((smiling, "Yes"), (level, "No")):
        turns = [turn for _ in range(150) for turn in conversation(evidence, rng)]
        asked = [turn for turn in turns if re.search(r"\bsmil(?:e|ing)\b", turn.question) and turn.task != "refusal"]
        assert asked
        assert all(turn.answer.startswith(word) for turn in asked)


def test_contradicting_sources_silence_a_fact() -> None:
    agreed = replace(NOTHING, action_units={"AU12": True}, measures={"smile": 0.9})
    assert Facts(agreed).status["smile"] is True
    assert Facts(replace(agreed, measures={"smile": 0.0})).status["smile"] is None
    assert Facts(replace(agreed, measures={})).status["smile"] is True
    assert Facts(NOTHING).status["smile"] is None


def test_descriptions_are_quoted_only_when_careful() -> None:
    rng = random.Random(13)
    plain = replace(NOTHING, expression="neutral", description="A level mouth sits below steady eyes.")
    bad = replace(plain, description="She feels calm and looks beautiful.")
    said = [task_turn(plain, "expression", rng).answer for _ in range(60)]
    assert any(str(plain.description) in answer for answer in said)
    assert not any(str(bad.description) in task_turn(bad, "expression", rng).answer for _ in range(60))


def test_refusals_name_nobody_and_judge_nobody() -> None:
    refusals = [turn for turn in many_turns(600, seed=14) if turn.task == "refusal"]
    assert len(refusals) > 20
    for turn in refusals:
        assert re.search(
            r"cannot|do not|does not|leave|not visible|not an inner state|not something|face alone|only describe"
            r"|only write",
            turn.answer,
        ), turn


def test_measures_from_blendshapes() -> None:
    names = sorted({name for used in MEASURES.values() for name in used})
    names += [f"other{i}" for i in range(52 - len(names))]
    values = np.zeros(52, np.float32)
    values[names.index("mouthSmileLeft")] = 0.8
    values[names.index("mouthSmileRight")] = 0.4
    values[names.index("browOuterUpLeft")] = 1.0
    values[names.index("browInnerUp")] = 0.2
    values[names.index("jawOpen")] = 0.3
    measures = measures_from_blendshapes(values, names)
    assert set(measures) == set(MEASURES)
    assert measures["smile"] == pytest.approx(0.6)
    assert measures["brow_raise"] == pytest.approx(0.5)
    assert measures["mouth_open"] == pytest.approx(0.3)
    assert measures["eye_closed"] == 0
    with pytest.raises(KeyError):
        measures_from_blendshapes(values, [f"other{i}" for i in range(52)])


def test_every_unit_and_fact_is_known_to_the_tasks() -> None:
    facts = texts("evidence")["facts"]
    for fact in facts.values():
        assert set(fact["units"]) <= set(UNITS.names)
        assert fact["yes"]
    support = {name for data in texts("evidence")["expression"].values() for name in data["support"]}
    assert support <= set(facts)
    assert set(texts("evidence")["expression"]) == set(tasks.get("expression").names)
    assert {unit for fact in facts.values() for unit in fact["units"]} == set(UNITS.names)
    assert set(texts("questions")["yes_no"]) - {"eyes_open"} <= set(facts)
    assert set(texts("questions")["yes_no_attributes"]) <= set(ATTRIBUTES.names)


def test_shared_descriptions_give_careful_answers(shared_dir) -> None:
    rng = random.Random(15)
    rows = (shared_dir / "faces" / "annotations.jsonl").read_text(encoding="utf-8").splitlines()
    for line in rng.sample(rows, 100):
        row = json.loads(line)
        evidence = FaceEvidence(
            None if row["expression"] == "unclear" else row["expression"],
            {unit: unit in row["action_units"] for unit in UNITS.names[:10]},
            {name: name in row["attributes"] for name in ATTRIBUTES.default_names},
            row["age_estimate"],
            None,
            {},
            row["descriptions"][0],
        )
        for turn in conversation(evidence, rng):
            assert not FORBIDDEN.search(turn.answer), turn
            assert len(turn.answer.split()) <= 60
