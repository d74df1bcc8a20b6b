"""Targets of the expert head, order of samples, weights of answer tokens."""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from facellava.model.expert_spec import ExpertSpec, binary, number, single  # noqa: E402
from facellava.model.expert_tower import ExpertVisionTower, probabilities  # noqa: E402
from facellava.model.prompt import IGNORED, Rendered  # noqa: E402
from facellava.training.head import fit_tower, head_report  # noqa: E402
from facellava.training.samples import Samples, head_targets  # noqa: E402
from facellava.training.stage import Stage  # noqa: E402
from facellava.training.two_stage import (  # noqa: E402
    checklists,
    collate,
    label_weights,
    learning_rate,
    sample_order,
)

SPEC = ExpertSpec((single("mood", [" a", " b"], before=[7]), number("age", 100, after=[8]), binary("AU12", [9])))


def samples(n: int = 60) -> Samples:
    """Rows whose first value says the mood, the second the unit, the third the age in hundreds."""
    rng = np.random.default_rng(0)
    mood, unit, age = rng.integers(0, 2, n), rng.integers(0, 2, n), rng.integers(10, 90, n)
    values = np.stack([mood, unit, age / 100], 1).astype(np.float32)
    values = np.concatenate([values, rng.normal(0, 0.1, (n, 2)).astype(np.float32)], 1)
    rows = []
    for i in range(n):
        labels = {"mood": int(mood[i]), "AU12": bool(unit[i]), "age": int(age[i])}
        if i % 5 == 0:
            del labels["AU12"]
        rows.append(
            {
                "id": f"r{i}",
                "set": "renders" if i % 2 else "congress",
                "split": "test" if i >= n - 10 else "train",
                "subject": f"s{i // 2}",
                "labels": labels,
                "conversations": [[["q", "a"]], [["q", "b"]]],
            }
        )
    maps = torch.zeros(n, 49, 4)
    return Samples(maps, torch.from_numpy(values), torch.zeros(n, 68, 2), rows)


def test_unknown_labels_have_no_weight() -> None:
    data = samples()
    targets, weights = head_targets(data, SPEC)
    assert weights[0, -1] == 0
    assert weights[1, -1] == 1
    assert torch.all(weights[:, :2] == 1)
    assert targets[3, :2].sum() == 1
    ages = torch.arange(100.0)
    assert float(targets[7, 2:102] @ ages) == pytest.approx(data.rows[7]["labels"]["age"], abs=0.2)


def test_head_learns_what_its_inputs_say_and_folds_hold_out_subjects() -> None:
    torch.manual_seed(0)
    data = samples(400)
    tower = ExpertVisionTower(SPEC, 5, 4, 49, 8, folds=2)
    fit_tower(tower, data, epochs=60)
    report = head_report(tower, data, data.indices("test"))
    assert report["mood"] == 1
    assert report["AU12"] == 1
    assert report["age"] < 12
    folds = {data.rows[i]["subject"]: data.fold_of(i, 2) for i in range(len(data))}
    assert all(data.fold_of(i, 2) == folds[data.rows[i]["subject"]] for i in range(len(data)))
    assert set(folds.values()) == {0, 1}


def test_probabilities_are_normalised_within_slots() -> None:
    p = probabilities(torch.randn(3, SPEC.n_outputs), SPEC)
    torch.testing.assert_close(p[:, :2].sum(-1), torch.ones(3))
    torch.testing.assert_close(p[:, 2:102].sum(-1), torch.ones(3))


def test_the_report_mixes_words_between_fixed_text() -> None:
    tower = ExpertVisionTower(SPEC, 5, 4, 49, 8, folds=1)
    # 0: before the mood, 1-2 moods, 3-12 digits, 13: after the age, 14: before AU12, 15-16: yes and no
    words = torch.randn(17, 8)
    tower.words.words.copy_(words)
    torch.nn.init.zeros_(tower.words.summary.weight)
    torch.nn.init.zeros_(tower.words.summary.bias)
    p = torch.zeros(1, SPEC.n_outputs)
    p[0, :2] = torch.tensor([0.25, 0.75])
    p[0, 2 + 41], p[0, 2 + 42], p[0, -1] = 0.5, 0.5, 0.9
    tokens = tower.words(p)[0]
    expected = [
        words[0],
        0.25 * words[1] + 0.75 * words[2],
        words[3 + 4],  # 41.5 rounds to 42
        words[3 + 2],
        words[13],
        words[14],
        0.9 * words[15] + 0.1 * words[16],
        torch.zeros(8),
    ]
    torch.testing.assert_close(tokens, torch.stack(expected))


def test_first_tokens_of_every_answer_weigh_double() -> None:
    labels = [IGNORED, *range(10), IGNORED, 5]
    assert label_weights(labels) == [0, *[2] * 8, 1, 1, 0, 2]


def test_verdicts_of_a_checklist_weigh_most() -> None:
    yes, no = 90, 91
    checklist = [5, yes, 6, no, 7, yes]
    assert label_weights([IGNORED, *checklist], frozenset({yes, no})) == [0, 0.1, 3, 0.1, 3, 0.1, 3]
    assert label_weights([IGNORED, 5, yes, 6], frozenset({yes, no})) == [0, 2, 2, 2]


def test_checklists_hold_known_labels_only() -> None:
    labels = {"AU12": True, "AU4": False, "Smiling": True, "expression": 3, "age": 40}
    turns = checklists(labels, random.Random(0))
    by_question = {question: sorted(answer.split("\n")) for question, answer in turns}
    assert by_question == {
        "Answer yes or no for each action unit.": ["AU12: yes", "AU4: no"],
        "Answer yes or no for each attribute.": ["Smiling: yes"],
    }


def test_collation_pads_ids_and_ignores_padding() -> None:
    batch = collate([(4, Rendered([1, 2, 3], [IGNORED, 2, 3])), (9, Rendered([7], [IGNORED]))], pad=0)
    assert batch.ids.tolist() == [[1, 2, 3], [7, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, 2, 3], [IGNORED] * 3]
    assert batch.rows == [4, 9]


def test_order_is_deterministic_and_keeps_to_the_training_split() -> None:
    data = samples()
    order = sample_order(data, 150, seed=1)
    assert order == sample_order(data, 150, seed=1)
    assert order != sample_order(data, 150, seed=2)
    assert len(order) == 150
    assert all(data.rows[row]["split"] == "train" for row, _ in order)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    stage = Stage("x", ("a",), lr=1.0, sequences=0, warmup=0.1)
    rates = [learning_rate(step, 100, stage) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001
