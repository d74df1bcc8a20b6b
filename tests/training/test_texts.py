"""Conversations to ids, labels and weights."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("transformers")

from model_helpers import byte_tokenizer, tiny_config

from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import IGNORED
from facellava.training.recipe import StageConfig
from facellava.training.talks import Talk
from facellava.training.texts import TextEncoder, checklists, label_weights, polar_weights


def talk(*turns: tuple[str, str], **labels: object) -> Talk:
    return Talk("a", "x", "train", None, "mixed", turns, labels, 1, "", 0.0, 0, 0)


def encoder(**stage: object) -> TextEncoder:
    processor = FaceLlavaProcessor(byte_tokenizer(), tiny_config())
    return TextEncoder(processor, StageConfig("x", ("frlp",), 1.0, **stage))  # type: ignore[arg-type]


def test_only_answers_are_learned_in_every_turn() -> None:
    encode = encoder()
    found = encode(talk(("Happy?", "Yes."), ("Why?", "The lips.")), 1)
    learned = [i for i, label in zip(found.ids, found.labels, strict=True) if label != IGNORED]
    tokenizer = encode.processor.tokenizer
    assert tokenizer.decode(learned) == "Yes.<|im_end|>\nThe lips.<|im_end|>\n"
    assert all(label in (IGNORED, i) for i, label in zip(found.ids, found.labels, strict=True))
    assert found.ids.count(encode.processor.config.image_token_id) == 9, "one face for all turns"
    assert [w > 0 for w in found.weights] == [label != IGNORED for label in found.labels]


def test_the_first_tokens_of_every_answer_weigh_more() -> None:
    labels = [IGNORED, *range(10), IGNORED, 5]
    assert label_weights(labels, 8, 2.0) == [0, *[2] * 8, 1, 1, 0, 2]
    assert label_weights(labels) == [0, *[1] * 10, 0, 1]


def test_verdicts_of_a_checklist_weigh_most() -> None:
    yes, no = 90, 91
    checklist = [5, yes, 6, no, 7, yes]
    assert label_weights([IGNORED, *checklist], 8, 2.0, frozenset({yes, no})) == [0, 0.1, 3, 0.1, 3, 0.1, 3]
    assert label_weights([IGNORED, 5, yes, 6], 8, 2.0, frozenset({yes, no})) == [0, 2, 2, 2]


def test_the_word_that_decides_a_yes_or_no_weighs_what_the_stage_says() -> None:
    yes, no = 90, 91
    labels = [IGNORED, yes, 5, yes, IGNORED, 7, no, IGNORED, no]
    weights = label_weights(labels, 8, 2.0)
    assert polar_weights(labels, weights, frozenset({yes, no}), 6.0) == [0, 6, 2, 2, 0, 2, 2, 0, 6]


def test_a_stage_weighs_yes_and_no() -> None:
    found = encoder(polar_weight=6.0)(talk(("Happy?", "Yes."), ("Why?", "The lips."), ("Sad?", "No.")), 1)
    assert sorted(found.weights)[-2:] == [6.0, 6.0]
    assert found.weights.count(6.0) == 2


def test_checklists_hold_known_labels_only() -> None:
    labels = {"AU12": True, "AU4": False, "Smiling": True, "expression": "fear", "age": 40}
    turns = checklists(labels, random.Random(0))
    by_question = {question: sorted(answer.split("\n")) for question, answer in turns}
    assert by_question == {
        "Answer yes or no for each action unit.": ["AU12: yes", "AU4: no"],
        "Answer yes or no for each attribute.": ["Smiling: yes"],
    }


def test_checklists_are_the_same_every_time() -> None:
    found = talk(*((f"q{n}", f"a{n}") for n in range(6)), AU12=True, AU4=False, Smiling=True)
    encode = encoder(checklists=True)
    assert encode(found, 1) == encode(found, 1)
    assert "q5" not in encode.processor.tokenizer.decode(encode(found, 1).ids)
