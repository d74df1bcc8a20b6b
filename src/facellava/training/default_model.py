"""Assembles the small default for training: base language model from GGUF, LoRA, expert tower, projector, FRLP, FRGCA."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from facellava.model import experts
from facellava.model.expert_spec import ExpertSpec
from facellava.model.expert_tower import ExpertVisionTower
from facellava.model.frgca import FaceRegionGuidedCrossAttention
from facellava.model.frlp import FaceRegionLandmarkProjector
from facellava.model.gguf_weights import LanguageModelFile
from facellava.model.projector import VisionProjector
from facellava.runtime.build import word_rows

RANK, ALPHA = 16, 32
HEADS = 8
PLACEHOLDER = 0
"""``<|endoftext|>``: never part of a conversation, so it can stand for visual tokens."""


class Visual(NamedTuple):
    """tokens (B, V, D)."""

    tokens: Tensor


class DefaultModel(nn.Module):
    """The modules of the default, called the way its training needs (held-out heads, dropped words)."""

    def __init__(self, spec: ExpertSpec, base: LanguageModelFile, fusion: str = "paper") -> None:
        super().__init__()
        dim = base.config.hidden_size
        self.vision_tower = ExpertVisionTower(
            spec, experts.N_VALUES, experts.MAP_WIDTH, experts.N_PATCHES, dim
        )
        self.projector = VisionProjector(experts.MAP_WIDTH, dim)
        self.frlp = FaceRegionLandmarkProjector(dim)
        self.frgca = FaceRegionGuidedCrossAttention(dim, HEADS, fusion, grid=experts.GRID)
        self.language_model = language_model(base)

    def num_visual_tokens(self, frames: int) -> int:
        return self.vision_tower.num_tokens + frames * experts.N_PATCHES

    def encode_visual(
        self, vision_features: Tensor, landmarks: Tensor, expert_values: Tensor, fold: Tensor, drop_words: Tensor
    ) -> Visual:
        """Shapes as in ``FaceLlavaForConditionalGeneration``; fold (B,), drop_words bool (B,)."""
        seen = self.vision_tower(vision_features, expert_values, fold)
        words = torch.where(drop_words[:, None, None], self.vision_tower.words.slots[None], seen.tokens)
        fused = self.frgca(self.projector(seen.maps), self.frlp(landmarks), landmarks).visual
        return Visual(torch.cat([words, fused.flatten(1, 2)], 1))

    def embed(self, ids: Tensor, visual: Tensor) -> Tensor:
        """Word embeddings with visual tokens in place of the placeholders."""
        embeds = self.language_model.get_input_embeddings()(ids)
        first = int((ids[0] == PLACEHOLDER).float().argmax())
        # Every conversation opens with the same prefix, so the visual block has one place for the whole batch.
        return torch.cat([embeds[:, :first], visual, embeds[:, first + visual.shape[1] :]], 1)


def language_model(base: LanguageModelFile) -> LlamaForCausalLM:
    """The base as a transformers model, in float32, with its GGUF weights."""
    c = base.config
    config = LlamaConfig(
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        vocab_size=c.vocab_size,
        rms_norm_eps=c.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        max_position_embeddings=c.max_position_embeddings,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    report = model.load_state_dict({k: torch.from_numpy(v) for k, v in base.weights.items()}, strict=False)
    assert not report.unexpected_keys and set(report.missing_keys) <= {"lm_head.weight"}, report
    model.config.use_cache = False
    return model


def build_default(
    spec: ExpertSpec, base: LanguageModelFile, *, lora_targets: list[str], fusion: str = "paper"
) -> DefaultModel:
    """The default before training: words in place, projector at the scale of word embeddings, LoRA at zero."""
    model = DefaultModel(spec, base, fusion)
    with torch.no_grad():
        model.vision_tower.words.words.copy_(torch.from_numpy(word_rows(spec, base)))
        # Word embeddings are small (standard deviation about 0.1); tokens that shout are hard to unlearn.
        scale = model.language_model.get_input_embeddings().weight.std()
        model.projector.second.weight.mul_(scale)
        model.vision_tower.words.summary.weight.mul_(scale)
        if fusion != "none":
            model.frgca.out.weight.mul_(scale)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=lora_targets, lora_dropout=0.0)
    inject_adapter_in_model(lora, model.language_model)
    return model


def tokenize_with(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Ids of a piece of text, without special tokens added."""
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
