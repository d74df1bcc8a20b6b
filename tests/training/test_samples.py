"""Folders of samples, and the expert head that is fitted on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from facellava.errors import DamagedCheckpoint, FileMissing  # noqa: E402
from facellava.model.expert_report import ExpertHead, Findings, HeadSpec, region_weights  # noqa: E402
from facellava.model.regions import REGIONS  # noqa: E402
from facellava.runtime.report import head_spec, untrained  # noqa: E402
from facellava.training.head import (  # noqa: E402
    PARTS,
    THRESHOLDS,
    HeadNetwork,
    best_threshold,
    fit_ensemble,
    head_report,
    predict,
    threshold_curve,
    unseen,
)
from facellava.training.samples import Samples, SamplesFolder, fold_of, head_targets  # noqa: E402
from facellava.training.talks import open_folder  # noqa: E402

SPEC = head_spec({"deepfake", "age", "AU12"})


def samples(n: int = 60) -> Samples:
    """Rows whose first value says the authenticity, the second the unit, the third the age in hundreds."""
    rng = np.random.default_rng(0)
    mood, unit, age = rng.integers(0, 2, n), rng.integers(0, 2, n), rng.integers(10, 90, n)
    values = np.stack([mood, unit, age / 100], 1).astype(np.float32)
    values = np.concatenate([values, rng.normal(0, 0.1, (n, 2)).astype(np.float32)], 1)
    rows = []
    for i in range(n):
        labels = {"deepfake": int(mood[i]), "AU12": bool(unit[i]), "age": int(age[i])}
        if i % 5 == 0:
            del labels["AU12"]
        rows.append(
            {
                "id": f"r{i}",
                "set": "renders" if i % 2 else "congress",
                "split": "test" if i >= n - 10 else "train",
                "subject": f"s{i // 2}",
                "labels": labels,
                "report": f"Age: {age[i]}",
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


def test_head_learns_what_its_inputs_say_and_folds_hold_out_subjects(tmp_path: Path) -> None:
    data = samples(400)
    head = fit_ensemble(data, SPEC, [(0, 0), (1, 1)], 2, epochs=60)
    report = head_report(head, data, data.indices("test"))
    assert report["deepfake"] == 1
    assert report["AU12"] == 1
    assert report["age"] < 12
    folds = {data.rows[i]["subject"]: data.fold_of(i, 2) for i in range(len(data))}
    assert all(data.fold_of(i, 2) == folds[data.rows[i]["subject"]] for i in range(len(data)))
    assert set(folds.values()) == {0, 1}
    head.save(tmp_path / "head.safetensors")
    again = ExpertHead.load(tmp_path)
    assert again.spec == head.spec
    np.testing.assert_allclose(predict(again, data, [0, 7]), predict(head, data, [0, 7]), atol=2e-2)


def test_thresholds_come_from_networks_that_never_saw_the_person() -> None:
    """What is said of somebody does not depend on their own labels, and what is said of others does."""
    data, spec = samples(80), head_spec({"AU12"})
    train = data.indices("train")
    person = data.rows[1]["subject"]
    other = [row | {"labels": {"AU12": not row["labels"].get("AU12", True)}} for row in data.rows]
    changed = [b if a["subject"] == person else a for a, b in zip(data.rows, other, strict=True)]
    p, q = (
        unseen(Samples(data.maps, data.values, data.landmarks, rows), spec, epochs=2, seed=0)
        for rows in (data.rows, changed)
    )
    part = [data.fold_of(i, PARTS) == fold_of(person, PARTS) for i in train]
    np.testing.assert_array_equal(p[part], q[part])
    assert np.all(p[np.logical_not(part)] != q[np.logical_not(part)])


def test_the_numpy_head_is_the_network_that_was_trained() -> None:
    torch.manual_seed(3)
    network = HeadNetwork(5, 4, 49, SPEC.n_outputs).eval()
    arrays = {f"heads.0.{name}": value.numpy() for name, value in network.state_dict().items()}
    arrays |= {"map_mean": np.full(4, 0.3, np.float32), "map_std": np.full(4, 2, np.float32)}
    arrays |= {"value_mean": np.full(5, -0.2, np.float32), "value_std": np.full(5, 0.1, np.float32)}
    maps, values, points = torch.randn(3, 49, 4), torch.randn(3, 5), np.random.default_rng(0).random((3, 68, 2))
    weights = torch.from_numpy(region_weights(points, 49))
    with torch.no_grad():
        logits = network(((maps - 0.3) / 2).clamp(-4, 4), ((values + 0.2) / 0.1).clamp(-4, 4), weights)
    parts = [logits[:, :2].softmax(-1), logits[:, 2:102].softmax(-1), logits[:, 102:].sigmoid()]
    expected = torch.cat(parts, -1).mean(0).numpy()
    np.testing.assert_allclose(ExpertHead(SPEC, arrays)(maps.numpy(), values.numpy(), points), expected, atol=1e-5)


def test_regions_weigh_the_patches_around_them() -> None:
    points = np.zeros((1, 68, 2), np.float32)
    points[0, 27:31] = [3.5 / 7, 2.5 / 7]  # the bridge of the nose: right on row 2, column 3
    weights = region_weights(points, 49)
    assert weights.shape == (1, 9, 49) and np.allclose(weights.sum(-1), 1)
    nose = [region.name for region in REGIONS].index("nose")
    grid = weights[0, nose].reshape(7, 7)
    assert np.unravel_index(grid.argmax(), (7, 7)) == (2, 3)
    assert grid[2, 4] / grid[2, 3] == pytest.approx(np.exp(-1 / 7 / 0.03), rel=1e-4), "eq. 5 over the temperature"


def test_thresholds_come_from_curves_over_five_of_each() -> None:
    many = [(True, 0.3)] * 50 + [(False, 0.1)] * 40
    (f1, rarer), (balanced, _) = threshold_curve(many, f1=True), threshold_curve(many, f1=False)
    assert rarer == 40
    best = THRESHOLDS[f1.argmax()]
    assert 0.1 < best <= 0.3 and f1.max() == balanced.max() == 1
    # at a threshold below both everything is called present: precision is one half
    assert f1[0] == pytest.approx(100 / 140) and balanced[0] == pytest.approx(0.5)
    assert threshold_curve(many[:54], f1=True) is None


def test_a_source_with_more_faces_has_more_say_about_a_threshold() -> None:
    low, high = (np.where(np.abs(THRESHOLDS - at) < 0.03, 1.0, 0.0) for at in (0.3, 0.7))
    assert best_threshold([(low, 100), (high, 25)]) == pytest.approx(0.3, abs=0.03)
    assert best_threshold([(low, 25), (high, 100)]) == pytest.approx(0.7, abs=0.03)
    # one lucky value does not win against a broad hill
    lucky = np.where(np.arange(len(THRESHOLDS)) == 2, 0.9, 0.0)
    hill = np.where(np.abs(THRESHOLDS - 0.6) < 0.1, 0.8 - np.abs(THRESHOLDS - 0.6), 0.0)
    assert best_threshold([(lucky + hill, 9)]) == pytest.approx(0.6, abs=0.03)


def test_findings_are_stated_in_the_words_of_answers() -> None:
    spec = head_spec({"expression", "deepfake", "age", "AU12", "AU6", "Smiling", "Bald"})
    head = ExpertHead(spec, {}).with_thresholds({"AU6": 0.2})
    p = np.zeros(spec.n_outputs, np.float32)
    places = spec.offsets()
    p[places["expression"].start + 3], p[places["deepfake"].start] = 0.9, 0.6
    p[places["age"].start + 41], p[places["age"].start + 43] = 0.4, 0.6
    p[places["AU6"]], p[places["AU12"]], p[places["Smiling"]] = 0.2, 0.49, 0.5
    found = head.find(p)
    assert found.report() == (
        "Expression: happiness\nAge: 43\nAuthenticity: real\nAction units: AU6\nAttributes: Smiling"
    )
    sure = head.stated(p, {"expression": "fear", "age": 7, "AU6": False, "deepfake": "fake", "Bald": True})
    assert head.find(sure).report() == (
        "Expression: fear\nAge: 7\nAuthenticity: fake\nAction units: none\nAttributes: Bald, Smiling"
    )
    assert p[places["AU6"]] == np.float32(0.2), "what was given stays as it is"
    assert HeadSpec.from_json(spec.to_json()) == spec
    assert "AU12" not in untrained(spec)["action_units"] and "Goatee" in untrained(spec)["attributes"]
    assert not head_spec({"age"}).answers("action_units") and head_spec({"age"}).answers("age")


def test_the_course_of_a_clip_is_what_its_frames_are_sure_of() -> None:
    head = ExpertHead(head_spec({"expression", "age"}), {})
    words = head.spec.slots[0].words

    def frames(*seen: tuple[str, float]) -> np.ndarray:
        p = np.full((len(seen), head.spec.n_outputs), 0.02)
        for row, (word, sure) in zip(p, seen, strict=True):
            row[words.index(word)] = sure
        return p

    calm, glad, between = ("neutral", 0.9), ("happiness", 0.8), ("surprise", 0.4)
    assert head.course(frames(calm, calm, between, glad, glad)) == ("neutral", "happiness")
    assert head.course(frames(calm, between, calm)) == ("neutral",), "nothing sure lies between"
    assert head.course(frames(calm, glad, calm)) == ("neutral", "happiness", "neutral")
    assert head.course(frames(calm)) is None, "a still has none"
    assert head.course(frames(between, between)) is None
    assert ExpertHead(head_spec({"age"}), {}).course(np.ones((3, 100))) is None
    assert Findings("happiness", 30, course=("neutral", "happiness")).report().endswith("Course: neutral, happiness")


def test_a_file_without_a_spec_is_no_head(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"head\.safetensors is missing"):
        ExpertHead.load(tmp_path)
    save_file({"map_mean": torch.zeros(1)}, tmp_path / "head.safetensors")
    with pytest.raises(DamagedCheckpoint, match="states no spec"):
        ExpertHead.load(tmp_path)


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
    assert talk.report == f"Age: {talk.labels['age']}"
    assert folder.address(folder.talks[2]) == folder.address(talk), "variants share a face"
    with pytest.raises(FileMissing, match="holds features and no pixels"):
        folder.clip(talk)
