"""How a face moves through a clip, measured, and a sentence that follows from it."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facellava.instruct.evidence import measures_from_blendshapes
from facellava.types import FaceClip, Sample

MEASURED = ("smile", "mouth_open", "brow_raise", "eye_closed", "eye_wide", "frown", "lip_press")
"""Measures that carry a signal; lowered brows, nose and cheeks do not show in the blendshapes."""
MOVES, STILL = 0.2, 0.1
"""A measure's range over the clip above which it moves, and below which everything is still; between, nothing is said."""
SHORTEST = 0.4
"""Seconds below which a clip is too short for a course."""

Form = Literal["rise_and_fall", "rise", "fall", "steady"]


@cache
def _texts() -> dict:
    return tomllib.loads((resources.files("facellava.instruct") / "temporal.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Course:
    """The strongest movement of a clip.

    Attributes:
        apex: index of the frame in which it is strongest; the middle frame where nothing moves.
        form: its course, None where nothing can be said.
        measure: what moves, "" where nothing does.
        onset, peak, release: seconds from the clip's first frame: a quarter of the rise, the apex, half of the fall.
    """

    apex: int
    form: Form | None = None
    measure: str = ""
    onset: float = 0.0
    peak: float = 0.0
    release: float = 0.0

    def sentence(self, sample: Sample, rng: random.Random) -> str:
        """A sentence about the course, "" where nothing can be said.

        That a face is still is said of neutral ones only: it explains no other label.
        """
        if self.form is None or (self.form == "steady" and sample.label != "neutral"):
            return ""
        texts = _texts()
        what = rng.choice(texts["what"][self.measure]) if self.measure else ""
        times = {"t0": f"{self.onset:.1f}", "t1": f"{self.peak:.1f}", "t2": f"{self.release:.1f}"}
        return rng.choice(texts["course"][self.form]).format(what=what, What=what[:1].upper() + what[1:], **times)


def course_of(clip: FaceClip, names: Sequence[str]) -> Course:
    """The course of the measure that changes most.

    Args:
        clip: its blendshapes (T, 52) and times (T,) are read.
        names: of the blendshapes, in order.
    """
    count = len(clip.times)
    if count < 5 or clip.times[-1] - clip.times[0] < SHORTEST:
        return Course(count // 2)
    rows = [measures_from_blendshapes(values, names) for values in clip.blendshapes]
    tracks = np.array([[row[name] for name in MEASURED] for row in rows])
    tracks = _smoothed(tracks)
    ranges = tracks.max(0) - tracks.min(0)
    best = int(ranges.argmax())
    if ranges[best] < MOVES:
        return Course(count // 2, "steady" if ranges[best] < STILL else None)
    return _course(tracks[:, best], clip.times - clip.times[0], MEASURED[best])


def _smoothed(tracks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over three frames: a single noisy frame is no movement."""
    padded = np.concatenate([tracks[:1], tracks, tracks[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _course(track: NDArray[np.float64], times: NDArray[np.float64], measure: str) -> Course:
    apex = int(track.argmax())
    height, span = track[apex], track.max() - track.min()
    rises, falls = height - track[0] >= span / 2, height - track[-1] >= span / 2
    onset = int(np.flatnonzero(track[: apex + 1] >= track[0] + (height - track[0]) / 4)[0])
    after = np.flatnonzero(track[apex:] <= height - (height - track[-1]) / 2)
    release = apex + int(after[0]) if len(after) else len(track) - 1
    form: Form | None = "rise_and_fall" if rises and falls else "rise" if rises else "fall" if falls else None
    return Course(apex, form, measure, float(times[onset]), float(times[apex]), float(times[release]))
