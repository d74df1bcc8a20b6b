"""Helpers that the model's tests import."""

from __future__ import annotations

import torch
from torch import Tensor


def close(actual: Tensor, expected: Tensor, atol: float) -> None:
    """Largest difference within ``atol``, nothing relative."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0.0)
