"""Questions for yes or no: the answer follows from what is known, and both answers occur."""

import json
import random
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from facellava import tasks
from facellava.instruct.evidence import FaceEvidence, conversation
from facellava.instruct.facts import texts
from facellava.instruct.free import course_turn, declined_turn, free_turn
from facellava.instruct.open_faces import NOISY_ATTRIBUTES, NOT_ASKED
from facellava.instruct.polar import polar_turn

UNITS = {"AU4": False, "AU12": True, "AU25": True}
ATTRIBUTES = {"Wearing_Hat": False, "Gray_Hair": True, "Male": True, "No_Beard": True, "Wearing_Necklace": False}
FACE = FaceEvidence("happiness", UNITS, ATTRIBUTES, 52, "real", {})


def turns(evidence: FaceEvidence, *, holds: bool | None = None, count: int = 400) -> list:
    rng = random.Random(3)
    found = [polar_turn(evidence, rng, "image", holds=holds) for _ in range(count)]
    return [turn for turn in found if turn is not None]


@pytest.mark.parametrize("holds", [True, False])
def test_the_answer_that_was_wanted_is_given(holds: bool) -> None:
    asked = turns(FACE, holds=holds)
    assert len(asked) == 400
    assert all(re.match(r"Yes\b" if holds else r"No\b", turn.answer) for turn in asked)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (r"\bhat\b", "No"),
        (r"gr[ae]y hair", "Yes"),
        (r"necklace", "No"),
        (r"AU4\b", "No"),
        (r"AU12\b", "Yes"),
        (r"\bsmil", "Yes"),
        (r"happiness", "Yes"),
        (r"\bfear\b", "No"),
        (r"older than (?:15|45)|over (?:15|45)\b", "Yes"),
        (r"older than (?:60|75)|over (?:60|75)\b", "No"),
        (r"younger than (?:60|75)|under (?:60|75)\b", "Yes"),
        (r"manipulated|a fake", "No"),
        (r"genuine|real", "Yes"),
        (r"clean-shaven|free of a beard", "Yes"),
    ],
)
def test_answers_follow_from_the_evidence(question: str, answer: str) -> None:
    asked = [turn for turn in turns(FACE, count=1500) if re.search(question, turn.question)]
    assert asked
    assert {turn.answer[: len(answer)] for turn in asked} == {answer}


def test_what_is_unknown_is_not_asked_about() -> None:
    nothing = FaceEvidence(None, None, None, None, None, {})
    assert not turns(nothing)
    only_age = turns(replace(nothing, age=30))
    assert only_age
    assert all(re.search(r"\d\d", turn.question) for turn in only_age)
    assert all(abs(int(re.findall(r"\d\d", turn.question)[0]) - 30) >= 6 for turn in only_age)


def test_a_bare_word_is_given_where_it_was_asked_for() -> None:
    for turn in turns(FACE):
        assert (turn.task == "format") == (turn.answer in ("Yes.", "No."))
        assert "{" not in turn.question + turn.answer


def test_conversations_hold_yes_and_no_equally_often() -> None:
    rng = random.Random(4)
    words = [t.answer.split(",")[0].strip(".") for _ in range(300) for t in conversation(FACE, rng)]
    yes, no = words.count("Yes"), words.count("No")
    assert min(yes, no) > 200
    assert abs(yes - no) < 0.15 * (yes + no)


def test_the_questions_of_the_benchmark_are_not_taught() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "language.toml"
    benchmark = tomllib.loads(path.read_text(encoding="utf-8"))
    held_out = {row["ask"] for row in benchmark["question"] + benchmark["truth"]}
    held_out |= {row[turn] for row in benchmark["second_turn"] for turn in ("first", "second")}
    held_out |= {row["ask"] for row in benchmark["answer"]}
    held_out |= {*benchmark["course"]["ask"], *benchmark["course"]["changes"]}
    held_out |= {ask for asks in benchmark["decline"].values() for ask in asks}
    rng = random.Random(5)
    known = {name: name in UNITS for name in tasks.get("action_units").names}
    having = replace(FACE, action_units=known, attributes=dict.fromkeys(tasks.get("attributes").names, True))
    having = replace(having, course=("neutral", "happiness"))
    asked = {turn.question for _ in range(3000) for turn in conversation(having, rng)}
    assert not asked & held_out


def test_what_no_face_answers_is_declined_in_every_kind_of_question() -> None:
    rng, kinds, answers = random.Random(7), set(), set()
    forms = texts("questions")["refuse"]
    for _ in range(600):
        turn = declined_turn(FACE, rng, "photo")
        assert turn.task == "refusal" and not re.search(r"[{}]", turn.question + turn.answer)
        assert not re.match(r"(?:yes|no)\b", turn.answer, re.IGNORECASE), turn
        kinds |= {kind for kind, form in forms.items() for adj in form.get("adj", ()) if f" {adj}" in turn.question}
        answers.add(turn.answer)
    assert kinds == {"feeling", "character", "health", "origin"}
    assert len(answers) > 25


def test_features_that_no_label_is_trained_for_are_declined_like_other_unseen_things() -> None:
    unseen, task = set(texts("questions")["refuse"]["unseen"]["thing"]), tasks.get("attributes")
    untrained = NOISY_ATTRIBUTES | NOT_ASKED
    no_things = {"Attractive", "Blurry", "Big_Lips"}  # looks; the picture; "full lips" below
    assert {task.label(name).text for name in untrained - no_things} <= unseen and "full lips" in unseen
    assert not unseen & {task.label(name).text for name in task.names if name not in untrained}


def test_a_unit_is_explained() -> None:
    rng = random.Random(9)
    drawn = (free_turn(FACE, rng, "image") for _ in range(3000))
    answers = {turn.answer for turn in drawn if turn and re.search(r"AU\d+", turn.question) and turn.task == "free"}
    names = {"AU4": "brow lowerer", "AU12": "lip corner puller", "AU25": "lips part"}
    forms = ("{} stands for {}.", "{} means {}.", "{} is the code for {}.")
    assert answers == {form.format(*pair) for pair in names.items() for form in forms}


def test_hair_of_a_man_is_his() -> None:
    rng = random.Random(12)
    face = replace(FACE, attributes={"Male": True, "Black_Hair": True})
    asked = {turn.question for _ in range(2000) if (turn := free_turn(face, rng, "image"))}
    assert {"And his hair?", "And the person's hair?"} <= asked and not any(" her " in question for question in asked)


def about_the_course(*course: str) -> list:
    rng = random.Random(11)
    turns = [course_turn(replace(FACE, course=course), rng, "video") for _ in range(300)]
    assert not any("{" in turn.question + turn.answer for turn in turns)
    return turns


def test_a_still_has_no_course() -> None:
    assert all(re.search(r"single picture|one picture|One picture", turn.answer) for turn in about_the_course())


def test_an_expression_that_stays_is_the_first_and_the_last() -> None:
    polar = texts("questions")["course"]["polar"]["ask"]
    for turn in about_the_course("fear"):
        assert re.findall(r"neutral|anger|sadness|fear", turn.answer) == ["fear"]
        assert turn.answer.startswith("No") == (turn.question in polar)


def test_the_course_of_a_clip_is_told_in_order() -> None:
    whole, forms = ["neutral", "anger", "sadness"], texts("questions")["course"]
    asked = {kind: {ask.format(media="video") for ask in forms[kind]["ask"]} for kind in ("first", "last", "polar")}
    for turn in about_the_course(*whole):
        said = re.findall(r"neutral|anger|sadness", turn.answer)
        ends = {"first": whole[:1], "last": whole[-1:]}
        kind = next((kind for kind, questions in asked.items() if turn.question in questions), "whole")
        assert said == ends.get(kind, whole) and turn.answer.startswith("Yes") == (kind == "polar")


def test_everything_as_json_is_the_report() -> None:
    rng = random.Random(10)
    drawn = (free_turn(FACE, rng, "image") for _ in range(3000))
    wholes = [json.loads(turn.answer) for turn in drawn if turn and turn.answer.startswith("{")]
    assert {
        "expression": "happiness",
        "age": 52,
        "authenticity": "real",
        "action_units": ["AU12", "AU25"],
        "attributes": ["Gray_Hair", "Male", "No_Beard"],
    } in wholes


def test_the_hair_is_described_by_what_is_known_of_it() -> None:
    def said(**attributes: bool) -> set[str]:
        evidence, rng = replace(FACE, attributes=attributes), random.Random(5)
        turns = (free_turn(evidence, rng, "image") for _ in range(500))
        hair = (t for t in turns if t is not None and re.search(r"\bhair\b", t.question))
        return {t.answer for t in hair if t.task == "free"}

    assert said(Gray_Hair=True, Wavy_Hair=True, Black_Hair=False)
    assert all("gray and wavy" in answer for answer in said(Gray_Hair=True, Wavy_Hair=True, Black_Hair=False))
    assert all(answer.endswith("A hat covers part of it.") for answer in said(Blond_Hair=True, Wearing_Hat=True))
    assert all("bald" in answer for answer in said(Bald=True, Gray_Hair=False))
    assert not said(Smiling=True), "nothing is known of the hair"
