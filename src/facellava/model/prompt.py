"""Conversations to token ids, once for training, the torch model and the ONNX runtime.

Pieces are tokenised one by one and concatenated, so that the ids of a prefix never depend on what follows: the prefix
(a face) can be computed once and continued by any number of questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

IGNORED = -100
"""Label of positions that carry no loss (PyTorch's convention)."""


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """The strings around turns; the visual tokens stand at the start of the first user turn."""

    before_user: str = "<|im_start|>user\n"
    after_user: str = "<|im_end|>\n"
    before_assistant: str = "<|im_start|>assistant\n"
    after_assistant: str = "<|im_end|>\n"
    after_visual: str = "\n"


CHATML = PromptStyle()
VICUNA = PromptStyle("USER: ", " ", "ASSISTANT: ", "</s>", "\n")


class Rendered(NamedTuple):
    """ids with one placeholder a visual token, labels with IGNORED everywhere but in the answers."""

    ids: list[int]
    labels: list[int]


Tokenize = Callable[[str], list[int]]


def visual_prefix(tokenize: Tokenize, n_visual: int, placeholder: int, style: PromptStyle = CHATML) -> list[int]:
    """The ids that open every conversation about a face."""
    return [*tokenize(style.before_user), *[placeholder] * n_visual, *tokenize(style.after_visual)]


def question_ids(tokenize: Tokenize, question: str, style: PromptStyle = CHATML, *, first: bool = True) -> list[int]:
    """The ids of a question up to where the answer starts; ``first`` continues the visual prefix."""
    opening = [] if first else tokenize(style.before_user)
    return [*opening, *tokenize(question), *tokenize(style.after_user), *tokenize(style.before_assistant)]


def answer_ids(tokenize: Tokenize, answer: str, style: PromptStyle = CHATML) -> list[int]:
    """The ids of an answer with its end mark."""
    return [*tokenize(answer), *tokenize(style.after_assistant)]


def render(
    tokenize: Tokenize,
    turns: Sequence[tuple[str, str | None]],
    n_visual: int,
    placeholder: int,
    style: PromptStyle = CHATML,
) -> Rendered:
    """A whole conversation of (question, answer) turns; an answer of None, allowed last, is still to be given."""
    ids = visual_prefix(tokenize, n_visual, placeholder, style)
    labels = [IGNORED] * len(ids)
    for i, (question, answer) in enumerate(turns):
        asked = question_ids(tokenize, question, style, first=i == 0)
        answered = [] if answer is None else answer_ids(tokenize, answer, style)
        ids += asked + answered
        labels += [IGNORED] * len(asked) + answered
    return Rendered(ids, labels)
