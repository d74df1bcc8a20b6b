"""The shipped default, loaded once for all tests that need it; without weights and network they skip."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from facellava.analyzer import Analyzer, load
from facellava.errors import WeightsUnavailable


@cache
def analyzer(precision: str = "int8") -> Analyzer:
    try:
        return load(precision=precision, progress=False, threads=2)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the default weights: {error}")


def astronaut() -> np.ndarray:
    """A real face: NASA's public-domain portrait that scikit-image carries, uint8 (512, 512, 3)."""
    return pytest.importorskip("skimage.data").astronaut()


def require_weights() -> None:
    """Skip where the default's language model or its face experts cannot be had."""
    from facellava import weights
    from facellava.model.experts import WEIGHTS
    from facellava.runtime.build import BASE

    try:
        for name in (BASE, *WEIGHTS):
            weights.resolve(name)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the default weights: {error}")
