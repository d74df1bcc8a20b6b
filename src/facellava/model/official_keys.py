"""Names of the official release's parameters in ours, so that its checkpoint can be loaded.

Facts from building the release's classes (repository ihp-lab/Face-LLaVA, commit acecbec); the checkpoint itself was not
reachable, so real weights are untested. Left side theirs, right side ours.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .regions import REGIONS

__all__ = [
    "FUSION",
    "PROJECTOR",
    "TOWER",
    "TOWER_LAYER",
    "fusion_state",
    "landmark_state",
    "model_state",
    "projector_state",
    "rename",
    "tower_state",
]

PROJECTOR = {"0.": "first.", "2.": "second."}
FUSION = {
    "cross_attn.attn.out_proj.": "out.",
    "cross_attn.q_proj.": "query.",
    "cross_attn.k_proj.": "key.",
    "cross_attn.v_proj.": "value.",
    "cross_attn.ln.": "norm.",
    "linear_proj.": "branch.",
}
TOWER = {
    "embeddings.class_embedding": "cls",
    "embeddings.patch_embedding.": "patch.",
    "embeddings.position_embedding.weight": "position",
    "pre_layrnorm.": "pre_norm.",
    "encoder.layers.": "layers.",
}
TOWER_LAYER = {
    "self_attn.out_proj.": "attn.out.",
    "self_attn.q_proj.": "attn.query.",
    "self_attn.k_proj.": "attn.key.",
    "self_attn.v_proj.": "attn.value.",
    "temporal_attn.out_proj.": "time_attn.out.",
    "temporal_attn.q_proj.": "time_attn.query.",
    "temporal_attn.k_proj.": "time_attn.key.",
    "temporal_attn.v_proj.": "time_attn.value.",
    "temporal_layer_norm1.": "time_norm.",
    "temporal_embedding": "time_embedding",
    "layer_norm1.": "attn_norm.",
    "layer_norm2.": "mlp_norm.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.2.",
}


def rename(key: str, table: Mapping[str, str]) -> str | None:
    """The first prefix in the table that fits, replaced; None when there is none."""
    for theirs, ours in table.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return None


def _renamed(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    named = {rename(key, table): value for key, value in state.items()}
    unknown = sorted(key for key in state if rename(key, table) is None)
    if unknown:
        raise ValueError(f"not an official key: {', '.join(unknown[:3])}")
    return {key: value for key, value in named.items() if key is not None}


def projector_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``{0,2}.*`` of ``mm_projector`` -> VisionProjector."""
    return _renamed(state, PROJECTOR)


def landmark_state(region: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``region_layers.*`` and the global projector's ``weight``, ``bias`` -> FaceRegionLandmarkProjector."""
    table = {f"region_layers.{r.official}.": f"regions.{r.name}." for r in REGIONS}
    return _renamed(region, table) | {f"whole.{key}": value for key, value in whole.items()}


def fusion_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``landmarks_cross_attn.*`` (simple or masked variant) -> FaceRegionGuidedCrossAttention.

    The joint projection is split into query, key and value; the outer ``ln``, which has no effect, is dropped.
    """
    split: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("cross_attn.attn.in_proj_"):
            kind = key.removeprefix("cross_attn.attn.in_proj_")
            for name, block in zip(("query", "key", "value"), torch.chunk(value, 3), strict=True):
                split[f"{name}.{kind}"] = block.contiguous()
        elif not key.startswith("ln."):
            rest[key] = value
    return split | _renamed(rest, FUSION)


def tower_state(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """CLIP-layout keys of a tower -> ClipTower.

    Args:
        state: their tensors.
        layers: how many layers ours has; later ones and ``post_layernorm`` do not reach the features and are dropped.

    Raises:
        ValueError: for keys of another layout.
    """
    result: dict[str, Tensor] = {}
    for key, value in _renamed({k: v for k, v in state.items() if not k.startswith("post_layernorm.")}, TOWER).items():
        match = re.fullmatch(r"layers\.(\d+)\.(.+)", key)
        if match is None:
            result[key] = value
        elif int(match[1]) < layers:
            name = rename(match[2], TOWER_LAYER)
            if name is None:
                raise ValueError(f"not an official key: {key}")
            result[f"layers.{match[1]}.{name}"] = value
    return result


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def model_state(state: Mapping[str, Tensor], tower_layers: int = 23) -> dict[str, Tensor]:
    """A whole official checkpoint -> FaceLlavaForConditionalGeneration (RELEASE.md, "Checkpoint keys").

    ``rotary_emb.inv_freq`` is computed, not loaded, and dropped. Parts that are absent are left out.
    """
    parts = {
        "projector.": projector_state(_under(state, "model.mm_projector.")),
        "frlp.": landmark_state(
            _under(state, "model.landmarks_projector."), _under(state, "model.global_landmarks_projector.")
        ),
        "frgca.": fusion_state(_under(state, "model.landmarks_cross_attn.")),
    }
    for kind in ("image", "video"):
        prefix = f"model.{kind}_tower.{kind}_tower."
        parts[f"vision_tower.{kind}."] = tower_state(_under(state, prefix), tower_layers)
    result = {prefix + key: value for prefix, part in parts.items() for key, value in part.items()}
    language = ("model.embed_tokens.", "model.norm.", "model.layers.", "lm_head.")
    for key, value in state.items():
        if key.startswith(language) and not key.endswith("rotary_emb.inv_freq"):
            result[f"language_model.{key}"] = value
    return result
