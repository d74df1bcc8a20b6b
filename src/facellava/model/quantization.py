"""8-bit weights in the two forms that onnxruntime's products read: blocks of inputs, and columns of outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Weights of the vocabulary that share one scale, which keeps the base model's own Q8_0 blocks exact."""
LARGEST = 63
"""Of an 8-bit weight in a column. x86 processors without VNNI add two products in 16 bits: with 7 bits no sum is cut
off, so that the model is the same on all of them."""


def quantize_blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric 8-bit blocks along the input axis, as ``MatMulNBits`` reads them.

    Args:
        weight: (N, K), K a multiple of 32.

    Returns:
        uint8 (N, K / 32, 32) with zero point 128 and float32 (N, K / 32) scales; error at most half a scale a weight.
    """
    n, k = weight.shape
    assert k % BLOCK == 0, f"input width {k} is not a multiple of {BLOCK}"
    blocks = weight.reshape(n, k // BLOCK, BLOCK)
    scales = _scales(blocks, 127)
    codes = np.rint(blocks / scales[..., None]) + 128
    return codes.astype(np.uint8), scales


def quantize_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric columns of 7 bits, as ``DynamicQuantizeMatMul`` reads them: (N, K) to int8 (K, N) and float32 (N,)."""
    scales = _scales(weight, LARGEST)
    return np.rint(weight / scales[:, None]).astype(np.int8).T, scales


def _scales(values: NDArray[np.float32], largest: int) -> NDArray[np.float32]:
    scales = np.abs(values).max(axis=-1) / largest
    return np.where(scales == 0, 1.0, scales).astype(np.float32)


def dequantize_blocks(codes: NDArray[np.uint8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse of :func:`quantize_blocks`: (..., K / 32, 32) codes and (..., K / 32) scales to (..., K)."""
    values = (codes.astype(np.float32) - 128.0) * scales[..., None]
    return values.reshape(*codes.shape[:-2], -1)
