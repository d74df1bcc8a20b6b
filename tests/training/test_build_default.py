"""The default model's training folder out of a few real faces: whole, resumable, and consistent with its reports."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from facellava import tasks

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

from facellava.model import experts  # noqa: E402
from facellava.training import build_default as build  # noqa: E402
from facellava.training.sequences import FRAMES  # noqa: E402


@pytest.fixture(scope="module")
def faces(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the open faces, with eight portraits, eight synthetic photographs, ten renders, five clips."""
    from default_model import require_weights

    require_weights()
    root, source = tmp_path_factory.mktemp("faces"), shared_dir / "faces"
    kept: set[str] = set()
    for name, limit in (("congress", 6), ("sfhq", 6), ("renders", 8), ("clips", 3)):
        lines = (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        chosen = [
            r for s in ("train", "test") for r in [r for r in rows if r["split"] == s][: limit if s == "train" else 2]
        ]
        kept |= {row["id"] for row in chosen}
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
        for row in chosen:
            (root / row["file"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / row["file"], root / row["file"])
    lines = (source / "annotations.jsonl").read_text(encoding="utf-8").splitlines()
    own = [line + "\n" for line in lines if json.loads(line)["id"] in kept]
    (root / "annotations.jsonl").write_text("".join(own), encoding="utf-8")
    return root


def test_features_head_and_conversations(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PART", 4)
    build.build_features(faces, tmp_path, renders=8, processes=1)
    first = load_file(tmp_path / "features.safetensors")
    parts = sorted((tmp_path / "parts").iterdir())
    times = [part.stat().st_mtime_ns for part in parts]
    parts[1].unlink()
    build.build_features(faces, tmp_path, renders=8, processes=1)
    again = load_file(tmp_path / "features.safetensors")
    assert all(np.array_equal(first[name], again[name]) for name in first), "a lost part comes back as it was"
    assert [p.stat().st_mtime_ns for p in parts[2:]] == times[2:], "what was there is not made again"
    rows = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text(encoding="utf-8").splitlines()]
    assert first["maps"].shape == (len(rows), 49, experts.MAP_WIDTH)
    assert Counter(r["set"] for r in rows if r["frames"] == FRAMES) == {"clips": 5, "sequences": 1}
    assert sum(r["frames"] for r in rows) == len(rows)
    assert {r["id"].rsplit("-", 1)[1] for r in rows if r["set"] == "renders" and "-" in r["id"]} == {"mirror"}
    fakes = {r["id"].rsplit("-", 1)[1] for r in rows if r["authenticity"] == "fake" and r["split"] == "train"}
    assert fakes == {"self_blend", "swap"}
    assert {r["id"].rsplit("-", 1)[1] for r in rows if r["authenticity"] == "fake"} == {"self_blend", "swap", "warp"}

    build.build_head(tmp_path)
    build.build_conversations(tmp_path, variants=2)
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [s["id"] for s in samples] == [r["id"] for r in rows]
    checked = 0
    for sample in samples:
        if not sample["frames"]:
            assert not sample["conversations"], "the first frame of a clip has them"
            continue
        stated = dict(line.split(": ", 1) for line in sample["report"].splitlines())
        assert ("Course" in stated) <= (sample["frames"] == FRAMES)
        names = tasks.get("expression").names
        if sample["split"] == "train" and sample["frames"] == 1 and "expression" in sample["labels"]:
            assert stated["Expression"] == names[sample["labels"]["expression"]], "known labels lead"
        for talk in sample["conversations"]:
            for _, answer in talk:
                if match := re.match(r"The displayed expression is (\w+)\.", answer):
                    assert match[1] == stated["Expression"]
                    checked += 1
    assert checked > 10
