"""The face's path of the model without its language model, which vLLM runs in a class of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig

from facellava.model.config import FaceLlavaConfig
from facellava.model.modeling import VISUAL_INPUTS, FaceLlavaForConditionalGeneration
from facellava.vllm_plugin.inputs import SUFFIX, Modality

__all__ = ["PREFIXES", "VisualEncoder", "encode_items", "served_name"]

PREFIXES: Mapping[str, str] = {f"{part}.": f"visual.{part}." for part in ("vision_tower", "projector", "frlp", "frgca")}
"""Start of a tensor's name in our folders -> in the served model; the language model's names stay as they are."""


def served_name(name: str) -> str:
    """Where a tensor of our folders is in the served model."""
    return next((new + name[len(old) :] for old, new in PREFIXES.items() if name.startswith(old)), name)


class VisualEncoder(FaceLlavaForConditionalGeneration):
    """Vision tower, projector, FRLP and FRGCA, with ``encode_visual``; nothing else of the model works."""

    def __init__(self, config: FaceLlavaConfig) -> None:
        super().__init__(_speechless(config))
        del self.language_model


def _speechless(config: FaceLlavaConfig) -> FaceLlavaConfig:
    """The same, with the smallest language model of the same width."""
    words = LlamaConfig(
        hidden_size=config.text_config.hidden_size,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        vocab_size=1,
        bos_token_id=None,
        eos_token_id=None,
    )
    return FaceLlavaConfig(
        vision=config.vision,
        fusion=config.fusion,
        text_config=words,
        image_token_id=config.image_token_id,
        crop_margin=config.crop_margin,
        crop=config.crop,
        pool_frames=config.pool_frames,
    )


@torch.no_grad()
def encode_items(encoder: VisualEncoder, fields: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Visual tokens (v, d) of each item of a batch, in the order of its fields.

    Args:
        fields: as ``inputs.FaceItems`` names them; each a tensor (items, t, ...) or a list of (t, ...). Others are left
            alone.
    """
    order: list[Modality] = []
    for field in fields:
        for modality, suffix in SUFFIX.items():
            if field == f"pixel_values{suffix}" and modality not in order:
                order.append(modality)
    return tuple(tokens for modality in order for tokens in _encode(encoder, fields, SUFFIX[modality]))


def _encode(encoder: VisualEncoder, fields: Mapping[str, Any], suffix: str) -> list[Tensor]:
    own = {name: list(fields[name + suffix]) for name in VISUAL_INPUTS if name + suffix in fields}
    count = len(own["pixel_values"])
    same = len({item.shape for item in own["pixel_values"]}) == 1
    groups = [slice(0, count)] if same else [slice(i, i + 1) for i in range(count)]
    found: list[Tensor] = []
    for group in groups:
        inputs: dict[str, Any] = {
            name: torch.stack(items[group]).to(encoder.device, encoder.dtype) for name, items in own.items()
        }
        found += encoder.encode_visual(**inputs).tokens.unbind(0)
    return found
