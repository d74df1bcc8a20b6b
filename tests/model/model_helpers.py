"""Helpers that the model's tests import: tolerances, tiny configurations, tiny inputs, a byte tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from facellava.model.config import ClipVisionConfig, ExpertVisionConfig, FaceLlavaConfig, FusionConfig
from facellava.types import FaceClip, Quality, Source

VOCABULARY = 300
PLACEHOLDER = VOCABULARY  # outside the vocabulary, as Vicuna's 32000
DIM = 32
TINY_VISION = ClipVisionConfig(width=16, layers=2, heads=2, mlp=32, patch=4, image_size=12, frames=3)
EXPERT_WIDTH, EXPERT_GRID = 12, 3
EXPERT_VISION = ExpertVisionConfig(EXPERT_WIDTH, EXPERT_GRID, frames=3)


def close(actual: Tensor, expected: Tensor, atol: float) -> None:
    """Largest difference within ``atol``, nothing relative."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0.0)


def tiny_config(**parts: Any) -> FaceLlavaConfig:
    """CLIP-type towers of 9 patches and a two-layer LLaMA of width 32."""
    text = {
        "model_type": "llama",
        "hidden_size": DIM,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
    }
    text |= parts.pop("text", {})
    settings = {"vision": TINY_VISION, "fusion": FusionConfig(), "image_token_id": PLACEHOLDER}
    return FaceLlavaConfig(**{**settings, **parts}, text_config=text)


def visual_inputs(config: FaceLlavaConfig, frames: int = 1, batch: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Random visual inputs of the kinds that the configuration needs."""
    g = torch.Generator().manual_seed(seed)
    if config.vision.kind == "experts":
        inputs = {"vision_features": torch.randn(batch, frames, EXPERT_GRID**2, EXPERT_WIDTH, generator=g)}
    else:
        inputs = {"pixel_values": torch.randn(batch, frames, 3, 12, 12, generator=g)}
    if config.fusion.uses_landmarks:
        inputs["landmarks"] = torch.rand(batch, frames, 68, 2, generator=g)
    if config.fusion.expert == "face_parsing":
        inputs["parsing_values"] = torch.randn(batch, frames, 3, 12, 12, generator=g)
    return inputs


def prompt(config: FaceLlavaConfig, frames: int = 1, text: tuple[int, ...] = (5, 6, 7)) -> Tensor:
    """One row of ids: a start, the placeholders, some text."""
    return torch.tensor([[1, *[config.image_token_id] * config.num_visual_tokens(frames), *text]])


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte and the chat marks: any text, no downloads."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|im_end|>")


def face_clip(frames: int = 1, seed: int = 0, margin: float = 0.0) -> FaceClip:
    """A clip of random pixels and points."""
    rng = np.random.default_rng(seed)
    return FaceClip(
        frames=rng.integers(0, 256, (frames, 256, 256, 3), dtype=np.uint8),
        landmarks=rng.random((frames, 68, 2), dtype=np.float32),
        blendshapes=rng.random((frames, 52), dtype=np.float32),
        boxes=np.zeros((frames, 4), np.float32),
        times=np.arange(frames, dtype=np.float64),
        face_id=0,
        quality=Quality(256, 100, 0, 0, 0, 1),
        source=Source("0" * 64, 25.0, 1.0),
        margin=margin,
    )
