"""The whole model: every configuration runs, losses and caches are right, weights survive a round trip."""

from __future__ import annotations

import math

import pytest
import torch
from model_helpers import (
    DIM,
    EXPERT_GRID,
    EXPERT_VISION,
    PLACEHOLDER,
    VOCABULARY,
    close,
    prompt,
    tiny_config,
    visual_inputs,
)
from transformers import AutoModelForImageTextToText

import facellava.model
from facellava.model.config import TABLE_6, FusionConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration

OFFICIAL = {
    "official_simple": FusionConfig(kind="official_simple"),
    "official_masked": FusionConfig(kind="official_masked", transposed_grid=True),
}


def build(**parts) -> FaceLlavaForConditionalGeneration:
    torch.manual_seed(0)
    model = FaceLlavaForConditionalGeneration(tiny_config(**parts)).eval()
    with torch.no_grad():  # larger weights than a fresh model's, so that differences show
        for p in model.parameters():
            p.normal_(std=0.2)
    return model


def greedy(model, ids, **inputs):
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, max_new_tokens=6, do_sample=False
    )[:, ids.shape[1] :]


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("row", [*TABLE_6, *OFFICIAL])
def test_every_configuration_runs_and_trains_what_it_has(row, frames):
    fusion = (TABLE_6 | OFFICIAL)[row]
    model = build(fusion=fusion)
    ids = prompt(model.config, frames)
    out = model(input_ids=ids, labels=ids.masked_fill(ids == PLACEHOLDER, -100), **visual_inputs(model.config, frames))
    assert out.logits.shape == (1, ids.shape[1], VOCABULARY)
    out.loss.backward()
    for part in ("projector", "frlp", "frgca"):
        if hasattr(model, part):
            # With one key its weight is 1 whatever is asked: query and key get no gradient in "simple_global".
            live = [n for n, p in getattr(model, part).named_parameters() if p.grad is not None and p.grad.any()]
            assert live, part
    assert hasattr(model, "frgca") == (fusion.kind != "none")
    assert hasattr(model, "frlp") == fusion.uses_landmarks


@pytest.mark.parametrize("row", ["append_global", "append_frlp", "simple_global", "frgca_frlp", "simple_face_parsing"])
def test_the_expert_input_changes_the_answer(row):
    model = build(fusion=TABLE_6[row])
    ids, inputs = prompt(model.config), visual_inputs(model.config)
    name = "parsing_values" if row.endswith("parsing") else "landmarks"
    other = inputs | {name: visual_inputs(model.config, seed=9)[name]}
    with torch.no_grad():
        assert (model(input_ids=ids, **inputs).logits - model(input_ids=ids, **other).logits).abs().max() > 1e-3


def test_the_baseline_ignores_landmarks():
    model = build(fusion=TABLE_6["baseline"])
    ids, inputs = prompt(model.config), visual_inputs(model.config)
    with torch.no_grad():
        with_points = model(input_ids=ids, **inputs, landmarks=torch.rand(1, 1, 68, 2)).logits
        close(with_points, model(input_ids=ids, **inputs).logits, 0.0)


def test_loss_counts_answers_only():
    model = build()
    ids = prompt(model.config, text=(5, 6, 7, 8, 9))
    labels = torch.full_like(ids, -100)
    labels[0, -3:] = ids[0, -3:]
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels, **visual_inputs(model.config))
    by_hand = 0.0
    for position in (-3, -2, -1):  # each is predicted by the position before it
        row = out.logits[0, position - 1].double().tolist()
        peak = max(row)
        by_hand += peak + math.log(sum(math.exp(x - peak) for x in row)) - row[int(ids[0, position])]
    assert out.loss.item() == pytest.approx(by_hand / 3, abs=1e-5)


def test_placeholders_must_match():
    model = build()
    inputs, ids = visual_inputs(model.config), prompt(model.config)
    with pytest.raises(ValueError, match=r"row 0 .* has 8 placeholders \(id 300\) for 9 visual tokens"):
        model(input_ids=ids[:, 2:], **inputs)
    with pytest.raises(ValueError, match=r"9 placeholders .* for 0 visual tokens"):
        model(input_ids=ids)
    two = torch.cat([ids, ids.masked_fill(ids == PLACEHOLDER, 4)])
    with pytest.raises(ValueError, match="row 1 of input_ids has 0"):
        model(input_ids=two, **visual_inputs(model.config, batch=2))


def test_missing_and_superfluous_inputs_are_refused():
    model = build()
    inputs, ids = visual_inputs(model.config), prompt(model.config)
    with pytest.raises(ValueError, match="landmarks are missing"):
        model(input_ids=ids, pixel_values=inputs["pixel_values"])
    with pytest.raises(ValueError, match="either pixel_values or vision_features"):
        model(input_ids=ids, landmarks=inputs["landmarks"])
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(**inputs)
    with pytest.raises(ValueError, match="leave out pixel_values, landmarks"):
        model(inputs_embeds=torch.zeros(1, 3, DIM), **inputs)
    with pytest.raises(ValueError, match="needs parsing_values"):
        build(fusion=TABLE_6["simple_face_parsing"]).encode_visual(pixel_values=inputs["pixel_values"])


def test_precomputed_features_equal_pixels():
    model = build()
    inputs, ids = visual_inputs(model.config, 3), prompt(model.config, 3)
    with torch.no_grad():
        features = model.vision_tower(inputs["pixel_values"])
        cached = model(input_ids=ids, vision_features=features, landmarks=inputs["landmarks"]).logits
        close(cached, model(input_ids=ids, **inputs).logits, 0.0)


@pytest.mark.parametrize("vision", ["clip", "experts"])
def test_generation_sees_the_face_once_and_the_cache_changes_nothing(vision):
    model = build(**({"vision": EXPERT_VISION} if vision == "experts" else {}))
    ids, inputs = prompt(model.config), visual_inputs(model.config)
    looks = []
    model.vision_tower.register_forward_hook(lambda *_: looks.append(1))
    cached = greedy(model, ids, **inputs)
    assert len(looks) == 1
    assert cached.shape == (1, 6)
    assert cached.tolist() == greedy(model, ids, **inputs, use_cache=False).tolist()
    assert len(looks) == 1 + 6
    text_only = model.language_model.generate(
        inputs_embeds=model.embed(ids, model.encode_visual(**inputs).tokens), max_new_tokens=6, do_sample=False
    )
    assert cached.tolist() == text_only.tolist()


def test_left_padded_batch_generates_as_single_rows():
    model = build()
    inputs = visual_inputs(model.config, batch=2)
    long, short = prompt(model.config, text=(5, 6, 7, 8, 9)), prompt(model.config, text=(11, 12))
    ids = torch.cat([long, torch.cat([torch.full((1, 3), 2), short], dim=1)])
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    both = model.generate(input_ids=ids, attention_mask=mask, **inputs, max_new_tokens=6, do_sample=False)
    for row, alone in enumerate((long, short)):
        own = {name: value[row : row + 1] for name, value in inputs.items()}
        assert both[row, ids.shape[1] :].tolist() == greedy(model, alone, **own)[0].tolist()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("vision", ["clip", "experts"])
def test_save_and_load(tmp_path, vision, tied):
    parts = {"vision": EXPERT_VISION} if vision == "experts" else {}
    model = build(text={"tie_word_embeddings": tied}, **parts)
    if vision == "experts":
        model.vision_tower.map_std.uniform_(0.5, 2)
    facellava.model.register()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert type(loaded) is FaceLlavaForConditionalGeneration
    ids, inputs = prompt(model.config, 3), visual_inputs(model.config, 3)
    with torch.no_grad():
        # Not 0: where a tensor lies in memory decides how it is summed.
        close(loaded(input_ids=ids, **inputs).logits, model(input_ids=ids, **inputs).logits, 1e-6)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    table, head = loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight
    assert (table.data_ptr() == head.data_ptr()) == tied


def test_maps_of_experts_are_standardised_and_projected():
    model = build(vision=EXPERT_VISION)
    inputs = visual_inputs(model.config, 3)
    model.vision_tower.map_mean.fill_(1.0)
    model.vision_tower.map_std.fill_(0.5)
    with torch.no_grad():
        seen = model.encode_visual(**inputs, need_attention=True)
        by_hand = model.projector(((inputs["vision_features"] - 1) * 2).clamp(-4, 4))
        fused, _ = model._fuse(by_hand, inputs["landmarks"], None, False)
    assert seen.tokens.shape == (1, 27, DIM) and model.num_visual_tokens(3) == 27
    close(seen.tokens, fused.flatten(1, 2), 1e-6)
    assert seen.attention.shape == (1, 3, 8, 9, 9)
    with pytest.raises(ValueError, match="needs vision_features, and no pixel_values"):
        model.encode_visual(pixel_values=torch.zeros(1, 3, 3, 12, 12), landmarks=inputs["landmarks"])


def test_pooled_frames_are_the_mean_of_the_frames():
    model, pooled = build(vision=EXPERT_VISION), build(vision=EXPERT_VISION, pool_frames=True)
    pooled.load_state_dict(model.state_dict())
    inputs = visual_inputs(model.config, 3)
    with torch.no_grad():
        every = model.encode_visual(**inputs).tokens.unflatten(1, (3, EXPERT_GRID**2))
        close(pooled.encode_visual(**inputs).tokens, every.mean(1), 1e-6)
    assert pooled.num_visual_tokens(3) == pooled.num_visual_tokens(1) == EXPERT_GRID**2
    assert greedy(pooled, prompt(pooled.config, 3), **inputs).shape == (1, 6)


def test_other_language_models():
    text = {"model_type": "qwen2", "hidden_size": DIM, "num_attention_heads": 4, "layer_types": None}
    model = build(text=text)
    assert type(model.language_model).__name__ == "Qwen2ForCausalLM"
    assert greedy(model, prompt(model.config), **visual_inputs(model.config)).shape == (1, 6)


def test_logits_to_keep():
    model = build()
    with torch.no_grad():
        out = model(input_ids=prompt(model.config), **visual_inputs(model.config), logits_to_keep=1)
    assert out.logits.shape == (1, 1, VOCABULARY)


def test_new_layers_start_at_pytorchs_scale_and_loaded_ones_stay(tmp_path):
    torch.manual_seed(0)
    baseline = FaceLlavaForConditionalGeneration(tiny_config(fusion=TABLE_6["baseline"]))
    baseline.save_pretrained(tmp_path)
    started = FaceLlavaForConditionalGeneration.from_pretrained(tmp_path, config=tiny_config())
    for name, value in baseline.state_dict().items():
        assert torch.equal(started.state_dict()[name], value), name
    brow = started.frlp.regions["left_brow"].weight  # uniform within 1 / sqrt(10 inputs)
    assert brow.abs().max() <= 10**-0.5
    assert 0.15 < brow.std() < 0.22
    assert started.frgca.out.weight.std() > 0.08
