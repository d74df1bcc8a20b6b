"""Paired comparisons: of the metric that is shown, over people and folds, and fair where two runs are alike."""

from __future__ import annotations

import numpy as np
import pytest
from eval_world import benchmark, record

from facellava.evaluation.compare import compare, compare_runs
from facellava.evaluation.metrics import MultiAnswers, NumberAnswers, SingleAnswers
from facellava.evaluation.score import Arrays

NAMES = ("anger", "fear", "joy", "calm")


def arrays(answers: SingleAnswers | NumberAnswers, groups: np.ndarray | None = None, folds: int = 1) -> Arrays:
    n = len(answers)
    return Arrays(answers, np.arange(n) % folds, np.arange(n) if groups is None else groups, tuple(map(str, range(n))))


def guesses(seed: int, right: float, n: int = 300) -> SingleAnswers:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(4, size=n)
    return SingleAnswers(NAMES, truth, np.where(rng.random(n) < right, truth, (truth + 1) % 4))


def test_the_better_run_is_found_and_equal_ones_are_not_told_apart() -> None:
    good, poor = arrays(guesses(1, 0.8)), arrays(guesses(2, 0.5))
    found = compare(good, poor, "uar", draws=300)
    assert found.difference.low > 0
    assert found.p_value == pytest.approx(1 / 301)
    assert found.difference.value == pytest.approx(good.metrics()["uar"] - poor.metrics()["uar"])
    assert compare(good, good, "uar", draws=50).p_value == 1.0


def test_an_undefined_difference_has_no_p() -> None:
    none = np.zeros((5, 1), bool)  # no example of AU1 is active, so that it has no F1
    empty = MultiAnswers(("AU1",), none, ~none, none)
    found = compare(
        *(Arrays(empty, np.zeros(5, int), np.arange(5), tuple("abcde")) for _ in range(2)), "mean_f1", draws=20
    )
    assert np.isnan(found.difference.value) and np.isnan(found.p_value)


def test_chance_alone_is_found_as_often_as_p_says() -> None:
    """Of comparisons of equally good runs, about a tenth have p below .1."""
    low = sum(compare(arrays(guesses(s, 0.6, 80)), arrays(guesses(s + 500, 0.6, 80)), "uar", draws=99).p_value <= 0.1
              for s in range(60))  # fmt: skip
    assert 0 <= low <= 14


def test_many_pictures_of_few_people_prove_little() -> None:
    """Eight people, two hundred frames each: six of them better read by one run is no more than a hint."""
    person = np.repeat(np.arange(8), 200)
    truth = np.zeros(1600, int)
    one = SingleAnswers(NAMES, truth, np.where(person < 5, 0, 1))
    two = SingleAnswers(NAMES, truth, np.where(person >= 3, 0, 1))
    assert compare(arrays(one, person), arrays(two, person), "accuracy", draws=300).p_value > 0.1
    alone = compare(arrays(one), arrays(one.exchanged(two, person == 7)), "accuracy", draws=300)
    assert alone.p_value < 0.05, "as independent frames the same would look certain"


def test_the_difference_is_averaged_over_folds_as_in_the_tables() -> None:
    small = benchmark("/nowhere")  # type: ignore[arg-type]
    one = [record(f"a{n}", "anger", "anger", fold=1) for n in range(9)] + [record("b", "anger", "anger", fold=2)]
    two = [record(f"a{n}", "anger", "anger", fold=1) for n in range(9)] + [record("b", "anger", "fear", fold=2)]
    found = compare_runs(small, one, two, ("text", "text"), "war", draws=20)
    assert found is not None
    assert found.difference.value == pytest.approx(0.5)


def test_ages_are_compared_where_both_runs_gave_one() -> None:
    small = benchmark("/nowhere", "age")  # type: ignore[arg-type]
    one = [record("a", 40, 41.0), record("b", 50, None, outcome="none")]
    two = [record("a", 40, 43.0), record("b", 50, 90.0)]
    found = compare_runs(small, one, two, ("text", "text"), "mae", draws=20)
    assert found is not None
    assert (found.n, found.difference.value) == (1, pytest.approx(-2.0))
    assert compare_runs(small, one[1:], two, ("text", "text"), "mae", draws=20) is None


def test_runs_without_a_common_sample_are_not_compared() -> None:
    small = benchmark("/nowhere")  # type: ignore[arg-type]
    assert (
        compare_runs(small, [record("a", "anger", "anger")], [record("b", "anger", "anger")], ("text", "text"), "war")
        is None
    )
