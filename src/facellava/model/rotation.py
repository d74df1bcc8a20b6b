"""Turns a decoder's residual stream by an orthogonal matrix, so that no channel stands out.

A few channels of a language model are ten times as large as the rest, and what rounds a whole activation with one
scale rounds the rest away. After a turn by a random orthogonal matrix every channel is a sum of all, so that none is
large. The turn commutes with the root-mean-square norm and is folded into the weights on both sides: the same function,
at no cost but one product where the embeddings come in (the idea of QuaRot, arXiv 2404.00456). Values are turned
within their heads likewise. What enters the MLP's last product cannot come turned out of the weights before it, because
a nonlinearity lies between: it is turned where it is used, in groups of 64 channels, which is cheap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float32]]


def orthogonal(width: int, seed: int) -> NDArray[np.float32]:
    """A random orthogonal matrix (width, width)."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0].astype(np.float32)


@cache
def within_mlp(width: int) -> NDArray[np.float32]:
    """The turn (g, g) of every group of channels before the MLP's last product; g divides the width, at most 64."""
    return orthogonal(math.gcd(width, 64), 2)


class Rotated(Mapping[str, NDArray[np.float32]]):
    """A decoder's weights in the turned frame, computed one by one when they are asked for.

    Embeddings have to be multiplied by ``turn`` from the right; ``lm_head.weight`` reads the turned stream also where
    the base ties it to the embedding; all norms' weights are folded away. ``down_proj`` reads its input turned by
    ``within_mlp``.

    Args:
        weights: Hugging Face names, float32 (out, in).
        head_dim: width of one attention head.
    """

    def __init__(self, weights: Weights, head_dim: int) -> None:
        self._weights, self._head_dim = weights, head_dim
        self.turn = orthogonal(len(weights["model.norm.weight"]), 0)
        self._within_heads = orthogonal(head_dim, 1)

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self._weights), "lm_head.weight": None})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name == "lm_head.weight":
            head = self._weights.get(name, self._weights["model.embed_tokens.weight"])
            return self._reads(head, "model.norm.weight")
        weight, (block, _, part) = self._weights[name], name.removesuffix(".weight").rpartition(".")
        layer = block.rpartition(".")[0]
        if part.endswith("norm"):
            return np.ones_like(weight)
        if part in ("q_proj", "k_proj"):
            return self._reads(weight, f"{layer}.input_layernorm.weight")
        if part == "v_proj":
            read = self._reads(weight, f"{layer}.input_layernorm.weight")
            heads = read.reshape(-1, self._head_dim, read.shape[1])
            return (self._within_heads.T @ heads).reshape(read.shape)
        if part in ("gate_proj", "up_proj"):
            return self._reads(weight, f"{layer}.post_attention_layernorm.weight")
        if part == "o_proj":
            heads = weight.reshape(len(weight), -1, self._head_dim)
            return np.asarray(self.turn.T @ (heads @ self._within_heads).reshape(weight.shape), np.float32)
        if part == "down_proj":
            inner = within_mlp(weight.shape[1])
            grouped = weight.reshape(len(weight), -1, len(inner)) @ inner
            return np.asarray(self.turn.T @ grouped.reshape(weight.shape), np.float32)
        return weight @ self.turn  # the embeddings themselves

    def _reads(self, weight: NDArray[np.float32], norm: str) -> NDArray[np.float32]:
        return np.asarray((weight * self._weights[norm]) @ self.turn, np.float32)
