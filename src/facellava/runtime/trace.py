"""Where the words of an answer come from: the language model's attention, by what it falls on, and one counterfactual.

Attention says what a token reads, not that the token depends on it. So each token also has its log-probability with the
face's visual tokens hidden from question and answer: what is left then comes from the report and from earlier words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facellava.runtime.decoder import BLOCKED, Decoder, Embeddings, State, log_softmax

__all__ = ["PARTS", "Trace", "read_back"]

PARTS = ("face", "report", "frame", "question", "answer")
"""What attention falls on: the visual tokens; the report of the face experts; the fixed strings that open the
conversation; questions and earlier answers; the words of this answer before the token."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The tokens of one answer.

    Attributes:
        pieces: (A) texts of the tokens; together they are the answer.
        shares: (A, 5) of each token's attention by ``PARTS``, the mean over layers and heads; rows sum to 1.
        patches: (A, V) of it on each visual token.
        lines: the report's lines. on_lines: (A, L) of it on each of them.
        likely, blind: (A,) log-probability of each token, and with the visual tokens hidden.
    """

    pieces: tuple[str, ...]
    shares: NDArray[np.float32]
    patches: NDArray[np.float32]
    lines: tuple[str, ...]
    on_lines: NDArray[np.float32]
    likely: NDArray[np.float64]
    blind: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        grown: Sequence[str],
        prefix: Sequence[str | None],
        asked: int,
        attention: NDArray[np.float32],
        likely: NDArray[np.float64],
        blind: NDArray[np.float64],
    ) -> Trace:
        """From attention (A, T) of the positions that predict the answer's tokens.

        Args:
            grown: the answer up to and with each token. prefix: texts of the visual prefix, None for visual tokens.
            asked: number of tokens between the prefix and the answer.
        """
        face = np.array([piece is None for piece in prefix])
        line = _lines(prefix)
        length = len(prefix)
        before, opening = attention[:, :length], line < 0
        parts = [before[:, face], before[:, line >= 0], before[:, opening & ~face]]
        parts += [attention[:, length : length + asked], attention[:, length + asked :]]
        count = int(line.max(initial=-1)) + 1
        texts = ["".join(p or "" for p, k in zip(prefix, line, strict=True) if k == n).strip() for n in range(count)]
        kept = [n for n, text in enumerate(texts) if text]
        on_lines = np.stack([before[:, line == n].sum(1) for n in kept], 1) if kept else np.zeros((len(grown), 0))
        return cls(
            pieces=_pieces(grown),
            shares=np.stack([part.sum(1) for part in parts], 1),
            patches=before[:, face],
            lines=tuple(texts[n] for n in kept),
            on_lines=on_lines.astype(np.float32),
            likely=likely,
            blind=blind,
        )


def read_back(
    decoder: Decoder,
    embed: Embeddings,
    state: State,
    asked: Sequence[int],
    answered: Sequence[int],
    hidden: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Read an answer that was given: what ``Trace.of`` takes after ``asked``.

    Args:
        asked, answered: ids after the state. hidden: places in the state that the second reading must not see.
    """
    embeds = embed[[*asked, *answered[:-1]]]
    wanted = np.arange(len(asked) - 1, len(embeds))
    attention = decoder.attention(state, embeds)[wanted]
    blind = np.zeros((1, 1, len(embeds), state.length + len(embeds)), np.float32)
    blind[..., hidden] = BLOCKED
    logits = [decoder.run(state, embeds, wanted, bias=bias)[0] for bias in (None, blind)]
    likely, without = (log_softmax(rows)[np.arange(len(answered)), answered] for rows in logits)
    return attention, likely, without


def _pieces(grown: Sequence[str]) -> tuple[str, ...]:
    """What each token adds; one that ends inside a letter adds nothing, and the next one the whole letter."""
    pieces, done = [], ""
    for text in grown:
        whole = text.rstrip("�")
        pieces.append(whole[len(done) :])
        done = whole if len(whole) > len(done) else done
    return tuple(pieces)


def _lines(prefix: Sequence[str | None]) -> NDArray[np.int64]:
    """Of each token of the prefix, the line of the report that it belongs to; -1 before the report."""
    numbers, number, passed = [], -1, False
    for piece in prefix:
        if passed and piece is not None and piece.strip() and number < 0:
            number = 0
        numbers.append(number)
        if number >= 0 and piece is not None and "\n" in piece:
            number += 1
        passed = passed or piece is None
    return np.array(numbers, np.int64)
