"""Votes, folds, and what counts as what, by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from eval_world import benchmark, record

from facellava.errors import UsageError
from facellava.evaluation.score import majority, score

HERE = Path("/nowhere")
EXPRESSION = benchmark(HERE)


def test_unread_answers_are_wrong_and_excluded_samples_only_in_the_strict_number() -> None:
    rows = [
        record("a", "anger", "anger"),
        record("b", "anger", None, outcome="none"),
        record("c", "fear", "fear"),
        record("d", "fear", status="excluded", code="no_face"),
        record("e", "fear", status="failed", code="provider_failed"),
    ]
    found = score(EXPRESSION, rows, draws=20)
    assert found.views["text"]["war"].value == pytest.approx(2 / 3)
    assert found.views["text"]["uar"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found.strict["text"]["war"] == pytest.approx(2 / 5)
    assert (found.samples, found.answered) == (5, 3)
    assert (found.excluded, found.failed) == ({"no_face": 1}, {"provider_failed": 1})
    assert found.outcomes == {"found": 2, "none": 1}
    assert list(found.views) == ["text"]
    assert "NaN" not in json.dumps(found.to_json())


def test_both_views_are_scored_and_compared() -> None:
    rows = [
        record("a", "anger", "anger", "anger", probabilities={"anger": 0.9, "fear": 0.1}),
        record("b", "fear", "anger", "fear", probabilities={"anger": 0.2, "fear": 0.8}),
    ]
    found = score(EXPRESSION, rows, draws=20)
    assert found.views["text"]["war"].value == 0.5
    assert found.views["typed"]["war"].value == 1.0
    assert found.agreement == 0.5
    assert found.probabilities["auc.fear"] == 1.0
    assert found.view == "text"


def test_a_run_of_texts_has_no_typed_numbers_although_faces_were_abstained_from() -> None:
    rows = [record("a", "anger", "anger"), record("b", "fear", None, outcome="none", abstained="face_too_small")]
    assert list(score(EXPRESSION, rows, draws=20).views) == ["text"]
    typed = [dataclasses.replace(row, text=None, parsed=None) for row in rows]
    typed[0] = dataclasses.replace(typed[0], typed="anger")
    found = score(EXPRESSION, typed, draws=20)
    assert list(found.views) == ["typed"] and found.views["typed"]["war"].value == 0.5


def test_folds_are_averaged_for_the_headline_and_pooled_beside() -> None:
    first = [record(f"a{n}", "anger", "anger", fold=1) for n in range(3)]
    second = [record("b", "anger", "fear", fold=2)]
    found = score(EXPRESSION, first + second, draws=20)
    assert found.views["text"]["war"].value == pytest.approx((1 + 0) / 2)
    assert found.pooled["text"]["war"] == pytest.approx(3 / 4)


VIDEO = benchmark(HERE, "deepfake", vote=("video",))


def piece(name: str, said: str | None, p: float = 0.5, vote: str = "v") -> object:
    more = {"outcome": "none"} if said is None else {}
    return record(name, "fake", said, said, vote=vote, probabilities={"fake": p, "real": 1 - p}, **more)


def test_a_video_is_the_majority_of_its_pieces() -> None:
    """Appendix F.3: 3-second pieces, majority vote."""
    rows = [piece("v#0", "fake"), piece("v#1", "real"), piece("v#2", "fake"), piece("v#3", None)]
    assert majority(rows, "text") == "fake"
    found = score(VIDEO, [*rows, piece("w#0", "real", vote="w")], draws=20)
    assert found.answered == 2
    assert found.views["text"]["accuracy"].value == 0.5


def test_a_tie_of_pieces_is_no_answer_in_words_and_decided_by_probability_in_labels() -> None:
    rows = [piece("v#0", "fake", 0.95), piece("v#1", "real", 0.4)]
    assert majority(rows, "text") is None
    assert majority(rows, "typed") == "fake"
    assert majority([piece("v#0", "fake", 0.6), piece("v#1", "real", 0.4)], "typed") is None
    assert majority([piece("v#0", None)], "text") is None


def test_several_labels_count_where_they_are_known() -> None:
    rows = [
        record("a", ("AU1",), ("AU1", "AU2"), known=("AU1", "AU2")),
        record("b", ("AU2",), ("AU2", "AU4"), known=("AU2",)),
    ]
    found = score(benchmark(HERE, "action_units"), rows, draws=20)
    assert found.views["text"]["f1.AU1"].value == 1.0
    assert found.views["text"]["f1.AU2"].value == pytest.approx(2 / 3)
    assert "f1.AU4" not in found.views["text"]


def test_a_lost_sample_is_wrong_in_every_label_of_the_strict_number() -> None:
    """One wrong answer and three lost ones: nothing of it may count as right."""
    rows = [record("a", ("AU1",), ("AU2",), known=("AU1", "AU2"))]
    rows += [record(f"x{n}", ("AU1",), known=("AU1", "AU2"), status="failed", code="c") for n in range(3)]
    found = score(benchmark(HERE, "action_units", metrics=("mean_accuracy",)), rows, draws=20)
    assert found.views["text"]["mean_accuracy"].value == 0.0
    assert found.strict["text"]["mean_accuracy"] == 0.0
    aged = [record("a", 40, 41.0), record("b", 40, status="failed", code="c")]
    assert score(benchmark(HERE, "age"), aged, draws=20).strict == {}


def test_an_age_agrees_when_it_lies_in_the_stated_range() -> None:
    rows = [record("a", 40, 44.0, 41, range=(36.0, 45.0)), record("b", 50, 70.0, 52, range=(45.0, 60.0))]
    found = score(benchmark(HERE, "age"), rows, draws=20)
    assert found.agreement == 0.5
    assert found.views["typed"]["mae"].value == pytest.approx(1.5)
    assert found.views["typed"]["in_range"].value == 1.0
    assert math.isnan(found.views["text"]["in_range"].value)


def test_nothing_answered_is_said_with_the_reason() -> None:
    with pytest.raises(UsageError, match="none of 1 samples was answered; most often: too dark"):
        score(EXPRESSION, [record("a", "anger", status="excluded", code="x", message="too dark")])
