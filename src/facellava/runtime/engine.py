"""Engines: a face clip and questions in, text and label probabilities out.

``Engine`` holds what every runtime shares; ``onnx_engine.OnnxEngine`` is the default, on the CPU without torch;
``torch_engine.TorchEngine`` runs any trained folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava.errors import UsageError
from facellava.model.expert_report import ExpertHead
from facellava.model.prompt import CHATML, Opening, PromptStyle, answer_ids, question_ids, visual_prefix
from facellava.model.regions import N_REGIONS
from facellava.runtime.constrained import Constraint, Vocabulary
from facellava.runtime.decoder import Decoder, Embeddings, Sampler, State, log_softmax
from facellava.runtime.report import untrained
from facellava.runtime.trace import Trace, read_back
from facellava.types import Crop, FaceClip

MODEL_FRAMES = 8
"""Frames of a video that the model looks at, uniformly sampled (section 5.1)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A face that the language model has read: reusable for any number of questions.

    Attributes:
        state: keys and values of the visual prefix.
        region_attention: float32 (9,), mean FRGCA attention of all patches, frames and heads; sums to 1. Empty for a
            model that does not attend to nine regions.
        patch_attention: float32 (g, g, 9), the same per patch of the grid; as empty.
        head: slot name (task or label) -> probabilities of the expert head, float32 (n,).
        report: what the expert head found, in words.
        ids: int64 (P,) of the visual prefix, with the placeholder's where visual tokens stand.
    """

    state: State
    region_attention: NDArray[np.float32]
    patch_attention: NDArray[np.float32]
    head: dict[str, NDArray[np.float32]]
    report: str
    ids: NDArray[np.int64]


class Visual(NamedTuple):
    """What is seen of a clip: tokens (V, D), FRGCA attention (T, H, N, M) or None, the expert head's probabilities
    (O,) and its report, which are empty without a head, and in how many runs the tokens stand in the prompt."""

    tokens: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    probabilities: NDArray[np.float32]
    report: str
    blocks: int = 1


@dataclass(slots=True)
class Tally:
    """What an answer takes, filled in by ``Engine.ask`` while it is written.

    Attributes:
        prompt: tokens read before the answer: the face, earlier turns and the question.
        answer: tokens written so far.
        finish: ``stop`` once the model ended the answer, ``length`` where a limit did.
    """

    prompt: int = 0
    answer: int = 0
    finish: Literal["stop", "length"] = "length"


class Engine(ABC):
    """A model that looks at faces and answers.

    Attributes:
        name: as it appears in results. margin, crop: of the crops that it was trained on. grid: patches a side.
        untrained: task -> labels that it never saw examples of. thresholds: label -> probability from which it counts.
        temperature: task -> divisor of log-odds, where the language model scores labels.
    """

    name: str
    margin: float
    crop: Crop = "centred"
    grid: int
    untrained: dict[str, list[str]]
    thresholds: dict[str, float]
    temperature: dict[str, float]
    _style: PromptStyle = CHATML
    _placeholder: int
    _head: ExpertHead | None
    _slots: dict[str, slice]
    _stop: frozenset[int]
    _embed: Embeddings
    _decoder: Decoder

    def scores_by_head(self, task: str) -> bool:
        """Whether a task's labels are read off the expert head instead of being scored under the language model."""
        return self._head is not None and self._head.spec.answers(task)

    def _take_head(self, head: ExpertHead | None) -> None:
        """A head brings its slots, its thresholds and what it was not trained on."""
        self._head, self._slots = head, {}
        if head is not None:
            self._slots = head.spec.offsets()
            self.thresholds = {**self.thresholds, **head.spec.thresholds}
            self.untrained = {**untrained(head.spec), **self.untrained}

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Ids of a piece of text, without special tokens added.

        Raises:
            UsageError: no text that UTF-8 can hold, see :func:`whole`.
        """

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Text of generated ids."""

    @abstractmethod
    def tokenizer_json(self) -> str:
        """The tokenizer in the file format of the ``tokenizers`` library."""

    @property
    def context(self) -> int:
        """Tokens that a conversation may have, answers included."""
        return self._decoder.max_length

    def nbytes(self, seen: Seen) -> int:
        """Memory that a read face holds."""
        arrays = (seen.state.logits, seen.region_attention, seen.patch_attention, *seen.head.values())
        return self._decoder.nbytes(seen.state) + sum(array.nbytes for array in arrays)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.tokenizer_json(), self._stop)

    @abstractmethod
    def see(self, clip: FaceClip) -> Visual:
        """Encoder, projector, FRLP and FRGCA over the frames of a clip that the model looks at."""

    def judge(self, clip: FaceClip) -> NDArray[np.float32]:
        """What the expert head finds in a clip: probabilities (O,), empty without a head."""
        return self.see(clip).probabilities

    def glance(self, clip: FaceClip) -> Seen:
        """A face that the language model has not read: half of the time of :meth:`look`.

        Only tasks that ``scores_by_head`` can be answered from it, and without words.
        """
        assert self._head is not None, "only a model with a head can judge without reading"
        return self._seen(self.see(clip), self._decoder.empty(), np.zeros(0, np.int64))

    def look(self, clip: FaceClip) -> Seen:
        """Read one face; everything asked later continues from here."""
        return self.read(self.see(clip))

    def read(self, visual: Visual) -> Seen:
        """As :meth:`look`, from the output of :meth:`see`."""
        opening = Opening(len(visual.tokens), self._placeholder, visual.blocks, visual.report)
        ids = np.array(visual_prefix(self.tokenize, opening, self._style))
        places = ids == self._placeholder
        embeds = self._embed[np.where(places, 0, ids).tolist()]
        embeds[places] = visual.tokens
        return self._seen(visual, self._decoder.extend(self._decoder.empty(), embeds), ids)

    def _seen(self, visual: Visual, state: State, ids: NDArray[np.int64]) -> Seen:
        head, attention = self.by_slot(visual.probabilities), visual.attention
        if attention is None or attention.shape[2:] != (self.grid**2, N_REGIONS):
            nothing = np.zeros(0, np.float32)
            return Seen(state, nothing, nothing, head, visual.report, ids)
        per_patch = attention.mean((0, 1))
        regions = per_patch.reshape(self.grid, self.grid, -1)
        return Seen(state, per_patch.mean(0), regions, head, visual.report, ids)

    def by_slot(self, probabilities: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The expert head's probabilities (..., O) by slot name; empty without a head."""
        return {name: probabilities[..., where] for name, where in self._slots.items()}

    def trace(self, seen: Seen, question: str, answer: str, *, history: Sequence[tuple[str, str]] = ()) -> Trace:
        """What each token of an answer attends to, and its probability with and without the face's patches in sight.

        Raises:
            UsageError: the answer is empty or too long, or this language model does not tell what it attends to.
        """
        asked, answered = self._question_ids(seen, question, history), self.tokenize(answer)
        if not answered or seen.state.length + len(asked) + len(answered) >= self.context:
            raise UsageError("the answer is empty, or longer than what the model can read: it cannot be traced")
        hidden = np.flatnonzero(seen.ids == self._placeholder)
        found = read_back(self._decoder, self._embed, seen.state, asked, answered, hidden)
        grown = [self.decode(answered[: n + 1]) for n in range(len(answered))]
        prefix = [self.decode([int(i)]) if i != self._placeholder else None for i in seen.ids]
        return Trace.of(grown, prefix, len(asked), *found)

    def ask(
        self,
        seen: Seen,
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        head: str = "",
        max_new_tokens: int = 160,
        sampler: Sampler | None = None,
        ignore_stop: bool = False,
        constraint: Constraint | None = None,
        tally: Tally | None = None,
    ) -> Iterator[str]:
        """Stream the answer to a question, after earlier (question, answer) turns.

        Args:
            head: the answer's beginning when it is already decided (a scored label); streamed first.
            ignore_stop: go on to ``max_new_tokens`` whatever the model says (for timing).
            constraint: the form of the answer (of what follows ``head``). It is always whole: where ``max_new_tokens``
                is reached it is brought to its end, which may take up to ``CLOSING_TOKENS`` more.
            tally: counts tokens.

        Raises:
            UsageError: the conversation is longer than the model's context; an answer under a constraint does not come
                to its end, or cannot be written by this model.
        """
        tally = tally or Tally()
        guide = None if constraint is None else constraint.guide(self._vocabulary)
        state = self._asked(seen, question, history)
        if head:
            state = self._read(state, self.tokenize(head))
            yield head
        ids: list[int] = []
        done = ""
        tally.prompt, limit = state.length, min(max_new_tokens, self.context - state.length)
        going = {"max_new_tokens": max_new_tokens, "sampler": sampler or Sampler()}
        if guide is None:
            generated = self._decoder.generate(state, self._embed, stop=() if ignore_stop else self._stop, **going)
        else:
            limit = self._decoder.closing(state, max_new_tokens)
            generated = self._decoder.generate_guided(state, self._embed, guide, **going)
        for token in generated:
            ids.append(token)
            tally.answer = len(ids)
            text = self.decode(ids)
            # A replacement character means the last token ends inside a multi-byte letter: wait for the rest.
            if not text.endswith("�"):
                yield text[len(done) :]
                done = text
        if len(ids) < limit:
            tally.finish = "stop"

    def score(self, seen: Seen, question: str, prefix: str, candidates: Sequence[str]) -> NDArray[np.float64]:
        """Probability of each candidate as the continuation of ``prefix``, normalised over the candidates."""
        state = self._asked(seen, question)
        if prefix:
            state = self._read(state, self.tokenize(prefix))
        ids = [self.tokenize(c) for c in candidates]
        first = log_softmax(state.logits)
        scores = np.array([first[i[0]] for i in ids])
        longer = [n for n, i in enumerate(ids) if len(i) > 1]
        if longer:
            logits = self._decoder.branch_logits(state, [self._embed[ids[n][:-1]] for n in longer])
            for n, branch in zip(longer, logits, strict=True):
                scores[n] += log_softmax(branch)[np.arange(len(ids[n]) - 1), ids[n][1:]].sum()
        return np.exp(log_softmax(scores))

    def score_yes(self, seen: Seen, question: str, items: Sequence[str], yes: str, no: str) -> NDArray[np.float64]:
        """Log-odds of ``yes`` against ``no`` after each item, every item as the first line of the answer."""
        state = self._asked(seen, question)
        forks = [_fork(self.tokenize(item + yes), self.tokenize(item + no)) for item in items]
        branches = [self._embed[fork.shared] for fork in forks]
        logits = [branch[-1] for branch in self._decoder.branch_logits(state, branches, last_only=True)]
        return np.array([float(row[f.one]) - float(row[f.other]) for row, f in zip(logits, forks, strict=True)])

    def score_years(self, seen: Seen, question: str, heads: Sequence[str]) -> NDArray[np.float64]:
        """Distribution (100,) over whole years, from the digits that the answer starts with.

        Args:
            heads: what an answer of each year begins with, up to where no longer number can begin the same way
                (``45 years old``); scored as they are by models whose tokens are not single digits.
        """
        pieces = [self.tokenize(str(d)) for d in range(10)]
        if any(len(piece) > 1 for piece in pieces) or self.tokenize("10") != pieces[1] + pieces[0]:
            return self.score(seen, question, "", heads)
        state = self._asked(seen, question)
        digits = [piece[0] for piece in pieces]
        first = log_softmax(state.logits)
        logits = self._decoder.branch_logits(state, [self._embed[[d]] for d in digits])
        years = np.full(100, -np.inf)
        for ten, (digit, branch) in enumerate(zip(digits, logits, strict=True)):
            second = log_softmax(branch[0])
            for one, other in enumerate(digits):
                if ten > 0:
                    years[10 * ten + one] = first[digit] + second[other]
            # What is not a second digit ends the number.
            alone = 1 - np.exp(second[digits]).sum()
            years[ten] = np.logaddexp(years[ten], first[digit] + np.log(max(alone, 1e-12)))
        return np.exp(log_softmax(years))

    def _read(self, state: State, ids: Sequence[int]) -> State:
        return self._decoder.extend(state, self._embed[list(ids)])

    def _asked(self, seen: Seen, question: str, history: Sequence[tuple[str, str]] = ()) -> State:
        return self._read(seen.state, self._question_ids(seen, question, history))

    def _question_ids(self, seen: Seen, question: str, history: Sequence[tuple[str, str]]) -> list[int]:
        ids: list[int] = []
        for i, (earlier, answer) in enumerate(history):
            ids += question_ids(self.tokenize, earlier, self._style, first=i == 0)
            ids += answer_ids(self.tokenize, answer, self._style)
        ids += question_ids(self.tokenize, question, self._style, first=not history)
        if (length := seen.state.length + len(ids)) >= self.context:
            raise UsageError(
                f"the conversation has {length} tokens with the face, and the model reads {self.context}: shorten it"
            )
        return ids


def whole(text: str) -> str:
    """The text itself.

    Raises:
        UsageError: it holds half a surrogate pair, as a cut emoji or bytes of another encoding leave it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text[:40]!a} is no whole text: write it in UTF-8") from error
    return text


class _Fork(NamedTuple):
    """Two texts in tokens: what they share, and the first token in which they differ."""

    shared: list[int]
    one: int
    other: int


def _fork(one: Sequence[int], other: Sequence[int]) -> _Fork:
    # some tokenizers open both words with the same mark of a space
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    assert same, "the two continuations must differ, and not from the start"
    return _Fork(list(one[:same]), one[same], other[same])
