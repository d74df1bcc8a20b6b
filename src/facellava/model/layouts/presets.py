"""Configurations in full size, and the one that a checkpoint's own config.json and its layout amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig

from facellava.errors import DamagedCheckpoint, UsageError
from facellava.model.config import ClipVisionConfig, FaceLlavaConfig, FusionConfig

from .layout import Layout
from .source import Source

__all__ = ["VICUNA_7B", "configuration", "paper_7b", "release_7b"]

VICUNA_7B: Mapping[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}
"""LLaMA-7B's sizes (https://arxiv.org/abs/2302.13971, Table 2) with the context of Vicuna 1.5."""

_OF_TOWERS = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp",
    "patch_size": "patch",
    "image_size": "image_size",
    "layer_norm_eps": "norm_eps",
}
_NOT_OF_TEXT = {"architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "_name_or_path"}
_OLD_ROTARY = {"rope_theta", "rope_scaling"}
_TEXT_OF = {"llava": "llama", "llava_llama": "llama", "llava_mistral": "mistral", "llava_qwen": "qwen2"}


def paper_7b() -> FaceLlavaConfig:
    """The paper's model (section 4, appendix G): LanguageBind towers, FRLP, FRGCA as printed, Vicuna-7B."""
    return FaceLlavaConfig(vision=ClipVisionConfig(), fusion=FusionConfig(), text_config=VICUNA_7B)


def release_7b(temporal: bool = True, landmarks: bool = True) -> FaceLlavaConfig:
    """The release's model: attention without a mask, its scale of 0.1, CLS tokens of videos kept, its pixels and crops.

    Without ``landmarks`` it is what the release's own inference computes; see ``profiles.py``.
    """
    vision = ClipVisionConfig(video_cls=True, pixels="official", temporal=temporal)
    fusion = FusionConfig(kind="official_simple") if landmarks else FusionConfig(kind="none", landmarks="none")
    return FaceLlavaConfig(vision=vision, fusion=fusion, text_config=VICUNA_7B, crop="corner")


def configuration(source: Source, layout: Layout, changes: Mapping[str, Any]) -> FaceLlavaConfig:
    """Our configuration of a checkpoint.

    Sizes of the towers are LanguageBind's unless config.json has them, as the hub's Video-LLaVA does.

    Args:
        changes: tables ``vision``, ``fusion`` and ``text``, and single settings of ``FaceLlavaConfig``, over all else.

    Raises:
        DamagedCheckpoint: config.json is missing or lacks the language model's settings. UsageError: contradictions.
    """
    if not source.config:
        raise DamagedCheckpoint(f"{source.folder} holds no config.json, so that the model's sizes are not known")
    rest = {key: value for key, value in changes.items() if key not in ("vision", "fusion", "text")}
    try:
        if layout.name == "ours":
            return _ours(source.config, changes, rest)
        text = _text(source, layout) | dict(changes.get("text", {}))
        vision = {**_towers(source.config), **layout.vision, **changes.get("vision", {})}
        fusion = {**layout.fusion, **changes.get("fusion", {})}
        settings = {"image_token_id": text["vocab_size"], **rest}
        return FaceLlavaConfig(vision=vision, fusion=fusion, text_config=text, **settings)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise UsageError(f"{source.folder / 'config.json'}: {' '.join(str(error).split())}") from error


def _ours(config: Mapping[str, Any], changes: Mapping[str, Any], rest: Mapping[str, Any]) -> FaceLlavaConfig:
    whole = dict(config)
    if whole.get("model_type") != FaceLlavaConfig.model_type:
        raise ValueError(f"tensors are in our layout, but model_type is {whole.get('model_type')}")
    for ours, name in (("vision", "vision"), ("fusion", "fusion"), ("text_config", "text")):
        whole[ours] = {**whole[ours], **changes.get(name, {})}
    return FaceLlavaConfig.from_dict(whole | dict(rest))


def _towers(config: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get("vision_config") if config.get("model_type") == "video_llava" else None
    # transformers leaves out settings that have its class's default value, which is LanguageBind's for this class
    return {_OF_TOWERS[key]: value for key, value in (given or {}).items() if key in _OF_TOWERS}


def _text(source: Source, layout: Layout) -> dict[str, Any]:
    """Settings of the language model, with the vocabulary cut where the layout pads it."""
    given: Mapping[str, Any] = source.config
    if layout.text == "text_config":
        given = source.config.get("text_config") or {}
    kind = str(given.get("model_type", ""))
    kind = _TEXT_OF.get(kind, kind) or ("llama" if layout.text == "text_config" else "")
    if not kind:
        raise ValueError("it names no language model (model_type)")
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"this transformers knows no language model of type '{kind}'")
    known = {**AutoConfig.for_model(kind).to_dict(), **dict.fromkeys(_OLD_ROTARY)}.keys() - _NOT_OF_TEXT
    text = {key: value for key, value in given.items() if key in known and value is not None}
    text = {**text, "model_type": kind}
    text.setdefault("vocab_size", AutoConfig.for_model(kind).vocab_size)
    if layout.padded:
        text["vocab_size"] = min(text["vocab_size"], *_special_ids(source.config))
        text = {key: v for key, v in text.items() if key != "pad_token_id" or v < text["vocab_size"]}
    return text


def _special_ids(config: Mapping[str, Any]) -> list[int]:
    """Ids of the tokens that stand for pictures; they follow the words."""
    names = ("image_token_index", "image_token_id", "video_token_index", "video_token_id")
    return [config[name] for name in names if isinstance(config.get(name), int)] or [32000]
