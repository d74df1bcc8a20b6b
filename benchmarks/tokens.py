"""What a video costs the language model: frames pooled into one set of tokens beside the release's 8 x 257 tokens.

Both sides are one network in torch, of the default's sizes with untrained weights: what a pass costs does not depend on
them. The default is trained with pooled frames, so that its numbers in docs/default-model.md are those of this option.
"""

from __future__ import annotations

import torch
from common import Row, medians, row
from transformers import AutoModelForCausalLM

from facellava import weights
from facellava.model.experts import N_PATCHES
from facellava.model.gguf_weights import read_sizes
from facellava.runtime.build import BASE
from facellava.runtime.torch_model import text_config

RELEASE = 8 * 257
TEXT = 40
"""Tokens of a question and the marks around it."""


@torch.no_grad()
def rows(rounds: int) -> list[Row]:
    """Reading the prompt of an 8-frame video, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = text_config(read_sizes(weights.resolve(BASE), max_positions=4096))
    model = AutoModelForCausalLM.from_config(config).eval()

    def read(tokens: int) -> None:
        with torch.no_grad():
            model(inputs_embeds=torch.randn(1, tokens + TEXT, config.hidden_size), logits_to_keep=1)

    turns = medians(lambda: read(N_PATCHES), lambda: read(RELEASE), rounds)
    name = f"reading 8 frames as {N_PATCHES} pooled visual tokens"
    return [row(name, f"as {RELEASE} tokens, same network", turns, None, "accuracy: docs/default-model.md", 1)]
