"""Read a LLaMA-family language model and its tokenizer out of a GGUF file.

GGUF keeps the rows of the query and key projections in the order of interleaved rotary pairs; Hugging Face's layout
(and ONNX Runtime's rotary operator with ``rotary_interleaved=0``) splits each head into two halves. :func:`read_gguf`
puts them back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from facellava.errors import DamagedCheckpoint
from facellava.files import reading
from facellava.model.decoder_config import DecoderConfig

if TYPE_CHECKING:
    from gguf import GGUFReader

_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL = 3
"""GGUF's token type of control tokens such as ``<|im_start|>``."""


class LanguageModelFile(NamedTuple):
    """Sizes, float32 weights under Hugging Face names, and the tokenizer."""

    config: DecoderConfig
    weights: dict[str, NDArray[np.float32]]
    tokenizer: Tokenizer


def _hf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _TOP:
        return f"{_TOP[stem]}.weight"
    _, index, part = stem.split(".", 2)
    return f"model.layers.{index}.{_NAMES[part]}.weight"


def split_rotary_halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head from interleaved pairs (0, 1, 2, 3, ...) to halves (0, 2, ..., 1, 3, ...)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_sizes(path: Path, *, max_positions: int = 2048) -> DecoderConfig:
    """Sizes alone of a ``llama`` GGUF file; no tensor is read.

    Raises:
        DamagedCheckpoint: see :func:`read_gguf`.
    """
    from gguf import GGUFReader

    with _whole(path):
        return _sizes(GGUFReader(path), path.name, max_positions)


def _whole(path: Path) -> AbstractContextManager[None]:
    return reading(path, "get the file again", DamagedCheckpoint)


def _sizes(reader: GGUFReader, name: str, max_positions: int) -> DecoderConfig:
    def field(key: str):
        return reader.fields[key].contents()

    if field("general.architecture") != "llama" or field("tokenizer.ggml.model") != "gpt2":
        raise DamagedCheckpoint(f"{name}: expected a llama GGUF with a byte-level BPE tokenizer")
    return DecoderConfig(
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        vocab_size=field("llama.vocab_size"),
        rope_theta=field("llama.rope.freq_base"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        max_position_embeddings=min(field("llama.context_length"), max_positions),
    )


def read_gguf(path: Path, *, max_positions: int = 2048) -> LanguageModelFile:
    """Dequantise every tensor of a ``llama`` GGUF file (about five seconds for 135 M parameters).

    Raises:
        DamagedCheckpoint: the file is damaged, no ``llama`` model, or its tokenizer is no byte-level BPE.
    """
    from gguf import GGUFReader

    with _whole(path):
        return _read(GGUFReader(path), path.name, max_positions)


def _read(reader: GGUFReader, name: str, max_positions: int) -> LanguageModelFile:
    from gguf.quants import dequantize

    config = _sizes(reader, name, max_positions)
    weights = {}
    for tensor in reader.tensors:
        key = _hf_name(tensor.name)
        array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".q_proj" in key:
            array = split_rotary_halves(array, config.num_attention_heads)
        elif ".k_proj" in key:
            array = split_rotary_halves(array, config.num_key_value_heads)
        weights[key] = array
    return LanguageModelFile(config, weights, read_tokenizer(reader))


def read_tokenizer(reader) -> Tokenizer:
    """The byte-level BPE tokenizer stored in a GGUF file; SmolLM's splits digits one by one."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ", 1)) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL
    ]
    tokenizer.add_special_tokens(special)
    return tokenizer
