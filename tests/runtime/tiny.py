"""A language model and a trained difference small enough for tests, in exactly the shipped file formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray
from safetensors.numpy import save_file

from facellava.model import experts
from facellava.model.decoder_config import DecoderConfig
from facellava.model.decoder_onnx import layer_names
from facellava.model.expert_report import FILE as HEAD_FILE
from facellava.model.expert_report import ExpertHead, HeadSpec
from facellava.model.regions import REGIONS
from facellava.runtime.report import head_spec

DIM, INNER, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
ALPHABET = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ", "ĠĠ"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = SPECIAL + ALPHABET
FOLDS = 2


def config() -> DecoderConfig:
    return DecoderConfig(DIM, INNER, LAYERS, HEADS, KV_HEADS, len(TOKENS), 10000.0, 1e-5, 512)


def spec() -> HeadSpec:
    return head_spec({"expression", "deepfake", "age", "AU12", "Smiling"})


def language_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights under Hugging Face names."""
    rng = np.random.default_rng(seed)
    shapes = {"embed_tokens": (len(TOKENS), DIM), "q_proj": (DIM, DIM), "o_proj": (DIM, DIM)}
    shapes |= dict.fromkeys(("k_proj", "v_proj"), (DIM * KV_HEADS // HEADS, DIM))
    shapes |= {"gate_proj": (INNER, DIM), "up_proj": (INNER, DIM), "down_proj": (DIM, INNER)}
    weights = {}
    for name in layer_names(config()):
        part = name.split(".")[-2]
        shape = shapes.get(part, (DIM,))
        scale = 0.2 if len(shape) == 2 else 0.1
        weights[name] = (rng.normal(0, scale, shape) + (len(shape) == 1)).astype(np.float32)
    return weights


def interleave(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF's order of query and key rows: pairs (i, i + d/2) of a head stand beside each other."""
    out = np.empty_like(weight)
    d = len(weight) // heads
    for h in range(heads):
        for i in range(d // 2):
            out[h * d + 2 * i] = weight[h * d + i]
            out[h * d + 2 * i + 1] = weight[h * d + d // 2 + i]
    return out


def write_gguf(path: Path, weights: dict[str, NDArray[np.float32]]) -> Path:
    """A llama GGUF file as converters write it."""
    c = config()
    writer = GGUFWriter(path, "llama")
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_vocab_size(c.vocab_size)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * len(ALPHABET))
    writer.add_token_merges(["Ġ Ġ"])
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    names |= {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, array in weights.items():
        parts = name.split(".")
        if parts[1] == "layers":
            target = f"blk.{parts[2]}.{names[parts[-2]]}.weight"
        else:
            target = {"embed_tokens": "token_embd.weight", "norm": "output_norm.weight"}[parts[1]]
        if parts[-2] == "q_proj":
            array = interleave(array, HEADS)
        if parts[-2] == "k_proj":
            array = interleave(array, KV_HEADS)
        writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def delta(seed: int = 1) -> dict[str, NDArray[np.float32]]:
    """Random weights of everything that is trained, under the torch modules' names."""
    rng = np.random.default_rng(seed)
    out: dict[str, NDArray[np.float32]] = {}

    def linear(name: str, n: int, k: int) -> None:
        out[f"{name}.weight"] = rng.normal(0, k**-0.5, (n, k)).astype(np.float32)
        out[f"{name}.bias"] = rng.normal(0, 0.1, n).astype(np.float32)

    linear("projector.first", DIM, experts.MAP_WIDTH)
    linear("projector.second", DIM, DIM)
    for region in REGIONS:
        linear(f"frlp.regions.{region.name}", DIM, 2 * region.size)
    linear("frlp.whole", DIM, 136)
    for part in ("query", "key", "value", "out"):
        linear(f"frgca.{part}", DIM, DIM)
    out["vision_tower.map_mean"] = rng.normal(0, 1, experts.MAP_WIDTH).astype(np.float32)
    out["vision_tower.map_std"] = rng.uniform(0.5, 2, experts.MAP_WIDTH).astype(np.float32)
    lora = "language_model.model.layers.0.self_attn.q_proj"
    out[f"{lora}.lora_A.default.weight"] = rng.normal(0, 0.1, (4, DIM)).astype(np.float32)
    out[f"{lora}.lora_B.default.weight"] = rng.normal(0, 0.1, (DIM, 4)).astype(np.float32)
    return out


def head(seed: int = 2) -> ExpertHead:
    """Random networks over the experts' real sizes."""
    rng = np.random.default_rng(seed)
    s, arrays = spec(), {}
    for name, size in (("map", experts.MAP_WIDTH), ("value", experts.N_VALUES)):
        arrays[f"{name}_mean"] = rng.normal(0, 1, size).astype(np.float32)
        arrays[f"{name}_std"] = rng.uniform(0.5, 2, size).astype(np.float32)
    shapes = {
        "patches": (12, experts.MAP_WIDTH),
        "regions": (8, experts.MAP_WIDTH),
        "hidden": (16, experts.N_VALUES + 12 * experts.N_PATCHES + 8 * len(REGIONS)),
        "out": (s.n_outputs, 16),
        "skip": (s.n_outputs, experts.N_VALUES),
    }
    for f in range(FOLDS):
        for part, (n, k) in shapes.items():
            arrays[f"heads.{f}.{part}.weight"] = rng.normal(0, k**-0.5, (n, k)).astype(np.float32)
            arrays[f"heads.{f}.{part}.bias"] = rng.normal(0, 0.1, n).astype(np.float32)
    return ExpertHead(s, arrays)


def write_model(folder: Path) -> Path:
    """A shipped-model folder."""
    folder.mkdir(parents=True)
    save_file(delta(), folder / "delta.safetensors")
    head().save(folder / HEAD_FILE)
    card = {
        "name": "tiny",
        "base": "tiny-base",
        "crop_margin": 0.6,
        "heads": 8,
        "grid": experts.GRID,
        "lora_scale": 2.0,
        "placeholder": 0,
        "stop": "<|im_end|>",
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder
