"""A language model and a trained difference small enough for tests, in exactly the shipped file formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray
from safetensors.numpy import save_file

from facellava.model import experts
from facellava.model.decoder_onnx import DecoderConfig, layer_names
from facellava.model.expert_spec import ExpertSpec, binary, number, single
from facellava.model.regions import REGIONS

DIM, INNER, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
ALPHABET = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ", "ĠĠ"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = SPECIAL + ALPHABET
FOLDS = 2


def config() -> DecoderConfig:
    return DecoderConfig(DIM, INNER, LAYERS, HEADS, KV_HEADS, len(TOKENS), 10000.0, 1e-5, 512)


def spec() -> ExpertSpec:
    labels = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    return ExpertSpec(
        (
            single("expression", [f" {x}" for x in labels], [10, 11], [12]),
            single("deepfake", [" real", " fake"]),
            number("age", 100, [13], [14, 15]),
            binary("AU12", [16, 17, 18]),
            binary("Smiling", [19]),
        )
    )


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
    s = spec()
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
    out["vision_tower.value_mean"] = rng.normal(0, 1, experts.N_VALUES).astype(np.float32)
    out["vision_tower.value_std"] = rng.uniform(0.5, 2, experts.N_VALUES).astype(np.float32)
    for f in range(FOLDS):
        head = f"vision_tower.heads.{f}"
        linear(f"{head}.squeeze", 12, experts.MAP_WIDTH)
        linear(f"{head}.hidden", 160, experts.N_VALUES + 12 * experts.N_PATCHES)
        linear(f"{head}.out", s.n_outputs, 160)
        linear(f"{head}.skip", s.n_outputs, experts.N_VALUES)
    out["vision_tower.words.slots"] = rng.normal(0, 0.1, (s.n_tokens, DIM)).astype(np.float32)
    linear("vision_tower.words.summary", DIM, s.n_outputs)
    lora = "language_model.model.layers.0.self_attn.q_proj"
    out[f"{lora}.lora_A.default.weight"] = rng.normal(0, 0.1, (4, DIM)).astype(np.float32)
    out[f"{lora}.lora_B.default.weight"] = rng.normal(0, 0.1, (DIM, 4)).astype(np.float32)
    return out


def write_model(folder: Path) -> Path:
    """A shipped-model folder."""
    folder.mkdir(parents=True)
    save_file(delta(), folder / "delta.safetensors")
    spec().save(folder / "expert.json")
    card = {
        "name": "tiny",
        "base": "tiny-base",
        "crop_margin": 0.6,
        "heads": 8,
        "grid": experts.GRID,
        "lora_scale": 2.0,
        "placeholder": 0,
        "stop": "<|im_end|>",
        "untrained": {"action_units": [], "attributes": []},
        "thresholds": {},
        "temperature": {},
        "scored_by": {},
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder
