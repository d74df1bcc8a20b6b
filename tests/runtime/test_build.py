"""Building the runnable model: equal to the torch model, atomic, keyed by its ingredients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import tiny

from facellava.errors import DamagedCheckpoint, FileMissing
from facellava.model import experts
from facellava.model.vision_onnx import build_vision
from facellava.runtime.build import ensure_built, merge_lora, visual_weights


def vision_inputs(frames: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "maps": rng.normal(size=(frames, experts.N_PATCHES, experts.MAP_WIDTH)).astype(np.float32),
        "landmarks": rng.uniform(size=(frames, 68, 2)).astype(np.float32),
    }


@pytest.mark.parametrize("frames", [1, 3])
def test_vision_graph_equals_the_torch_modules(frames: int, tiny_gguf: Path) -> None:
    torch = pytest.importorskip("torch")
    from facellava.model.gguf_weights import read_gguf
    from facellava.model.modeling import FaceLlavaForConditionalGeneration
    from facellava.runtime.torch_model import expert_config

    base, delta = read_gguf(tiny_gguf), tiny.delta()
    config = expert_config(base.config, fusion="paper", heads=8, placeholder=0, margin=0.6)
    model = FaceLlavaForConditionalGeneration(config).eval()
    state = {k: torch.from_numpy(v) for k, v in delta.items() if not k.startswith("language_model")}
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    inputs = vision_inputs(frames)
    with torch.no_grad():
        expected = model.encode_visual(
            vision_features=torch.from_numpy(inputs["maps"])[None],
            landmarks=torch.from_numpy(inputs["landmarks"])[None],
            need_attention=True,
        )
    graph = build_vision(visual_weights(delta), dim=tiny.DIM, heads=8, grid=experts.GRID)
    tokens, attention = ort.InferenceSession(graph.SerializeToString()).run(None, inputs)
    np.testing.assert_allclose(tokens, expected.tokens[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(attention, expected.attention[0].numpy(), atol=1e-6)


def test_lora_is_merged_by_hand_computed_product() -> None:
    base = {"model.q.weight": np.zeros((2, 3), np.float32)}
    delta = {
        "language_model.model.q.lora_A.default.weight": np.array([[1, 2, 3]], np.float32),
        "language_model.model.q.lora_B.default.weight": np.array([[1], [10]], np.float32),
        "frgca.out.weight": np.ones((1, 1), np.float32),
    }
    merged = merge_lora(base, delta, 2.0)
    np.testing.assert_array_equal(merged["model.q.weight"], [[2, 4, 6], [20, 40, 60]])
    assert not base["model.q.weight"].any()


def test_build_is_reused_and_follows_its_ingredients(tiny_source: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    calls = []

    def resolve(name: str) -> Path:
        calls.append(name)
        return tiny_gguf

    first = ensure_built(tiny_source, tmp_path, resolve)
    assert ensure_built(tiny_source, tmp_path, resolve) == first
    assert calls == ["tiny-base"]
    changed = tmp_path / "changed"
    shutil.copytree(tiny_source, changed)
    card = json.loads((changed / "model.json").read_text()) | {"crop_margin": 0.5}
    (changed / "model.json").write_text(json.dumps(card))
    assert ensure_built(changed, tmp_path, resolve) != first
    assert not list((tmp_path / "models").glob(".building-*"))


def test_a_failed_build_leaves_nothing_behind(tiny_source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(DamagedCheckpoint, match="GGUF"):
        ensure_built(tiny_source, tmp_path, lambda _: broken)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {".building.lock"}


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"model\.json"):
        ensure_built(tmp_path, tmp_path, lambda _: tmp_path)
