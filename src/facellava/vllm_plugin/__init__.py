"""Serving a converted folder with vLLM: a model of ours for its registry, found by its own entry point (docs/vllm.md).

``prompts``, ``inputs``, ``visual`` and ``folder`` do not know vLLM; ``adapter`` alone imports it, and only vLLM imports
``adapter``. Written against vLLM 0.33; needs the ``vllm`` extra.
"""

from __future__ import annotations

__all__ = ["ARCHITECTURE", "register"]

ARCHITECTURE = "FaceLlavaForConditionalGeneration"
"""As config.json of our folders names it."""


def register() -> None:
    """Entry point of the group ``vllm.general_plugins``: vLLM calls it in each of its processes, also repeatedly.

    The model is named, not imported, so that nothing touches a GPU before vLLM starts its workers.
    """
    from vllm import ModelRegistry  # pyright: ignore[reportMissingImports]

    from facellava.model import register as register_classes

    register_classes()
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"{__name__}.adapter:FaceLlavaForVllm")
