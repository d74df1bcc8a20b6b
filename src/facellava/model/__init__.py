"""The model: vision towers, FRLP, FRGCA, projector, any causal language model. Importing this loads no torch.

Names are resolved on first use; ``register()`` makes the Auto classes of transformers know the model.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "TABLE_6",
    "ClipVisionConfig",
    "ExpertVisionConfig",
    "FaceLlavaConfig",
    "FaceLlavaForConditionalGeneration",
    "FaceLlavaProcessor",
    "FaceRegionGuidedCrossAttention",
    "FaceRegionLandmarkProjector",
    "FusionConfig",
    "register",
]

_HOME = {
    "TABLE_6": "config",
    "ClipVisionConfig": "config",
    "ExpertVisionConfig": "config",
    "FaceLlavaConfig": "config",
    "FaceLlavaForConditionalGeneration": "modeling",
    "FaceLlavaProcessor": "processing",
    "FaceRegionGuidedCrossAttention": "frgca",
    "FaceRegionLandmarkProjector": "frlp",
    "FusionConfig": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name.startswith("FaceLlava"):
        register()
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def register() -> None:
    """Make ``AutoConfig``, ``AutoModelForImageTextToText`` and ``AutoProcessor`` of transformers know this model.

    The three modules register themselves when they are imported; this imports all of them.

    Raises:
        ImportError: without torch or transformers (extra ``torch``).
    """
    for module in ("config", "modeling", "processing"):
        import_module(f"{__name__}.{module}")
