"""The parser on a corpus of hand-labelled answers of many styles, its forms of denial, its outcomes and word lists."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facellava import tasks

CORPUS = tomllib.loads((Path(__file__).parent / "corpus.toml").read_text(encoding="utf-8"))
EXPRESSION = tasks.get("expression")
GOAL = 0.97


def _right(name: str, entry: dict) -> bool:
    task = tasks.get(name)
    wanted = entry.get(task.field)
    return getattr(task.parse(entry["text"]), task.field) == (task.sort(wanted) if isinstance(wanted, list) else wanted)


def _accuracy(entries: list[tuple[str, dict]]) -> float:
    return sum(_right(name, entry) for name, entry in entries) / len(entries)


def _entries(part: str = "") -> list[tuple[str, dict]]:
    return [(name, e) for name, entries in CORPUS.items() for e in entries if part in ("", e["part"])]


def test_the_corpus_is_large_varied_and_split() -> None:
    assert set(CORPUS) == set(tasks.all_tasks())
    assert all(len(entries) >= 60 for entries in CORPUS.values())
    assert len(_entries()) >= 320
    for name, entries in CORPUS.items():
        parts = Counter(entry["part"] for entry in entries)
        assert set(parts) == {"dev", "test"}
        assert abs(parts["dev"] - parts["test"]) <= 1
        assert len({entry["style"] for entry in entries}) >= 10
        assert len({entry["text"] for entry in entries}) == len(entries), name


@pytest.mark.parametrize("name", list(CORPUS))
def test_accuracy_of_a_task(name: str) -> None:
    entries = [(name, entry) for entry in CORPUS[name]]
    assert _accuracy(entries) >= GOAL, [entry["text"] for _, entry in entries if not _right(name, entry)]


@pytest.mark.parametrize("part", ["", "dev", "test"])
def test_accuracy_over_all_tasks(part: str) -> None:
    assert _accuracy(_entries(part)) >= GOAL


# What denies {x}; the rest of the sentence states {y} where it is there.
DENIALS = [
    "no sign of {x}; {y}",
    "There is no {x}, but there is {y}.",
    "{y} without {x}",
    "{y} rather than {x}",
    "{y} instead of {x}",
    "Rather than {x}, the face shows {y}.",
    "Instead of {x}, the face shows {y}.",
    "In place of {x}, the face shows {y}.",
    "Unlike {x}, this is {y}.",
    "As opposed to {x}, this is {y}.",
    "The face lacks {x} and shows {y}.",
    "It isn't {x}. It is {y}.",
    "It isn’t {x}, it is {y}.",
    "It isnt {x}, it is {y}.",
    "I don't see {x}. I see {y}.",
    "I do not see {x}, I see {y}.",
    "Neither {x} nor anything like it is there; {y} is.",
    "Far from {x}, this is {y}.",
    "It is anything but {x}: this is {y}.",
    "By no means {x}, this is {y}.",
    "In the absence of {x}, the face shows {y}.",
    "Free of {x}, the face shows {y}.",
    "Devoid of {x}, the face shows {y}.",
    "Bereft of {x}, the face shows {y}.",
    "This is hardly {x}: the face shows {y}.",
    "This is scarcely {x}; the face shows {y}.",
    "Not {x} but {y}.",
    "{y}, not {x}.",
    "More {y} than {x}.",
    "Closer to {y} than to {x}.",
    "Less {x} than {y}.",
    "Nothing suggests {x}; the face shows {y}.",
    "There is little evidence of {x}; the face shows {y}.",
    "The face fails to show {x}; it shows {y}.",
    "{x} is ruled out. {y} is there.",
    "{x} is not visible. {y} is visible.",
    "{x} is absent, {y} is present.",
    "{x} is missing, while {y} is present.",
    "{y} is present and {x} is absent.",
    "{y} is visible, but {x} is not.",
    "{y} is visible; {x} isn't.",
    "{x} cannot be seen, whereas {y} can be seen.",
    "{x} does not seem to be present. {y} does.",
    "{x}: no\n{y}: yes",
    "{x} - no\n{y} - yes",
    "{x} ❌\n{y} ✅",
    "{y}: 1, {x}: 0",
    "| {x} | absent |\n| {y} | present |",
    "{y} (yes), {x} (no)",
    "Absent: {x}\nPresent: {y}",
    "Not present:\n- {x}\n\nPresent:\n- {y}",
]


@pytest.mark.parametrize("form", DENIALS)
def test_what_a_form_denies_is_removed(form: str) -> None:
    assert EXPRESSION.parse(form.format(x="anger", y="sadness")).label == "sadness"
    assert tasks.get("action_units").parse(form.format(x="AU4", y="AU12")).active == ("AU12",)
    assert tasks.get("action_units").parse(form.format(x="a raised upper lip", y="a jaw drop")).active == ("AU26",)
    assert tasks.get("attributes").parse(form.format(x="a goatee", y="lipstick")).present == ("Wearing_Lipstick",)


@pytest.mark.parametrize("form", ["not only {x}", "no doubt {x}", "nothing but {x}", "without a doubt {x}"])
def test_what_only_looks_like_a_denial_is_kept(form: str) -> None:
    assert EXPRESSION.parse(f"I see {form.format(x='anger')}.").label == "anger"


@pytest.mark.parametrize(
    ("name", "text", "outcome"),
    [
        ("expression", "The face is sad and angry.", "tie"),
        ("expression", "fear or surprise", "tie"),
        ("expression", "The face is sad.", "found"),
        ("expression", "A wooden table.", "none"),
        ("expression", "Not happy.", "none"),
        ("deepfake", "Real or fake?", "tie"),
        ("deepfake", "This is not real.", "found"),
        ("deepfake", "", "none"),
        ("action_units", "No action unit is active.", "found"),
        ("action_units", "A street.", "none"),
        ("attributes", "No hat.", "found"),
        ("attributes", "The weather is fine.", "none"),
        ("age", "41 years", "found"),
        ("age", "An old oak.", "none"),
    ],
)
def test_a_tie_is_told_from_no_match(name: str, text: str, outcome: str) -> None:
    parsed = tasks.get(name).parse(text)
    assert parsed.outcome == outcome
    assert (getattr(parsed, tasks.get(name).field) is not None) == (outcome == "found")


def test_outcomes_of_the_corpus_are_counted() -> None:
    entries = CORPUS["expression"]
    counts = tasks.count_outcomes(EXPRESSION.parse(entry["text"]) for entry in entries)
    assert list(counts) == ["found", "none", "tie"]
    assert sum(counts.values()) == len(entries)
    assert counts["tie"] >= sum(entry["style"] == "tie" for entry in entries)


def test_the_command_keeps_its_keys() -> None:
    assert list(tasks.parse_lines(EXPRESSION, ['{"text": "sad and angry"}'])) == [
        {"text": "sad and angry", "label": None}
    ]


@pytest.mark.parametrize("name", ["expression", "attributes", "deepfake"])
def test_synonyms_are_many_and_mutually_exclusive(name: str) -> None:
    owner: dict[str, str] = {}
    for label in tasks.get(name).labels:
        own = {re.sub(r"[\s_-]+", " ", words.lower()) for words in label.synonyms}
        name_itself = re.sub(r"[\s_-]+", " ", label.name.lower())
        assert len(own - {name_itself}) >= 10, label.name
        for words in own | {name_itself}:
            assert owner.setdefault(words, label.name) == label.name, words


def test_unit_synonyms_are_mutually_exclusive() -> None:
    words = [(w, label.name) for label in tasks.get("action_units").labels for w in {label.text, *label.synonyms}]
    assert len({w for w, _ in words}) == len(words)


def test_patterns_match_their_own_label_only() -> None:
    units = tasks.get("action_units")
    for text, label in {
        "The inner corners of the eyebrows are slightly raised": "AU1",
        "The outer eyebrows are lifted": "AU2",
        "His brows are pulled together": "AU4",
        "The upper eyelids look raised": "AU5",
        "Both cheeks are clearly pushed up": "AU6",
        "The upper lip is drawn up": "AU10",
        "The corners of her mouth are turned upwards": "AU12",
        "The mouth corners are turned down": "AU15",
        "The lips are firmly pressed together": "AU24",
        "The lower jaw is slightly dropped": "AU26",
    }.items():
        assert units.parse(text).active == (label,), text


_LABELS = st.sampled_from(EXPRESSION.names)


@given(label=_LABELS, other=_LABELS, form=st.sampled_from(["There is no {}.", "It isn't {}.", "I see no sign of {}."]))
@settings(max_examples=100, deadline=None)
def test_a_denied_statement_at_the_end_changes_nothing(label: str, other: str, form: str) -> None:
    text = f"The face shows {label}. {form.format(other)}"
    assert EXPRESSION.parse(text).label == label


@given(entry=st.sampled_from(_entries()), denied=st.sampled_from(["goatee", "necktie", "hat"]))
@settings(max_examples=150, deadline=None)
def test_a_denied_attribute_at_the_end_adds_none(entry: tuple[str, dict], denied: str) -> None:
    task = tasks.get("attributes")
    before, after = task.parse(entry[1]["text"]), task.parse(f"{entry[1]['text']}\nThere is no {denied}.")
    assert (after.present or ()) == (before.present or ())


@given(entry=st.sampled_from(_entries()), before=st.text(" \n\t", max_size=4), after=st.text(" \n\t", max_size=4))
@settings(max_examples=150, deadline=None)
def test_white_space_around_an_answer_changes_nothing(entry: tuple[str, dict], before: str, after: str) -> None:
    name, case = entry
    assert tasks.get(name).parse(before + case["text"] + after)[:4] == tasks.get(name).parse(case["text"])[:4]


@given(entry=st.sampled_from([e for e in _entries() if "\n" not in e[1]["text"] and "*" not in e[1]["text"]]))
@settings(max_examples=150, deadline=None)
def test_bold_changes_nothing(entry: tuple[str, dict]) -> None:
    name, case = entry
    assert tasks.get(name).parse(f"**{case['text']}**")[:4] == tasks.get(name).parse(case["text"])[:4]


@given(labels=st.lists(_LABELS, min_size=2, max_size=2, unique=True))
def test_two_labels_of_equal_weight_are_a_tie(labels: list[str]) -> None:
    assert EXPRESSION.parse(f"It could be {labels[0]} or {labels[1]}.").outcome == "tie"


@given(text=st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_an_outcome_says_whether_there_is_a_value(text: str) -> None:
    for task in tasks.all_tasks().values():
        parsed = task.parse(text)
        assert (parsed.outcome == "found") == (getattr(parsed, task.field) is not None)
