"""The task folders: canonical labels, complete texts, and templates that the runtime can rely on."""

from __future__ import annotations

import random
import re

import pytest

from facellava import tasks
from facellava.errors import UsageError

FORBIDDEN = re.compile(r"\b(?:feel|feels|feeling|proof|prove|proves|identity|attractive|beautiful|handsome)\b", re.I)
ALL = list(tasks.all_tasks().values())


def test_canonical_order() -> None:
    assert list(tasks.all_tasks()) == ["expression", "action_units", "attributes", "age", "deepfake"]


def test_expression_and_deepfake_labels() -> None:
    seven = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert tasks.get("expression").names == seven
    assert tasks.get("deepfake").names == ("real", "fake")


def test_action_units_and_benchmark_lists() -> None:
    task = tasks.get("action_units")
    numbers = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 18, 20, 23, 24, 25, 26, 27, 28, 43]
    assert task.names == tuple(f"AU{n}" for n in numbers)
    assert task.subset("disfa") == tuple(f"AU{n}" for n in (1, 2, 4, 6, 9, 12, 25, 26))
    assert task.subset("bp4d") == tuple(f"AU{n}" for n in (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24))
    assert task.label("AU12").text == "lip corner puller"


def test_attributes_are_celebas_forty_in_order() -> None:
    names = tasks.get("attributes").names
    assert len(names) == 40
    assert names[:4] == ("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes")
    assert names[-2:] == ("Wearing_Necktie", "Young")
    assert list(names) == sorted(names)
    assert "Attractive" not in tasks.get("attributes").default_names
    assert len(tasks.get("attributes").default_names) == 39


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
class TestEveryTask:
    def test_questions(self, task: tasks.Task) -> None:
        assert len(task.questions) >= 100
        assert len(set(task.questions)) == len(task.questions)
        for question in task.questions:
            assert not FORBIDDEN.search(question), question
            assert re.findall(r"\{.*?\}", question) in ([], ["{media}"], ["{media}"] * 2)
            assert not re.search(r"\b(?:image|video|photo)\b(?! editing)", question), question

    def test_labels(self, task: tasks.Task) -> None:
        assert len(set(task.names)) == len(task.names)
        for label in task.labels:
            assert label.text
            assert label.regions
            assert set(label.regions) <= set(tasks.REGIONS)
            assert all(words == words.lower() for words in label.synonyms)
            assert len(label.synonyms) >= (6 if task.kind == "single" else 1)

    def test_synonyms_are_mutually_exclusive(self, task: tasks.Task) -> None:
        if task.kind == "single":
            words = [word for label in task.labels for word in (label.name, *label.synonyms)]
            assert len(set(words)) == len(words)

    def test_scoring_template_matches_the_answer(self, task: tasks.Task) -> None:
        for value in task.names if task.kind == "single" else (range(1, 100) if task.kind == "number" else ()):
            head = task.head(value)
            assert head.startswith(task.closed.prefix + task.candidate(value))
        if task.kind == "multi":
            assert task.item(task.names[0]) == f"{task.names[0]}:"
            assert (task.closed.yes, task.closed.no) == (" yes", " no")

    def test_closed_question_is_free_of_placeholders(self, task: tasks.Task) -> None:
        assert "{" not in task.closed_question("video")

    def test_asking_is_reproducible(self, task: tasks.Task) -> None:
        asked = [task.ask(random.Random(3), "video") for _ in range(2)]
        assert asked[0] == asked[1]
        assert "{media}" not in asked[0]

    def test_canonical_question_is_one_of_the_questions(self, task: tasks.Task) -> None:
        if task.kind != "multi":
            assert task.closed.question in task.questions


def test_heads_of_multi_tasks() -> None:
    units, attributes = tasks.get("action_units"), tasks.get("attributes")
    assert units.head([]) == "No action unit is clearly active."
    assert units.head(["AU12"]) == "AU12 (lip corner puller) is active."
    assert units.head(["AU12", "AU6"]) == "AU6 (cheek raiser) and AU12 (lip corner puller) are active."
    assert attributes.head(["Smiling", "Male"]) == "The face shows: Male, Smiling."


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(UsageError, match="expression, action_units, attributes, age, deepfake"):
        tasks.get("emotion")
    with pytest.raises(UsageError, match="AU12"):
        tasks.get("action_units").label("AU99")
    with pytest.raises(UsageError, match="disfa, bp4d"):
        tasks.get("action_units").subset("emotionet")
