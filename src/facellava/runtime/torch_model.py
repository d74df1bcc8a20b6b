"""The shipped default as a transformers model: the same weights as the ONNX engine, for any torch device.

Needs the ``torch`` extra.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast

from facellava.model import experts
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig, FusionConfig, Kind
from facellava.model.decoder_config import DecoderConfig
from facellava.model.expert_report import ExpertHead
from facellava.model.gguf_weights import LanguageModelFile, read_gguf
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.runtime.build import DEFAULT_MODEL, ModelCard, merge_lora, read_delta


def text_config(sizes: DecoderConfig) -> LlamaConfig:
    """The base language model's sizes as transformers writes them."""
    return LlamaConfig(
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.num_attention_heads,
        num_key_value_heads=sizes.num_key_value_heads,
        vocab_size=sizes.vocab_size,
        rms_norm_eps=sizes.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        max_position_embeddings=sizes.max_position_embeddings,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )


def expert_config(
    sizes: DecoderConfig, *, fusion: Kind, heads: int, placeholder: int, margin: float
) -> FaceLlavaConfig:
    """Configuration of a model that looks through the face experts."""
    vision = ExpertVisionConfig(width=experts.MAP_WIDTH, grid=experts.GRID)
    landmarks = "none" if fusion == "none" else "cross_attention"
    return FaceLlavaConfig(
        vision=vision,
        fusion=FusionConfig(kind=fusion, landmarks=landmarks, heads=heads),
        text_config=text_config(sizes),
        image_token_id=placeholder,
        crop_margin=margin,
        pool_frames=True,
    )


def load_base(model: FaceLlavaForConditionalGeneration, base: LanguageModelFile, weights: dict | None = None) -> None:
    """Put a GGUF language model's weights (or ``weights`` under the same names) into ``model.language_model``."""
    state = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in (weights or base.weights).items()}
    report = model.language_model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys and set(report.missing_keys) <= {"lm_head.weight"}, report


def load_torch(
    resolve: Callable[[str], Path], source: Path = DEFAULT_MODEL
) -> tuple[FaceLlavaForConditionalGeneration, FaceLlavaProcessor]:
    """The trained model and its processor in float32 on the CPU; move it where you like.

    Args:
        resolve: registered weight name -> local path (``facellava.weights.resolve``).
        source: folder with ``delta.safetensors``, ``head.safetensors``, ``model.json``.
    """
    card = ModelCard.read(source)
    base = read_gguf(resolve(card.base))
    delta = read_delta(source)
    config = expert_config(
        base.config, fusion="paper", heads=card.heads, placeholder=card.placeholder, margin=card.crop_margin
    )
    model = FaceLlavaForConditionalGeneration(config)
    load_base(model, base, merge_lora(base.weights, delta, card.lora_scale))
    own = {k: torch.from_numpy(v) for k, v in delta.items() if not k.startswith("language_model")}
    report = model.load_state_dict(own, strict=False)
    missing = [k for k in report.missing_keys if not k.startswith("language_model")]
    assert not report.unexpected_keys and not missing, f"{report.unexpected_keys} {missing}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base.tokenizer, eos_token=card.stop, pad_token=card.stop, clean_up_tokenization_spaces=False
    )
    encoder, head = experts.ExpertEncoder(resolve), ExpertHead.load(source)
    processor = FaceLlavaProcessor(tokenizer, config, encoder=encoder, head=head)
    return model.eval(), processor
