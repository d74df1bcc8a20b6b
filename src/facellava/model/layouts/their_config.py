"""config.json of the other layouts, for models that did not come from them."""

from __future__ import annotations

from typing import Any

from facellava.model.config import ClipVisionConfig, FaceLlavaConfig

from .layout import Layout

__all__ = ["their_config"]

_ORIGINAL: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava",
    "mm_image_tower": "LanguageBind/LanguageBind_Image",
    "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
    "use_mm_proj": True,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_x_start_end": False,
    "mm_use_x_patch_token": False,
    "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "pad",
    "tokenizer_padding_side": "right",
}
_LANDMARKS: dict[str, Any] = {
    "landmarks_projector_type": "landmarks_region_projector",
    "global_landmarks_projector_type": "linear",
    "use_landmark_tokens": False,
    "landmarks_hidden_size": 136,
    "tokenizer_model_max_length": 3072,
}


def their_config(config: FaceLlavaConfig, target: Layout, words: int) -> dict[str, Any]:
    """What the other software reads of a model.

    Args:
        words: rows of the written vocabulary.
    """
    vision = config.vision
    assert isinstance(vision, ClipVisionConfig)
    text = config.text_config.to_dict()
    text = {key: value for key, value in text.items() if key not in ("transformers_version", "dtype", "_name_or_path")}
    text["vocab_size"] = words
    if target.padded:
        return _hub(vision, text, config.text_config.vocab_size)
    # software of 2023 knows the base of the rotation by its old name
    text["rope_theta"] = (text.pop("rope_parameters", None) or {}).get("rope_theta", 10000.0)
    chosen = {"mm_vision_select_layer": vision.select_layer, "mm_hidden_size": vision.width}
    if not target.fusion:
        return {**text, **_ORIGINAL, **chosen}
    kind = "masked" if target.fusion["kind"] == "official_masked" else "simple"
    return {**text, **_ORIGINAL, **chosen, **_LANDMARKS, "cross_attn_type": kind}


def _hub(vision: ClipVisionConfig, text: dict[str, Any], words: int) -> dict[str, Any]:
    """Fields of transformers' ``VideoLlavaConfig``."""
    tower = {
        "model_type": "clip_vision_model",
        "hidden_act": "gelu",
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "patch_size": vision.patch,
        "image_size": vision.image_size,
        "layer_norm_eps": vision.norm_eps,
    }
    return {
        "architectures": ["VideoLlavaForConditionalGeneration"],
        "model_type": "video_llava",
        "text_config": text,
        "vision_config": tower,
        "image_token_index": words,
        "video_token_index": words + 1,
        "image_seq_length": vision.grid**2,
        "video_seq_length": vision.frames * (vision.grid**2 + 1),
        "projector_hidden_act": "gelu",
        "vision_feature_layer": vision.select_layer,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
    }
