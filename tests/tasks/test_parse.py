"""Reading typed predictions out of free text: hand-written answers, the paper's printed answers, and properties."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facellava import tasks
from facellava.errors import UsageError
from facellava.tasks.negation import strip_negations

ANSWERS = tomllib.loads((Path(__file__).parent / "answers.toml").read_text(encoding="utf-8"))
CASES = [(name, case) for name, cases in ANSWERS.items() for case in cases]


def _wanted(task: tasks.Task, case: dict) -> object:
    """The expected field; a missing key or an empty label means that nothing is found."""
    value = case.get(task.field)
    return tuple(value) if isinstance(value, list) else (None if value == "" else value)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{c['text'][:40]}" for n, c in CASES])
def test_hand_written_answer(name: str, case: dict) -> None:
    task = tasks.get(name)
    parsed = task.parse(case["text"])
    assert getattr(parsed, task.field) == _wanted(task, case)
    assert bool(parsed.evidence) == (_wanted(task, case) is not None)


def test_there_are_enough_answers() -> None:
    assert len(CASES) >= 60
    assert {case["paper"] for _, case in CASES if "paper" in case} >= {"Fig. 12", "Fig. 14", "Fig. 15", "Fig. 16"}
    assert {case["paper"] for _, case in CASES if "paper" in case} >= {"Fig. 23", "Fig. 24", "Fig. 25", "Fig. 27"}


_FRAGMENTS = st.sampled_from(
    [
        *("not", "no sign of", "without", "but", "is not visible", "rather than", "no", "yes", "and", ",", ".", "\n"),
        *("AU12", "AU4:", "45", "forties", "between", "mid-", "%"),
        *("happy", "sadness", "real", "fake", "beard", "glasses"),
    ]
)
_TEXTS = st.one_of(st.text(max_size=200), st.lists(_FRAGMENTS, max_size=30).map(" ".join))


@pytest.mark.parametrize("name", list(tasks.all_tasks()))
@given(text=_TEXTS)
@settings(max_examples=150, deadline=None)
def test_any_text_gives_canonical_labels_or_nothing(name: str, text: str) -> None:
    task = tasks.get(name)
    parsed = task.parse(text)
    for field in {"label", "active", "present", "years"} - {task.field}:
        assert getattr(parsed, field) is None
    value = getattr(parsed, task.field)
    if task.kind == "single":
        assert value is None or value in task.names
    elif task.kind == "multi":
        assert value is None or value == task.sort(value)
    else:
        assert task.number is not None
        assert value is None or task.number.minimum <= value <= task.number.maximum


@given(text=_TEXTS)
@settings(max_examples=150, deadline=None)
def test_stripping_loses_no_word(text: str) -> None:
    for sentence in strip_negations(text):
        whole = sentence.original.lower().replace("’", "'").replace("‘", "'")
        parts = sentence.affirmed + sentence.denied
        assert sorted("".join(parts.split())) == sorted("".join(whole.split()))


@given(labels=st.sets(st.sampled_from(tasks.get("action_units").names)))
def test_every_list_of_units_reads_back(labels: set[str]) -> None:
    task = tasks.get("action_units")
    assert task.parse(task.head(tuple(labels))).active == task.sort(labels)


@given(labels=st.sets(st.sampled_from(tasks.get("attributes").names)))
def test_every_list_of_attributes_reads_back(labels: set[str]) -> None:
    task = tasks.get("attributes")
    assert task.parse(task.head(tuple(labels))).present == task.sort(labels)


@pytest.mark.parametrize("name", ["expression", "deepfake"])
def test_names_and_synonyms_read_back(name: str) -> None:
    task = tasks.get(name)
    for label in task.labels:
        for words in (label.name, *label.synonyms):
            assert task.parse(f"It looks {words}.").label == label.name, words


def test_attribute_synonyms_read_back() -> None:
    task = tasks.get("attributes")
    for label in task.labels:
        for words in label.synonyms:
            assert label.name in (task.parse(f"One can see {words}.").present or ()), words


def test_unit_names_and_synonyms_read_back() -> None:
    task = tasks.get("action_units")
    for label in task.labels:
        for words in (label.text, *label.synonyms):
            assert label.name in (task.parse(f"One can see {words}.").active or ()), words


@pytest.mark.parametrize("years", range(117))
def test_every_age_reads_back(years: int) -> None:
    task = tasks.get("age")
    assert task.parse(task.head(years) + ", give or take five. This is an estimate.").years == years


def test_parse_lines_adds_the_field() -> None:
    lines = ['{"id": 7, "text": "41 years old."}', "", '{"text": "a tree"}', '{"text": "between 40 and 45"}']
    rows = list(tasks.parse_lines(tasks.get("age"), lines))
    assert rows == [
        {"id": 7, "text": "41 years old.", "years": 41},
        {"text": "a tree", "years": None},
        {"text": "between 40 and 45", "years": 42.5},
    ]
    assert json.dumps(rows[0]["years"]) == "41"


def test_parse_lines_gives_lists_and_labels() -> None:
    line = json.dumps({"text": "AU12 is active. A happy, smiling man."})
    assert next(tasks.parse_lines(tasks.get("action_units"), [line]))["active"] == ["AU12"]
    assert next(tasks.parse_lines(tasks.get("attributes"), [line]))["present"] == ["Male", "Smiling"]
    assert next(tasks.parse_lines(tasks.get("expression"), [line]))["label"] == "happiness"


@pytest.mark.parametrize("bad", ["{", "[1]", '{"text": 3}', '{"other": "x"}', "null"])
def test_a_bad_line_is_named(bad: str) -> None:
    with pytest.raises(UsageError, match="line 2 "):
        list(tasks.parse_lines(tasks.get("age"), ['{"text": "41"}', bad]))
