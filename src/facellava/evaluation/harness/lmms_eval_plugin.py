"""The entry point that makes ``--model facellava`` known to lmms-eval (0.6 and later).

Group ``lmms_eval.models``; see https://github.com/EvolvingLMMs-Lab/lmms-eval/blob/main/docs/guides/model_guide.md
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """What lmms-eval's registry asks for: the model's name and where its class is; nothing is loaded yet."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest(
        model_id="facellava", simple_class_path="facellava.evaluation.harness.lmms_model.FacellavaModel"
    )
