"""The frozen experts as one encoder: a clip that nobody waits for any more is given up between two frames."""

from __future__ import annotations

import numpy as np
import pytest

from facellava import weights
from facellava.errors import WeightsUnavailable
from facellava.interrupt import watched
from facellava.model.experts import WEIGHTS, ExpertEncoder


def test_a_clip_is_given_up_between_frames() -> None:
    try:
        for name in WEIGHTS:
            weights.resolve(name)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face experts' weights: {error}")

    class Enough(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Enough

    encoder, frames = ExpertEncoder(weights.resolve), np.zeros((5, 256, 256, 3), np.uint8)
    landmarks = np.random.default_rng(0).uniform(0.2, 0.8, (5, 68, 2)).astype(np.float32)
    with watched(check), pytest.raises(Enough):
        encoder.encode(frames, landmarks, np.zeros((5, 52), np.float32))
    assert calls == 2
