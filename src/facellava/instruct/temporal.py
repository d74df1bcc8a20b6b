"""How the movement that speaks for a label develops through a clip, measured, and a sentence that follows from it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facellava.face import blendshape_names
from facellava.instruct.facts import measures_from_blendshapes, texts
from facellava.types import FaceClip, Sample

MEASURED = ("smile", "mouth_open", "jaw_open", "brow_raise", "eye_closed", "eye_wide")
"""Measures that follow what is seen; the others do not (``evidence.toml`` says how that was found out)."""
MOVES, STILL = 0.2, 0.1
"""A measure's range over the clip above which it moves, and below which all are still; between, nothing is said."""
SHORTEST = 0.4
"""Seconds below which a clip is too short for a course."""
BLINK = 0.5
"""Eyes that stay closed for less than so many seconds blink, which says nothing."""

Form = Literal["rise_and_fall", "rise", "fall", "steady"]
Track = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Course:
    """The strongest movement of a clip that speaks for its label.

    Attributes:
        apex: index of the frame in which it is strongest; the middle frame where nothing moves.
        form: its course, None where nothing can be said.
        measure: what moves, "" where nothing does.
        onset, peak, release: seconds from the clip's first frame: a quarter of the rise is done; the apex; three
            quarters of the fall are done. 0 where there is no rise or no fall.
    """

    apex: int
    form: Form | None = None
    measure: str = ""
    onset: float = 0.0
    peak: float = 0.0
    release: float = 0.0

    def sentence(self, rng: random.Random) -> str:
        """A sentence about the course, "" where nothing can be said."""
        if self.form is None:
            return ""
        said = texts("temporal")
        what = rng.choice(said["what"][self.measure]) if self.measure else ""
        times = {"t0": f"{self.onset:.1f}", "t1": f"{self.peak:.1f}", "t2": f"{self.release:.1f}"}
        return rng.choice(said["course"][self.form]).format(what=what, What=what[:1].upper() + what[1:], **times)


def course_of(sample: Sample, clip: FaceClip) -> Course:
    """The course of the measure that speaks for the sample's label and changes most.

    That a face is still is said of neutral ones only: it explains no other label. A movement is told of where it has
    one clear form: what comes and goes twice, never quite goes, or is half there at an end of the clip has none.

    Args:
        clip: its blendshapes (T, 52) and times (T,) are read.
    """
    count = len(clip.times)
    still = Course(count // 2)
    if count < 5 or clip.times[-1] - clip.times[0] < SHORTEST:
        return still
    times, tracks = clip.times - clip.times[0], _tracks(clip)
    if sample.label == "neutral":
        calm = all(np.ptp(track) < STILL for name, track in tracks.items() if not _blinks(name, track, times))
        return Course(count // 2, "steady") if calm else still
    telling = [name for name in _speaking_for(sample) if not _blinks(name, tracks[name], times)]
    best = max(telling, key=lambda name: np.ptp(tracks[name]), default=None)
    if best is None or np.ptp(tracks[best]) < MOVES:
        return still
    return _course(tracks[best], times, best)


def _speaking_for(sample: Sample) -> list[str]:
    """Measures whose rise shows the sample's label, in the order of ``MEASURED``."""
    data = texts("evidence")
    facts: Iterable[str] = ()
    if sample.task == "expression" and sample.label is not None:
        facts = data["expression"][sample.label]["support"]
    elif sample.task == "action_units" and isinstance(sample.label, tuple):
        facts = [name for name, fact in data["facts"].items() if set(fact["units"]) & set(sample.label)]
    wanted = {data["facts"][name].get("measure") for name in facts}
    return [name for name in MEASURED if name in wanted]


def _tracks(clip: FaceClip) -> dict[str, Track]:
    """Each measure over the frames; the median of three, because a single noisy frame is no movement."""
    rows = [measures_from_blendshapes(values, blendshape_names()) for values in clip.blendshapes]
    found = {}
    for name in MEASURED:
        track = np.array([row[name] for row in rows])
        padded = np.concatenate([track[:1], track, track[-1:]])
        found[name] = np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    return found


def _blinks(name: str, track: Track, times: Track) -> bool:
    if name != "eye_closed":
        return False
    closed = track > (track.max() + track.min()) / 2
    return float(closed.mean() * times[-1]) < BLINK


def _course(track: Track, times: Track, measure: str) -> Course:
    apex, low, height = int(track.argmax()), track.min(), track.max()
    if low > height / 3:  # it grows or fades, but it is there all the time
        return Course(apex)
    quarter, half, most = (low + (height - low) * part for part in (0.25, 0.5, 0.75))
    before, after = np.flatnonzero(track[:apex] < quarter), np.flatnonzero(track[apex:] < quarter)
    onset = int(before[-1]) + 1 if len(before) else 0
    release = apex + int(after[0]) if len(after) else len(track) - 1
    rises = track[0] < quarter and (track[:onset] < half).all()
    stays = (track[apex:] >= half).all()
    falls = track[-1] < quarter and (track[release:] < half).all()
    starts = track[0] >= most and (track[:apex] >= half).all()
    form: Form
    if rises and falls:
        form = "rise_and_fall"
    elif rises and stays:
        form = "rise"
    elif starts and falls:
        form = "fall"
    else:
        return Course(apex)
    begin = float(times[onset]) if rises else 0.0
    end = float(times[release]) if falls else 0.0
    return Course(apex, form, measure, begin, float(times[apex]), end)
