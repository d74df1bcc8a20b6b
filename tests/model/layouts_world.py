"""Tiny checkpoints with exactly the names that the real ones have, written out here a second time on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from model_helpers import byte_tokenizer
from safetensors.torch import save_file
from torch import Tensor

DIM, MLP, BLOCKS, WORDS, PADDED = 32, 48, 2, 258, 320
WIDTH, TOWER_MLP, LAYERS, FRAMES = 16, 24, 3, 8
VISION = {"width": WIDTH, "mlp": TOWER_MLP, "layers": LAYERS, "heads": 2, "patch": 4, "image_size": 8, "frames": FRAMES}
TEXT = {
    "hidden_size": DIM,
    "intermediate_size": MLP,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": WORDS,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}
REGIONS = {"face": 34, "eyebrow1": 10, "eyebrow2": 10, "nose": 8, "nostril": 10, "eye1": 12, "eye2": 12, "lips": 24,
           "teeth": 16}  # fmt: skip
Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]


def linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def language(base: str = "model.", head: str = "lm_head.", words: int = WORDS, rotary: bool = True) -> Shapes:
    shapes: Shapes = {f"{base}embed_tokens.weight": (words, DIM), f"{base}norm.weight": (DIM,)}
    shapes |= {f"{head}weight": (words, DIM)}
    for i in range(BLOCKS):
        p = f"{base}layers.{i}."
        shapes |= {f"{p}self_attn.{x}_proj.weight": (DIM, DIM) for x in "qkvo"}
        shapes |= {f"{p}mlp.{x}_proj.weight": (MLP, DIM) for x in ("gate", "up")}
        shapes |= {f"{p}mlp.down_proj.weight": (DIM, MLP)}
        shapes |= {f"{p}{x}_layernorm.weight": (DIM,) for x in ("input", "post_attention")}
        if rotary:
            shapes[f"{p}self_attn.rotary_emb.inv_freq"] = (DIM // 8,)
    return shapes


def tower(p: str, temporal: bool = False) -> Shapes:
    shapes: Shapes = {
        f"{p}embeddings.class_embedding": (WIDTH,),
        f"{p}embeddings.position_embedding.weight": (5, WIDTH),
    }
    shapes |= {f"{p}embeddings.patch_embedding.weight": (WIDTH, 3, 4, 4)}
    shapes |= norm(f"{p}pre_layrnorm", WIDTH) | norm(f"{p}post_layernorm", WIDTH)
    for i in range(LAYERS):
        layer = f"{p}encoder.layers.{i}."
        for attention in ["self_attn", "temporal_attn"][: 1 + temporal]:
            for x in ("q", "k", "v", "out"):
                shapes |= linear(f"{layer}{attention}.{x}_proj", WIDTH, WIDTH)
        shapes |= norm(f"{layer}layer_norm1", WIDTH) | norm(f"{layer}layer_norm2", WIDTH)
        shapes |= linear(f"{layer}mlp.fc1", TOWER_MLP, WIDTH) | linear(f"{layer}mlp.fc2", WIDTH, TOWER_MLP)
        if temporal:
            shapes |= norm(f"{layer}temporal_layer_norm1", WIDTH) | {f"{layer}temporal_embedding": (1, FRAMES, WIDTH)}
    return shapes


def original(temporal: bool = True) -> Shapes:
    shapes = language() | tower("model.image_tower.image_tower.")
    shapes |= tower("model.video_tower.video_tower.", temporal)
    return shapes | linear("model.mm_projector.0", DIM, WIDTH) | linear("model.mm_projector.2", DIM, DIM)


def official(masked: bool = False, temporal: bool = True) -> Shapes:
    shapes = original(temporal)
    for name, size in REGIONS.items():
        shapes |= linear(f"model.landmarks_projector.region_layers.{name}", DIM, size)
    shapes |= linear("model.global_landmarks_projector", DIM, 136)
    p = "model.landmarks_cross_attn."
    if masked:
        for x in "qkv":
            shapes |= linear(f"{p}cross_attn.{x}_proj", DIM, DIM)
    else:
        shapes |= {f"{p}cross_attn.attn.in_proj_weight": (3 * DIM, DIM), f"{p}cross_attn.attn.in_proj_bias": (3 * DIM,)}
        shapes |= linear(f"{p}cross_attn.attn.out_proj", DIM, DIM)
    return shapes | linear(f"{p}linear_proj", DIM, DIM) | norm(f"{p}cross_attn.ln", DIM) | norm(f"{p}ln", DIM)


def hub(outer: str = "", inner: str = "vision_model.") -> Shapes:
    base, head = (
        ("model.language_model.", "lm_head.") if outer else ("language_model.model.", "language_model.lm_head.")
    )
    shapes = language(base, head, PADDED, rotary=False)
    shapes |= tower(f"{outer}image_tower.{inner}") | tower(f"{outer}video_tower.{inner}")
    p = f"{outer}multi_modal_projector.linear_"
    return shapes | linear(f"{p}1", DIM, WIDTH) | linear(f"{p}2", DIM, DIM)


def languagebind(temporal: bool) -> Shapes:
    shapes = tower("vision_model.", temporal) | {"text_model.final_layer_norm.weight": (8,), "logit_scale": ()}
    return shapes | {"visual_projection.weight": (8, WIDTH), "text_projection.weight": (8, 8)}


def llava(outer: str = "") -> Shapes:
    base, head = (
        ("model.language_model.", "lm_head.") if outer else ("language_model.model.", "language_model.lm_head.")
    )
    shapes = language(base, head, rotary=False) | tower(f"{outer}vision_tower.vision_model.")
    return shapes | linear(f"{outer}multi_modal_projector.linear_1", DIM, WIDTH)


TOP = {"model_type": "llava", **TEXT, "mm_hidden_size": WIDTH, "use_mm_proj": True, "torch_dtype": "float16"}
TOWERS_OF_HUB = {"hidden_size": WIDTH, "intermediate_size": TOWER_MLP, "num_hidden_layers": LAYERS, "patch_size": 4,
                 "num_attention_heads": 2, "image_size": 8, "hidden_act": "gelu"}  # fmt: skip
HUB = {
    "model_type": "video_llava",
    "text_config": {"model_type": "llama", **TEXT, "vocab_size": PADDED, "pad_token_id": 0},
    "vision_config": {"model_type": "clip_vision_model", **TOWERS_OF_HUB},
    "image_token_index": WORDS,
    "video_token_index": WORDS + 1,
}
LLAVA = {"model_type": "llava", "text_config": {"model_type": "llama", **TEXT}, "vision_config": {}}

WORLD: dict[str, tuple[Shapes, dict[str, Any]]] = {
    "official": (official(), TOP),
    "official-masked": (official(masked=True), TOP),
    "video-llava": (original(), TOP),
    "video-llava-hub": (hub(), HUB),
    "video-llava-hub-5": (hub(inner=""), HUB),
    "video-llava-memory": (hub("model.", ""), HUB),
    "video-llava-memory-4": (hub("model."), HUB),
    "llava": (llava(), LLAVA),
    "llava-memory": (llava("model."), LLAVA),
    "causal-lm": (language(), {"model_type": "llama", **TEXT}),
    "languagebind-image": (languagebind(False), {}),
    "languagebind-video": (languagebind(True), {}),
    "tower-image": (tower(""), {}),
    "tower-video": (tower("", True), {}),
}
NO_MODEL = ("languagebind-image", "languagebind-video", "tower-image", "tower-video")
MODELS = tuple(name for name in WORLD if name not in NO_MODEL)


def state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0, dtype: torch.dtype = torch.float32) -> State:
    """Random tensors; norms near one, everything small."""
    g = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=g) * 0.1 for name, shape in shapes.items()}
    made = {name: value + 1 if "norm" in name and name.endswith("weight") else value for name, value in made.items()}
    return {name: value.to(dtype) for name, value in made.items()}


def write(folder: Path, tensors: State, config: Mapping[str, Any], tokenizer: bool = False) -> Path:
    """A folder as a checkpoint of safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return folder


def checkpoint(folder: Path, name: str, tokenizer: bool = False, seed: int = 0) -> Path:
    """A tiny checkpoint of a layout."""
    shapes, config = WORLD[name]
    return write(folder, state(shapes, seed), config, tokenizer)


def index_of(files: Mapping[str, State], name: str = "model.safetensors") -> str:
    """The index of shards."""
    return json.dumps({"metadata": {}, "weight_map": {key: file for file, part in files.items() for key in part}})
