"""Sizes of a LLaMA-family decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of a LLaMA-family decoder; names follow transformers' ``LlamaConfig``."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rope_theta: float
    rms_norm_eps: float
    max_position_embeddings: int = 2048

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)
