"""Eq. 7 computed where answers are and nowhere else: the training loss, and its share of each conversation.

Shapes: b conversations, l positions, d width, a answer tokens of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from .prompt import IGNORED

_CHANGES_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Settings of language models that do more than one linear layer after the last hidden state."""


@dataclass
class AnswerOutput(ModelOutput):
    """Loss without logits.

    Attributes:
        loss: weighted mean over the batch's answer tokens, or their weighted sum over ``num_items_in_batch``.
        row_loss: (b,) weighted sum of each conversation, detached.
        row_weight: (b,) sum of each conversation's weights.
    """

    loss: Tensor | None = None
    row_loss: Tensor | None = None
    row_weight: Tensor | None = None


def decode(language_model: Any, inputs_embeds: Tensor, attention_mask: Any) -> Tensor:
    """Last hidden states (b, l, d) of a causal language model, its head left out.

    Raises:
        ValueError: its head is more than one linear layer.
    """
    for name in _CHANGES_LOGITS:
        if getattr(language_model.config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"answers_only does not know the setting {name} of this language model: train without it")
    decoder = language_model.get_decoder()
    return decoder(inputs_embeds=inputs_embeds, attention_mask=attention_mask, use_cache=False).last_hidden_state


def answer_loss(
    hidden: Tensor, head: nn.Module, labels: Tensor, weights: Tensor | None = None, count: Tensor | int | None = None
) -> AnswerOutput:
    """The loss of hidden states (b, l, d) whose next tokens are ``labels`` (b, l), -100 where there is none.

    Args:
        head: d to the vocabulary.
        weights: (b, l) of the labels; 1 by default.
        count: what the weighted sum is divided by: the weights of all micro-batches and processes of one optimizer
            step, so that neither their number nor their order changes the gradient. By default those of this batch.
    """
    targets = labels[:, 1:]
    wanted = targets != IGNORED
    scale = torch.ones_like(targets, dtype=torch.float32) if weights is None else weights[:, 1:].float()
    scale = scale * wanted
    logits = head(hidden[:, :-1][wanted]).float()
    each = nn.functional.cross_entropy(logits, targets[wanted], reduction="none")
    rows = torch.zeros_like(scale).masked_scatter(wanted, each * scale[wanted]).sum(1)
    row_weight = scale.sum(1)
    divisor = row_weight.sum().clamp_min(torch.finfo(torch.float32).tiny) if count is None else count
    return AnswerOutput(loss=rows.sum() / divisor, row_loss=rows.detach(), row_weight=row_weight)
