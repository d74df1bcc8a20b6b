"""Full-size presets: names, shapes and numbers of parameters, without memory; a full-width pass where asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facellava.model.config import FaceLlavaConfig
from facellava.model.layouts import VICUNA_7B, Options, convert, load_model, named, paper_7b, release_7b
from facellava.model.layouts.plan import Plan, on_meta
from facellava.model.layouts.report import Report
from facellava.model.layouts.source import Entry
from facellava.model.layouts.write import their_tensors
from facellava.model.modeling import FaceLlavaForConditionalGeneration


def theirs(config: FaceLlavaConfig, layout: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a model of ours has in another layout; nothing is allocated."""
    entries = {
        key: Entry(tuple(value.shape), torch.bfloat16, lambda value=value: value)
        for key, value in on_meta(config).state_dict().items()
    }
    ours = named("ours")
    source = type("Nowhere", (), {"folder": Path("/nowhere")})()
    plan = Plan(config, entries, {}, ours, (source,), Report("", ours.name))
    return {key: entry.shape for key, entry in their_tensors(plan, named(layout)).items()}


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for part in (model.frlp, model.frgca) for p in part.parameters())


def test_the_releases_new_parameters() -> None:
    written = theirs(release_7b(), "official")
    sizes = {key: torch.Size(shape).numel() for key, shape in written.items()}
    new = {key: size for key, size in sizes.items() if "landmarks" in key}
    assert sum(new.values()) == 85_078_016
    assert sum(size for key, size in new.items() if "region_layers" in key) == 593_920
    assert sum(size for key, size in new.items() if "global_landmarks" in key) == 561_152
    assert sum(size for key, size in new.items() if "cross_attn" in key) == 83_922_944
    assert count(on_meta(release_7b())) == 85_078_016 - 2 * 4096  # without the norm that has no effect


def test_the_papers_new_parameters() -> None:
    model = on_meta(paper_7b())
    assert count(model) == 68_280_320
    assert sum(p.numel() for p in model.language_model.parameters()) == 6_738_415_616


@pytest.mark.parametrize(("temporal", "keys"), [(True, 1403), (False, 1139)])
def test_the_releases_names(temporal: bool, keys: int) -> None:
    written = theirs(release_7b(temporal), "official")
    assert len(written) == keys
    assert written["model.landmarks_cross_attn.cross_attn.attn.in_proj_weight"] == (12288, 4096)
    assert written["model.layers.31.self_attn.rotary_emb.inv_freq"] == (64,)
    assert written["model.video_tower.video_tower.encoder.layers.23.mlp.fc1.weight"] == (4096, 1024)
    assert any("temporal" in key for key in written) == temporal


def test_names_equal_those_written_down_elsewhere() -> None:
    import test_official_checkpoint as known

    expected = known.language_model() | known.tower("image") | known.tower("video") | known.landmark_modules()
    assert theirs(release_7b(), "official") == expected


def test_the_hubs_sizes() -> None:
    written = theirs(paper_7b(), "video-llava-hub")
    assert written["language_model.model.embed_tokens.weight"] == (32064, 4096)
    assert written["language_model.lm_head.weight"] == (32064, 4096)
    assert written["multi_modal_projector.linear_1.weight"] == (4096, 1024)
    assert not any("temporal" in key for key in written)
    assert len(written) == 1139 - 20 - 32 - 10  # without FRLP, rotary buffers, cross-attention


@pytest.mark.slow
@torch.no_grad()
def test_a_pass_in_full_width(tmp_path: Path) -> None:
    """Two blocks of width 4096 and two tower layers of width 1024, official layout and back, in half precision."""
    release = release_7b()
    text = {**VICUNA_7B, "num_hidden_layers": 2}
    config = FaceLlavaConfig(vision=replace(release.vision, layers=2), fusion=release.fusion, text_config=text)
    torch.manual_seed(0)
    FaceLlavaForConditionalGeneration(config).bfloat16().save_pretrained(tmp_path / "ours")
    model = FaceLlavaForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    convert(tmp_path / "ours", tmp_path / "official", to="official", shard=500_000_000)
    loaded = load_model(tmp_path / "official", Options(changes={"vision": {"layers": 2}}))
    assert loaded.report.layout == "official" and not loaded.report.initialised
    ids = torch.tensor([[1, *[32000] * 8 * 257, 5, 6, 7]])
    inputs = {"pixel_values": torch.randn(1, 8, 3, 224, 224).bfloat16(), "landmarks": torch.rand(1, 8, 68, 2)}
    expected = model(input_ids=ids, **inputs, logits_to_keep=3).logits
    assert expected.shape == (1, 3, 32000) and expected.isfinite().all()
    assert torch.equal(loaded.model.eval()(input_ids=ids, **inputs, logits_to_keep=3).logits, expected)
