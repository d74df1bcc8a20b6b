"""The model: vision towers, FRLP, FRGCA, projector, any causal language model. Importing this loads no torch.

Names are resolved on first use; ``register()`` makes the Auto classes of transformers know the model.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "FaceLlavaConfig",
    "FaceLlavaForConditionalGeneration",
    "FaceLlavaProcessor",
    "FaceRegionGuidedCrossAttention",
    "FaceRegionLandmarkProjector",
    "FusionConfig",
    "VisionConfig",
    "register",
]

_HOMES = {
    "FaceLlavaConfig": "config",
    "FaceLlavaForConditionalGeneration": "modeling",
    "FaceLlavaProcessor": "processing",
    "FaceRegionGuidedCrossAttention": "frgca",
    "FaceRegionLandmarkProjector": "frlp",
    "FusionConfig": "config",
    "VisionConfig": "config",
    "register": "registration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
