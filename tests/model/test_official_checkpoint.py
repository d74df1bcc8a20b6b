"""The official checkpoint's 1,403 names and shapes fill our full-size model exactly (real weights were not at hand)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facellava.model.config import ClipVisionConfig, FaceLlavaConfig, FusionConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.official_keys import model_state

_BROW, _EYE = 10, 12
REGION_INPUTS = {"face": 34, "eyebrow1": _BROW, "eyebrow2": _BROW, "nose": 8, "nostril": 10}
REGION_INPUTS |= {"eye1": _EYE, "eye2": _EYE, "lips": 24, "teeth": 16}
Shapes = dict[str, tuple[int, ...]]


def linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def language_model() -> Shapes:
    shapes: Shapes = {"model.embed_tokens.weight": (32000, 4096), "model.norm.weight": (4096,),
                      "lm_head.weight": (32000, 4096)}  # fmt: skip
    for i in range(32):
        p = f"model.layers.{i}."
        shapes |= {f"{p}self_attn.{x}_proj.weight": (4096, 4096) for x in "qkvo"}
        shapes |= {f"{p}mlp.{x}_proj.weight": (11008, 4096) for x in ("gate", "up")}
        shapes |= {f"{p}mlp.down_proj.weight": (4096, 11008), f"{p}self_attn.rotary_emb.inv_freq": (64,)}
        shapes |= {f"{p}{x}_layernorm.weight": (4096,) for x in ("input", "post_attention")}
    return shapes


def tower(kind: str) -> Shapes:
    p = f"model.{kind}_tower.{kind}_tower."
    shapes: Shapes = {f"{p}embeddings.class_embedding": (1024,)}
    shapes |= {f"{p}embeddings.patch_embedding.weight": (1024, 3, 14, 14)}
    shapes |= {f"{p}embeddings.position_embedding.weight": (257, 1024)}
    shapes |= norm(f"{p}pre_layrnorm", 1024) | norm(f"{p}post_layernorm", 1024)
    for i in range(24):
        layer = f"{p}encoder.layers.{i}."
        attentions = ["self_attn"] + (["temporal_attn"] if kind == "video" else [])
        for attention in attentions:
            for x in ("q", "k", "v", "out"):
                shapes |= linear(f"{layer}{attention}.{x}_proj", 1024, 1024)
        shapes |= norm(f"{layer}layer_norm1", 1024) | norm(f"{layer}layer_norm2", 1024)
        shapes |= linear(f"{layer}mlp.fc1", 4096, 1024) | linear(f"{layer}mlp.fc2", 1024, 4096)
        if kind == "video":
            shapes |= norm(f"{layer}temporal_layer_norm1", 1024) | {f"{layer}temporal_embedding": (1, 8, 1024)}
    return shapes


def landmark_modules() -> Shapes:
    shapes = linear("model.mm_projector.0", 4096, 1024) | linear("model.mm_projector.2", 4096, 4096)
    for name, size in REGION_INPUTS.items():
        shapes |= linear(f"model.landmarks_projector.region_layers.{name}", 4096, size)
    shapes |= linear("model.global_landmarks_projector", 4096, 136)
    p = "model.landmarks_cross_attn."
    shapes |= {f"{p}cross_attn.attn.in_proj_weight": (12288, 4096), f"{p}cross_attn.attn.in_proj_bias": (12288,)}
    shapes |= linear(f"{p}cross_attn.attn.out_proj", 4096, 4096) | linear(f"{p}linear_proj", 4096, 4096)
    return shapes | norm(f"{p}cross_attn.ln", 4096) | norm(f"{p}ln", 4096)


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def full_size() -> FaceLlavaForConditionalGeneration:
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32000}  # fmt: skip
    config = FaceLlavaConfig(
        vision=ClipVisionConfig(video_cls=True, pixels="official"),
        fusion=FusionConfig(kind="official_simple"),
        text_config=text,
    )
    with torch.device("meta"):
        return FaceLlavaForConditionalGeneration(config)


def test_every_name_and_shape_finds_its_place(full_size):
    theirs = language_model() | tower("image") | tower("video") | landmark_modules()
    assert len(theirs) == 1403
    ours = {name: tuple(value.shape) for name, value in model_state(on_meta(theirs)).items()}
    assert ours == {name: tuple(value.shape) for name, value in full_size.state_dict().items()}


def test_new_parameters_number_what_the_release_has(full_size):
    count = sum(p.numel() for part in (full_size.frlp, full_size.frgca) for p in part.parameters())
    assert count == 85_078_016 - 2 * 4096  # without the outer norm that has no effect
