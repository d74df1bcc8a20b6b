"""Metrics against scikit-learn to 1e-12, by hand where it has none, and the honesty of intervals and tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facellava.evaluation.metrics import (
    MultiAnswers,
    NumberAnswers,
    SingleAnswers,
    auc,
    bootstrap,
    brier,
    calibration_error,
    over_folds,
    probability_metrics,
    reliability,
)

sklearn = pytest.importorskip("sklearn.metrics", reason="needs the eval extra")
NAMES = ("anger", "fear", "joy", "calm")


def exact(ours: float, theirs: float) -> None:
    assert ours == pytest.approx(theirs, abs=1e-12)


def single(seed: int, n: int = 200, missing: float = 0.1) -> SingleAnswers:
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, n, p=[0.6, 0.25, 0.1, 0.05])
    guess = np.where(rng.random(n) < 0.5, truth, rng.integers(4, size=n))
    return SingleAnswers(NAMES, truth, np.where(rng.random(n) < missing, -1, guess))


@pytest.mark.parametrize("seed", range(5))
def test_single_labels_equal_scikit_learn(seed: int) -> None:
    a = single(seed)
    found = a.metrics()
    labels = sorted(set(a.truth.tolist()))
    exact(found["war"], sklearn.accuracy_score(a.truth, a.guess))
    exact(found["accuracy"], found["war"])
    exact(found["uar"], sklearn.recall_score(a.truth, a.guess, labels=labels, average="macro", zero_division=0))
    each = sklearn.recall_score(a.truth, a.guess, labels=labels, average=None, zero_division=0)
    for label, recall in zip(labels, each, strict=True):
        exact(found[f"recall.{NAMES[label]}"], recall)


def test_uar_and_war_by_hand_and_an_unread_answer_is_wrong() -> None:
    a = SingleAnswers(NAMES, np.array([0, 0, 0, 1]), np.array([0, 0, -1, 1]))
    found = a.metrics()
    exact(found["war"], 3 / 4)
    exact(found["uar"], (2 / 3 + 1) / 2)
    assert math.isnan(found["recall.joy"])
    assert a.confusion().tolist() == [[2, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0] * 5, [0] * 5]


@pytest.mark.parametrize("seed", range(5))
def test_two_labels_have_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = SingleAnswers(("real", "fake"), rng.integers(2, size=80), rng.integers(2, size=80))
    exact(a.metrics()["f1.fake"], sklearn.f1_score(a.truth, a.guess, pos_label=1))
    exact(a.metrics()["f1.real"], sklearn.f1_score(a.truth, a.guess, pos_label=0))


@pytest.mark.parametrize("seed", range(5))
def test_several_labels_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess, known = rng.random((150, 3)) < 0.3, rng.random((150, 3)) < 0.4, rng.random((150, 3)) < 0.8
    found = MultiAnswers(("a", "b", "c"), truth, known, guess).metrics()
    f1, accuracy, balanced = [], [], []
    for place, name in enumerate("abc"):
        seen = known[:, place]
        t, g = truth[seen, place], guess[seen, place]
        f1.append(sklearn.f1_score(t, g))
        accuracy.append(sklearn.accuracy_score(t, g))
        balanced.append(sklearn.balanced_accuracy_score(t, g))
        exact(found[f"f1.{name}"], f1[-1])
        exact(found[f"accuracy.{name}"], accuracy[-1])
        exact(found[f"balanced.{name}"], balanced[-1])
    exact(found["mean_f1"], float(np.mean(f1)))
    exact(found["mean_accuracy"], float(np.mean(accuracy)))
    exact(found["mean_balanced"], float(np.mean(balanced)))


def test_a_unit_that_never_occurs_has_no_f1() -> None:
    truth = np.array([[True, False], [False, False]])
    found = MultiAnswers(("AU1", "AU2"), truth, np.ones_like(truth), np.ones_like(truth)).metrics()
    assert math.isnan(found["f1.AU2"])
    exact(found["mean_f1"], found["f1.AU1"])


def test_numbers_equal_scikit_learn_and_missing_ones_show_in_the_coverage() -> None:
    truth, guess = np.array([30.0, 40.0, 50.0, 60.0]), np.array([33.0, np.nan, 49.0, 55.0])
    low, high = np.array([31.0, np.nan, 45.0, 50.0]), np.array([35.0, np.nan, 50.0, 59.0])
    found = NumberAnswers(truth, guess, low, high).metrics()
    given = ~np.isnan(guess)
    exact(found["mae"], sklearn.mean_absolute_error(truth[given], guess[given]))
    exact(found["bias"], (3 - 1 - 5) / 3)
    exact(found["coverage"], 3 / 4)
    exact(found["in_range"], 1 / 3)  # 30 lies below 30.5, 60 above 59.5


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, true = rng.random(300).round(2), rng.random(300) < 0.3
    exact(auc(scores, true), sklearn.roc_auc_score(true, scores))
    exact(brier(scores, true), sklearn.brier_score_loss(true, scores))


def test_calibration_by_hand() -> None:
    table = reliability(np.array([0.1, 0.15, 0.9, 1.0]), np.array([False, True, True, True]))
    assert [(b.count, b.confidence, b.frequency) for b in table] == [(2, pytest.approx(0.125), 0.5), (2, 0.95, 1.0)]
    exact(calibration_error(table), 0.5 * 0.375 + 0.5 * 0.05)
    sure = probability_metrics([{"a": 1.0, "b": 0.0}], [{"a": True}])
    assert sure["ece"] == 0
    assert math.isnan(sure["auc.a"])
    assert "auc.b" in sure


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_weights_count_answers_as_often_as_copies_would(seed: int) -> None:
    a = single(seed, 40)
    weights = np.random.default_rng(seed).integers(0, 4, 40)
    if not weights.any():
        return
    copies = a.take(np.repeat(np.arange(40), weights)).metrics()
    weighted = a.metrics(weights.astype(float))
    assert {k for k, v in copies.items() if not math.isnan(v)} == {k for k, v in weighted.items() if not math.isnan(v)}
    for name, value in copies.items():
        assert math.isnan(value) or weighted[name] == pytest.approx(value, abs=1e-12)


def test_folds_are_averaged_and_not_pooled() -> None:
    assert over_folds([{"uar": 0.2, "recall.x": math.nan}, {"uar": 0.6, "recall.x": 1.0}]) == {
        "uar": pytest.approx(0.4),
        "recall.x": 1.0,
    }


def test_intervals_hold_what_they_promise() -> None:
    """Of 95 % intervals around the accuracy of draws from .7, about 95 % hold .7."""
    held = 0
    for seed in range(150):
        right = np.random.default_rng(seed).random(150) < 0.7
        a = SingleAnswers(("no", "yes"), np.ones(150, int), right.astype(int))
        found = bootstrap(a.metrics, np.arange(150), draws=200, seed=seed)["accuracy"]
        held += found.low <= 0.7 <= found.high
    assert 0.89 <= held / 150 <= 0.99


def test_groups_are_drawn_whole() -> None:
    """Ten pictures of each person do not make the interval narrower."""
    right = np.random.default_rng(0).random(30) < 0.6
    one = SingleAnswers(("no", "yes"), np.ones(30, int), right.astype(int))
    many = one.take(np.repeat(np.arange(30), 10))
    alone = bootstrap(one.metrics, np.arange(30), seed=1)["accuracy"]
    grouped = bootstrap(many.metrics, np.repeat(np.arange(30), 10), seed=1)["accuracy"]
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    loose = bootstrap(many.metrics, np.arange(300), seed=1)["accuracy"]
    assert loose.high - loose.low < 0.6 * (grouped.high - grouped.low)
