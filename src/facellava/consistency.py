"""Does what was said agree with what was measured? Contradictions become notes on the face, never silent edits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from facellava.face import blendshape_names
from facellava.results import ActionUnitsResult, ExpressionResult, TaskResult

STILL, STRONG = 0.05, 0.6
"""Blendshape strengths: below the first a movement is not there, above the second it plainly is."""


def contradictions(results: Mapping[str, TaskResult], blendshapes: NDArray[np.float32]) -> tuple[str, ...]:
    """Notes on answers that the measured movement does not support.

    Args:
        results: task name -> result.
        blendshapes: float32 (T, 52); the strongest frame counts.
    """
    names = blendshape_names()
    peak = blendshapes.max(0)

    def strength(*wanted: str) -> float:
        return float(np.mean([peak[names.index(name)] for name in wanted]))

    smile = strength("mouthSmileLeft", "mouthSmileRight")
    notes = []
    expression, units = results.get("expression"), results.get("action_units")
    if isinstance(expression, ExpressionResult) and expression.label == "happiness" and smile < STILL:
        notes.append("the answer says happiness, but the mouth corners are measured as still")
    if isinstance(units, ActionUnitsResult) and not units.abstained:
        if "AU12" in units.active and smile < STILL:
            notes.append("the answer lists AU12, but the mouth corners are measured as still")
        if "AU12" in units.probabilities and "AU12" not in units.active and smile > STRONG:
            notes.append("the answer leaves AU12 out, but raised mouth corners are measured")
    return tuple(notes)
