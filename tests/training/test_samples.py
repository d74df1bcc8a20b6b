"""Folders of samples, and the expert head that is fitted on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from facellava.errors import FileMissing  # noqa: E402
from facellava.model.expert_spec import ExpertSpec, binary, number, single  # noqa: E402
from facellava.model.expert_tower import ExpertVisionTower, probabilities  # noqa: E402
from facellava.training.head import fit_tower, head_report  # noqa: E402
from facellava.training.samples import Samples, SamplesFolder, head_targets  # noqa: E402
from facellava.training.talks import open_folder  # noqa: E402

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


def test_a_folder_of_samples_is_a_folder_of_conversations(tmp_path: Path) -> None:
    data = samples()
    arrays = {"maps": data.maps.half(), "values": data.values, "landmarks": data.landmarks}
    save_file(arrays, tmp_path / "features.safetensors")
    for row in data.rows:
        row["labels"] = {"expression": 3, "age": row["labels"]["age"]}
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data.rows))
    folder = open_folder(tmp_path)
    assert isinstance(folder, SamplesFolder) and len(folder.talks) == 100 and len(folder.held_out) == 20
    talk = folder.talks[3]
    assert (talk.id, talk.turns, talk.source, talk.labels["expression"]) == (
        "r1#1",
        (("q", "b"),),
        "renders",
        "happiness",
    )
    stored = folder.stored(talk)
    assert torch.equal(stored["expert_values"][0], data.values[1]) and stored["vision_features"].shape == (1, 49, 4)
    assert folder.address(folder.talks[2]) == folder.address(talk), "variants share a face"
    with pytest.raises(FileMissing, match="holds features and no pixels"):
        folder.clip(talk)
