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
    """The strings around turns; the visual tokens, and a report, open the first user turn.

    Attributes:
        before_user, after_user, before_assistant, after_assistant: around questions and answers.
        after_visual: between the visual tokens and what follows.
        begin: the tokenizer's mark of a beginning, tokenised alone; empty where a conversation has none.
        before_all: system text, in one piece with what precedes the first question.
        between_frames: between the visual tokens of two frames.
        whole: a question is one piece with the strings around it, for models whose prompts were tokenised whole;
            otherwise each string is a piece of its own.
    """

    before_user: str = "<|im_start|>user\n"
    after_user: str = "<|im_end|>\n"
    before_assistant: str = "<|im_start|>assistant\n"
    after_assistant: str = "<|im_end|>\n"
    after_visual: str = "\n"
    begin: str = ""
    before_all: str = ""
    between_frames: str = ""
    whole: bool = False


CHATML = PromptStyle()
VICUNA = PromptStyle("USER: ", " ", "ASSISTANT: ", "</s>", "\n")


class Opening(NamedTuple):
    """What a conversation about a face opens with.

    Attributes:
        tokens: number of visual tokens. placeholder: the id that stands for each.
        blocks: runs of equal length in which they stand, one a frame as a rule.
        report: what the face experts find, "" without any.
    """

    tokens: int
    placeholder: int
    blocks: int = 1
    report: str = ""


class Rendered(NamedTuple):
    """ids with one placeholder a visual token, labels with IGNORED everywhere but in the answers."""

    ids: list[int]
    labels: list[int]


Tokenize = Callable[[str], list[int]]


def visual_prefix(tokenize: Tokenize, opening: Opening, style: PromptStyle = CHATML) -> list[int]:
    """The ids that open every conversation about a face, up to where the first question starts."""
    run = [opening.placeholder] * (opening.tokens // opening.blocks)
    between = _ids(tokenize, style.between_frames)
    ids = _ids(tokenize, style.begin) + _ids(tokenize, style.before_all + style.before_user) + run
    for _ in range(opening.blocks - 1):
        ids += between + run
    if style.whole:
        return ids + (_ids(tokenize, style.after_visual + opening.report) if opening.report else [])
    stated = _ids(tokenize, opening.report + style.after_visual) if opening.report else []
    return ids + _ids(tokenize, style.after_visual) + stated


def question_ids(tokenize: Tokenize, question: str, style: PromptStyle = CHATML, *, first: bool = True) -> list[int]:
    """The ids of a question up to where the answer starts; ``first`` continues the visual prefix."""
    if style.whole:
        before = style.after_visual if first else style.before_user
        return tokenize(before + question + style.after_user + style.before_assistant)
    pieces = ["" if first else style.before_user, question, style.after_user, style.before_assistant]
    return [i for piece in pieces for i in _ids(tokenize, piece)]


def _ids(tokenize: Tokenize, piece: str) -> list[int]:
    return tokenize(piece) if piece else []


def answer_ids(tokenize: Tokenize, answer: str, style: PromptStyle = CHATML) -> list[int]:
    """The ids of an answer with its end mark."""
    return [*tokenize(answer), *tokenize(style.after_assistant)]


def render(
    tokenize: Tokenize, turns: Sequence[tuple[str, str | None]], opening: Opening, style: PromptStyle = CHATML
) -> Rendered:
    """A whole conversation of (question, answer) turns; an answer of None, allowed last, is still to be given."""
    ids = visual_prefix(tokenize, opening, style)
    labels = [IGNORED] * len(ids)
    for i, (question, answer) in enumerate(turns):
        asked = question_ids(tokenize, question, style, first=i == 0)
        answered = [] if answer is None else answer_ids(tokenize, answer, style)
        ids += asked + answered
        labels += [IGNORED] * len(asked) + answered
    return Rendered(ids, labels)
