"""Reads, continues, generates and scores with a language model whose keys and values are kept outside of it.

``Decoder`` is what every runtime shares; ``OnnxDecoder`` runs it in onnxruntime, ``torch_engine.TorchDecoder`` in
torch.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from facellava.errors import UsageError
from facellava.interrupt import poll
from facellava.model.decoder_config import DecoderConfig
from facellava.model.quantization import dequantize_blocks
from facellava.runtime.attention import layer_attention, open_with_queries, queries
from facellava.runtime.constrained import CLOSING_TOKENS, Guide

BLOCKED = np.float32(-1e9)
"""Added to attention scores between branches that must not see each other."""


@dataclass(frozen=True, slots=True)
class State:
    """A prefix that has been read: its keys and values, its length and the logits after its last token.

    States are immutable, so one prefix can be continued many times.
    """

    past: Any
    length: int
    logits: NDArray[np.float32]


class Embeddings(Protocol):
    """Input embeddings by token id."""

    def __getitem__(self, ids: Sequence[int], /) -> NDArray[np.float32]:
        """float32 (S, D) of ids (S,)."""
        ...


class Decoder(ABC):
    """A language model that continues states. ``max_length`` is its context in tokens."""

    max_length: int

    @abstractmethod
    def empty(self) -> State:
        """The state before any token."""

    @abstractmethod
    def nbytes(self, state: State) -> int:
        """Memory that the keys and values of a state hold."""

    @abstractmethod
    def run(
        self,
        state: State,
        embeds: NDArray[np.float32],
        wanted: NDArray[np.int64],
        position_ids: NDArray[np.int64] | None = None,
        bias: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], Any]:
        """Read embeds (S, D) after ``state``; logits (K, V) at the wanted positions and the new keys and values.

        Args:
            position_ids: (S,) of the new tokens; by default those after the state's.
            bias: (1, 1, S, length + S), added to the attention scores on top of causality.
        """

    def attention(self, state: State, embeds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Attention (S, length + S) of embeds (S, D) read after ``state``: the mean over all layers and heads.

        Raises:
            UsageError: this decoder does not tell.
        """
        raise UsageError("this language model does not tell what it attends to")

    def extend(self, state: State, embeds: NDArray[np.float32]) -> State:
        """The state after also reading embeds (S, D), S >= 1."""
        poll()
        logits, past = self.run(state, embeds, np.array([len(embeds) - 1]))
        return State(past, state.length + len(embeds), logits[0])

    def generate(
        self, state: State, embed_table: Embeddings, *, max_new_tokens: int, stop: Collection[int], sampler: Sampler
    ) -> Iterator[int]:
        """Token ids one by one until a stop token (not yielded), the length limit or the context's end."""
        unread: list[int] = []  # the last token of all is never read: nothing follows it
        for _ in range(min(max_new_tokens, self.max_length - state.length)):
            if unread:
                state = self.extend(state, embed_table[unread])
            unread = [sampler(state.logits)]
            if unread[0] in stop:
                return
            yield unread[0]

    def closing(self, state: State, max_new_tokens: int) -> int:
        """From how many tokens on :meth:`generate_guided` brings an answer to its end."""
        room = self.max_length - state.length
        return min(max_new_tokens, max(room - CLOSING_TOKENS, room // 2))

    def generate_guided(
        self, state: State, embed_table: Embeddings, guide: Guide, *, max_new_tokens: int, sampler: Sampler
    ) -> Iterator[int]:
        """As :meth:`generate`, led by a guide to a whole answer; what can follow in one way only is read in one pass.

        From ``max_new_tokens`` on, or earlier where the context is nearly full, the answer is brought to its end.

        Raises:
            UsageError: it does not end within ``CLOSING_TOKENS`` more, or in the context.
        """
        room = self.max_length - state.length
        closing = self.closing(state, max_new_tokens)
        unread: list[int] = []
        written = 0
        while not guide.ended:
            if written >= min(closing + CLOSING_TOKENS, room):
                if guide.whole:
                    return
                raise guide.unfinished(written)
            ids = guide.forced()[: room - written]
            if not ids:
                state, unread = self.extend(state, embed_table[unread]) if unread else state, []
                ids = [sampler(guide.mask(state.logits, closing=written >= closing))]
                if ids[0] in guide.stop:
                    return
            guide.advance(ids)
            yield from ids
            written += len(ids)
            unread += ids

    def branch_logits(
        self, state: State, branches: Sequence[NDArray[np.float32]], *, last_only: bool = False
    ) -> list[NDArray[np.float32]]:
        """Logits (S_i, V) at every token of several continuations (S_i, D) of one prefix, in a single pass.

        The branches are packed one after another and hidden from each other by the bias, with rotary positions that
        all start where the prefix ends: the same numbers as one pass a branch, at the cost of one (in 8 bits nearly:
        all activations of a pass are rounded together).

        Args:
            last_only: logits (1, V) after each branch only; the vocabulary's projection is the dearest part of a pass.
        """
        sizes = [len(b) for b in branches]
        starts = np.cumsum([0, *sizes])
        total = int(starts[-1])
        bias = np.full((1, 1, total, state.length + total), BLOCKED, np.float32)
        bias[..., : state.length] = 0
        for start, size in zip(starts, sizes, strict=False):
            own = slice(state.length + start, state.length + start + size)
            bias[:, :, start : start + size, own] = 0
        positions = np.concatenate([state.length + np.arange(size) for size in sizes])
        wanted = starts[1:] - 1 if last_only else np.arange(total)
        poll()
        logits, _ = self.run(state, np.concatenate(branches), wanted, positions, bias)
        if last_only:
            return list(logits[:, None])
        return [logits[start : start + size] for start, size in zip(starts, sizes, strict=False)]


class OnnxDecoder(Decoder):
    """One session of ``decoder_onnx.build_decoder``.

    Args:
        path: the graph.
        config: its sizes.
        threads: intra-operator threads.
    """

    def __init__(self, path: Path, config: DecoderConfig, *, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.config, self.max_length = config, config.max_position_embeddings
        self._path, self._threads = path, threads
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [o.name for o in self._session.get_outputs()]

    def empty(self) -> State:
        """See ``Decoder.empty``."""
        shape = (1, self.config.num_key_value_heads, 0, self.config.head_dim)
        nothing = np.zeros(shape, np.float32)
        names = [f"past.{i}.{part}" for i in range(self.config.num_hidden_layers) for part in "kv"]
        past = {name: ort.OrtValue.ortvalue_from_numpy(nothing) for name in names}
        return State(past, 0, np.zeros(self.config.vocab_size, np.float32))

    def nbytes(self, state: State) -> int:
        """See ``Decoder.nbytes``."""
        c = self.config
        return 2 * 4 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * state.length

    def run(
        self,
        state: State,
        embeds: NDArray[np.float32],
        wanted: NDArray[np.int64],
        position_ids: NDArray[np.int64] | None = None,
        bias: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, ort.OrtValue]]:
        """See ``Decoder.run``."""
        new, total = len(embeds), state.length + len(embeds)
        if position_ids is None:
            position_ids = np.arange(state.length, total)
        if bias is None:
            bias = np.zeros((1, 1, new, total), np.float32)
        values = _feed(embeds, wanted, total, position_ids, bias)
        results = self._session.run_with_ort_values(self._outputs, {**values, **state.past})
        past = {name.replace("present", "past"): v for name, v in zip(self._outputs[1:], results[1:], strict=True)}
        return results[0].numpy()[0], past

    def attention(self, state: State, embeds: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``Decoder.attention``; the first call opens a second session, which maps the same weights."""
        new, total = len(embeds), state.length + len(embeds)
        bias = np.zeros((1, 1, new, total), np.float32)
        feed = _feed(embeds, np.array([new - 1]), total, np.arange(state.length, total), bias)
        names = [*queries(self.config), *(f"present.{i}.k" for i in range(self.config.num_hidden_layers))]
        poll()
        found = [value.numpy()[0] for value in self._telling.run_with_ort_values(names, {**feed, **state.past})]
        layers = self.config.num_hidden_layers
        pairs = zip(found[:layers], found[layers:], strict=True)
        whole = np.zeros((new, total), np.float32)
        for packed, keys in pairs:  # summed one by one: all layers at once would take layers x heads times the memory
            whole += layer_attention(packed, keys, self.config)
        return whole / np.float32(layers)

    @cached_property
    def _telling(self) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        return open_with_queries(self._path, self.config, options)


def _feed(
    embeds: NDArray[np.float32],
    wanted: NDArray[np.int64],
    total: int,
    position_ids: NDArray[np.int64],
    bias: NDArray[np.float32],
) -> dict[str, ort.OrtValue]:
    feed = {
        "embeds": embeds[None].astype(np.float32, copy=False),
        "positions": wanted.astype(np.int64),
        "seqlens": np.array([total - 1], np.int32),
        "total": np.array(total, np.int32),
        "position_ids": position_ids[None].astype(np.int64),
        "bias": bias,
    }
    return {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in feed.items()}


class EmbedTable:
    """Input embeddings kept as 8-bit blocks (the base model's own Q8_0) and dequantised row by row.

    Args:
        codes: uint8 (V, D / 32, 32).
        scales: float32 (V, D / 32).
    """

    def __init__(self, codes: NDArray[np.uint8], scales: NDArray[np.float32]) -> None:
        self._codes, self._scales = codes, scales

    @classmethod
    def mapped(cls, path: Path) -> EmbedTable:
        """A view of a safetensors file with both: rows that are never looked up take no memory."""
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))

        def part(name: str, dtype: type) -> NDArray[Any]:
            start = 8 + size + header[name]["data_offsets"][0]
            return np.memmap(path, dtype, "r", start, tuple(header[name]["shape"]))

        return cls(part("codes", np.uint8), part("scales", np.float32))

    def __getitem__(self, ids: Sequence[int]) -> NDArray[np.float32]:
        rows = np.asarray(ids, np.int64)
        return dequantize_blocks(np.asarray(self._codes[rows]), np.asarray(self._scales[rows]))


class Sampler:
    """Greedy at temperature 0 (the default), seeded sampling otherwise."""

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        self.temperature, self.top_p = temperature, top_p
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: NDArray[np.float32]) -> int:
        if self.temperature <= 0:
            return int(logits.argmax())
        p = np.exp(log_softmax(logits / self.temperature))
        order = np.argsort(-p)
        keep = order[: int(np.searchsorted(np.cumsum(p[order]), self.top_p)) + 1]
        return int(self._random.choice(keep, p=p[keep] / p[keep].sum()))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
