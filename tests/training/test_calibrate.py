"""The threshold that calibration chooses, against a hand-computed case."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from facellava.training.calibrate import best_threshold


def test_threshold_separates_what_can_be_separated() -> None:
    absent, present = [0.02, 0.05, 0.1, 0.12, 0.15], [0.22, 0.25, 0.3, 0.6, 0.9]
    scores = {"AU12": [(False, p) for p in absent] + [(True, p) for p in present]}
    assert 0.15 < best_threshold(scores) <= 0.22


def test_f1_and_balanced_accuracy_differ_where_positives_are_rare() -> None:
    scores = {"AU9": [(False, 0.3)] * 40 + [(False, 0.1)] * 60 + [(True, 0.35)] * 4 + [(True, 0.2)] * 6}
    balanced, f1 = best_threshold(scores), best_threshold(scores, f1=True)
    assert 0.1 < balanced <= 0.2  # all ten found, 40 false alarms: recalls 1.0 and .6
    assert 0.3 < f1 <= 0.35  # four found, no false alarm: 2 * 4 / (2 * 4 + 6) = .57 beats 2 * 10 / (2 * 10 + 40) = .33


def test_rare_labels_do_not_vote() -> None:
    common = [(False, 0.1)] * 5 + [(True, 0.5)] * 5
    rare = [(False, 0.9)] * 30 + [(True, 0.01)] * 2
    assert best_threshold({"AU1": common, "AU9": rare}) == best_threshold({"AU1": common})
    with pytest.raises(AssertionError, match="no label"):
        best_threshold({"AU9": rare})
