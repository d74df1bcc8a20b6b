"""Appendix E.1: from a source's media to stored clips, each medium decoded once however many samples it holds.

A *unit* is what a sample looks at: a picture, a video, a window of one, a single frame. Samples of several tasks about
one face share a unit; a unit either gives a clip in the store or a reason why not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from facellava import weights
from facellava.errors import FacellavaError
from facellava.face import FaceFrontEnd, Window, read_windows
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.recipe import PreprocessConfig
from facellava.types import FaceClip, Media, Sample

CODE_VERSION = 1
"""Raised when the same medium would give another clip."""
NETWORKS = ("blazeface-short-range", "blazeface-full-range", "face-mesh", "face-blendshapes")

Box = tuple[float, float, float, float]


def fingerprint(config: PreprocessConfig) -> str:
    """Hash of everything that determines a clip besides its medium."""
    register = {item.name: item.sha256 for item in weights.default_register()}
    settings = dataclasses.asdict(config)
    if config.crop == "centred":
        del settings["crop"]  # clips that were made before there was a choice keep their names
    parts = [CODE_VERSION, settings, [register[name] for name in NETWORKS]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Unit:
    """What one or several samples look at; see the module's text."""

    window: Window
    box: Box | None


@dataclass(frozen=True, slots=True)
class Job:
    """One medium and the units wanted of it, with their journal keys in the same order."""

    media: Path
    units: tuple[Unit, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one unit: a clip's key, or a code and message.

    ``seconds`` of work and ``bytes`` on disk are its costs; ``duration`` is the clip's own in seconds, 0 for a
    picture; ``sha256`` is the medium's.
    """

    key: str
    clip: str | None = None
    duration: float = 0.0
    sha256: str = ""
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    bytes: int = 0


def unit_of(sample: Sample) -> Unit:
    """What the sample looks at."""
    return Unit(sample.window if sample.frame is None else sample.frame, sample.box)


def unit_key(sample: Sample, made_by: str) -> str:
    """Journal key of the sample's unit: path, size and time of the medium, window, box, fingerprint."""
    try:
        state = sample.media.stat()
        identity = [str(sample.media), state.st_size, state.st_mtime_ns]
    except OSError:  # preprocessing finds out and says why
        identity = [str(sample.media), -1, -1]
    unit = unit_of(sample)
    return hashlib.sha256(json.dumps([identity, unit.window, unit.box, made_by]).encode()).hexdigest()


def jobs(samples: Iterable[Sample], keys: dict[str, str], done: Iterable[str], size: int = 200) -> Iterator[Job]:
    """Work that is left: the units of each medium that have no row yet, at most ``size`` a job.

    Args:
        samples: in any order; those of one medium may be apart.
        keys: sample id -> key of its unit.
        done: keys that need no work.
    """
    finished = set(done)
    wanted: dict[str, tuple[Path, Unit]] = {}
    for sample in samples:
        key = keys[sample.id]
        if key not in finished:
            wanted.setdefault(key, (sample.media, unit_of(sample)))
    ordered = sorted(wanted.items(), key=lambda item: (str(item[1][0]), _start(item[1][1].window)))
    for media, group in groupby(ordered, key=lambda item: item[1][0]):
        members = list(group)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            yield Job(media, tuple(unit for _, (_, unit) in part), tuple(key for key, _ in part))


def _start(window: Window) -> float:
    return -1.0 if window is None else float(window if isinstance(window, int) else window[0])


@dataclass(frozen=True)
class Preprocessor:
    """Makes the worker of this stage; picklable, so that any engine can run it.

    Attributes:
        store: folder of the clip store. config: see ``PreprocessConfig``.
    """

    store: Path
    config: PreprocessConfig

    def __call__(self) -> Worker:
        return Worker(ClipStore(self.store), self.config)


class Worker:
    """Runs jobs with one front end; for one thread of one process."""

    def __init__(self, store: ClipStore, config: PreprocessConfig) -> None:
        self.store, self.config = store, config
        self.fingerprint = fingerprint(config)
        self.front = FaceFrontEnd(
            weights.resolve,
            margin=config.margin,
            crop=config.crop,
            policy=config.policy,
            detect_every=config.detect_every,
        )

    def __call__(self, job: Job) -> list[Outcome]:
        """One outcome for each unit, in order; a medium that cannot be read fails all its units with one reason."""
        windows = sorted({unit.window for unit in job.units}, key=_start)
        found: dict[Window, list[Outcome]] = {}
        units = {window: [n for n, u in enumerate(job.units) if u.window == window] for window in windows}
        started = time.process_time()
        try:
            for window, media in read_windows(job.media, windows):
                found[window] = [self._outcome(job, n, media) for n in units[window]]
        except FacellavaError as error:
            missing = [w for w in windows if w not in found]
            found |= {w: [_refused(job.keys[n], error) for n in units[w]] for w in missing}
        cost = (time.process_time() - started) / len(job.units)
        by_key = {outcome.key: outcome for outcomes in found.values() for outcome in outcomes}
        return [dataclasses.replace(by_key[key], seconds=cost) for key in job.keys]

    def _outcome(self, job: Job, number: int, media: Media | FacellavaError) -> Outcome:
        key, unit = job.keys[number], job.units[number]
        if isinstance(media, FacellavaError):
            return _refused(key, media)
        try:
            clip = _chosen(self.front.clips(media), unit.box)
        except FacellavaError as error:
            return _refused(key, error)
        name = self._clip_key(clip, unit)
        path = self.store.path(name)
        size = path.stat().st_size if name in self.store else self.store.save(name, clip)
        duration = float(clip.times[-1] - clip.times[0]) + 1 / (media.fps or 25.0) if len(clip.times) > 1 else 0.0
        return Outcome(key, name, duration, media.sha256, bytes=size)

    def _clip_key(self, clip: FaceClip, unit: Unit) -> str:
        parts = [clip.source.sha256, unit.window, unit.box, self.fingerprint]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _chosen(clips: list[FaceClip], box: Box | None) -> FaceClip:
    """The clip of the labelled face: nearest to its box where there is one, else the largest."""
    if box is None:
        return max(clips, key=lambda clip: clip.quality.size)
    centre = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])
    return min(clips, key=lambda clip: float(np.linalg.norm(clip.boxes[0].reshape(2, 2).mean(0) - centre)))


def _refused(key: str, error: FacellavaError) -> Outcome:
    return Outcome(key, code=error.code, message=str(error))


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """The journal's form, without the key."""
    record = dataclasses.asdict(outcome)
    del record["key"]
    return record
