"""Assembles the small default for training: base from GGUF, LoRA, expert tower, projector, FRLP, FRGCA."""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import LoraConfig, inject_adapter_in_model
from tokenizers import Tokenizer

from facellava.model.config import Kind
from facellava.model.expert_spec import ExpertSpec
from facellava.model.gguf_weights import LanguageModelFile
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.runtime.build import CROP_MARGIN, word_rows
from facellava.runtime.torch_model import expert_config, load_base

RANK, ALPHA = 16, 32
HEADS = 8
PLACEHOLDER = 0
"""``<|endoftext|>``: never part of a conversation, so it can stand for visual tokens."""


def build_default(
    spec: ExpertSpec, base: LanguageModelFile, *, lora_targets: list[str], fusion: Kind = "paper"
) -> FaceLlavaForConditionalGeneration:
    """The default before training: words in place, projector at the scale of word embeddings, LoRA at zero."""
    config = expert_config(spec, base.config, fusion=fusion, heads=HEADS, placeholder=PLACEHOLDER, margin=CROP_MARGIN)
    model = FaceLlavaForConditionalGeneration(config)
    load_base(model, base)
    with torch.no_grad():
        words = model.vision_tower.get_submodule("words")
        words.get_buffer("words").copy_(torch.from_numpy(word_rows(spec, base)))
        # Word embeddings are small (standard deviation about 0.1); tokens that shout are hard to unlearn.
        scale = model.get_input_embeddings().get_parameter("weight").std()
        model.projector.get_parameter("second.weight").mul_(scale)
        words.get_parameter("summary.weight").mul_(scale)
        if fusion != "none":
            model.frgca.get_parameter("out.weight").mul_(scale)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=lora_targets, lora_dropout=0.0)
    inject_adapter_in_model(lora, model.language_model)
    return model


def tokenize_with(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Ids of a piece of text, without special tokens added."""
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
