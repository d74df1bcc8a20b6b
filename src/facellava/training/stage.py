"""The two stages of section 4.3 as two values of one type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training.

    Attributes:
        name: in logs and checkpoints.
        trains: module prefixes that receive gradients; everything else is frozen.
        lr: peak learning rate (cosine to zero).
        sequences: conversations to see.
        batch: conversations an optimizer step.
        warmup: share of the steps with a linearly rising rate.
        checklists: add a long yes/no checklist per multi-label task to each conversation.
    """

    name: str
    trains: tuple[str, ...]
    lr: float
    sequences: int
    batch: int = 8
    warmup: float = 0.03
    checklists: bool = False


# The paper: 1e-4 and 2e-5 for one epoch over about a million samples, from a projector that Video-LLaVA had trained.
ALIGN = Stage("align", ("frlp", "frgca"), lr=1e-4, sequences=930_000)
FINETUNE = Stage("finetune", ("frlp", "frgca", "projector", "language_model"), lr=2e-5, sequences=930_000)
