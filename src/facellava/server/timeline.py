"""``/v1/timeline``: the expert head's probabilities through a short video, and the course of what it shows.

The analysis of a video is one statement about the whole of it. Here the same head is read frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from facellava import tasks
from facellava.answers import reason_to_abstain
from facellava.errors import UsageError
from facellava.interrupt import poll
from facellava.model.frames import frame_indices
from facellava.runtime.engine import Engine
from facellava.server.faces import Found, Medium
from facellava.server.schemas import TimelineRequest
from facellava.server.service import Service
from facellava.server.views import in_turn, on_face
from facellava.types import FaceClip

__all__ = ["SAMPLES", "episodes", "timeline"]

SAMPLES = 24
"""Frames that are looked at, evenly spaced."""
CALM = "neutral"
"""The expression that has no course of its own."""
SHORTEST = 2
"""Frames of an episode."""

Tracks = Mapping[str, NDArray[np.floating]]


async def timeline(service: Service, request: TimelineRequest, http: Request) -> dict[str, Any]:
    """The response; raises Problem and FacellavaError."""
    service.require_model(request.model)
    medium = Medium.of([await service.sources.read(request.media, "media")])
    calm = "movements" in (service.settings.mode, request.mode)
    names = ("action_units",) if calm else ("expression", "action_units")

    def view(found: Found, clip: FaceClip) -> dict[str, Any]:
        return {"object": "timeline", **_through_time(service.analyzer.engine, found, clip, names)}

    return await in_turn(service, http, on_face(service, medium, request.face, view))


def _through_time(engine: Engine, found: Found, clip: FaceClip, names: Sequence[str]) -> dict[str, Any]:
    """Times and probabilities of the tasks in ``names``, and episodes; nothing of a face that is not judged."""
    if found.kind != "video":
        raise UsageError("a picture has no timeline: give a video")
    if not all(engine.scores_by_head(name) for name in names):
        raise UsageError("this model has no expert head, which a timeline is read from")
    if reason_to_abstain(clip) is not None:
        return {"times": [], **{name: {} for name in names}, "thresholds": {}, "episodes": []}
    chosen = frame_indices(len(clip.times), min(SAMPLES, len(clip.times)))
    rows = np.stack([_frame(engine, clip, frame) for frame in chosen])
    times, slots = clip.times[chosen], engine.by_slot(rows)
    tracks = {name: _tracks(name, slots) for name in names}
    thresholds = {unit: engine.thresholds.get(unit, 0.5) for unit in tracks["action_units"]}
    return {
        "times": [round(float(time), 3) for time in times],
        **{name: {label: _rounded(track) for label, track in found.items()} for name, found in tracks.items()},
        "thresholds": thresholds,
        "episodes": [*_of_expression(tracks.get("expression", {}), times), *_of_units(tracks, thresholds, times)],
    }


def _frame(engine: Engine, clip: FaceClip, frame: int) -> NDArray[np.float32]:
    """The head's probabilities (O,) of one frame."""
    poll()
    one = slice(frame, frame + 1)
    alone = {name: getattr(clip, name)[one] for name in ("frames", "landmarks", "blendshapes", "boxes", "times")}
    return engine.judge(replace(clip, **alone))


def _tracks(name: str, slots: Tracks) -> dict[str, NDArray[np.floating]]:
    task = tasks.get(name)
    if task.kind == "single":
        return {label: slots[name][:, n] for n, label in enumerate(task.names)}
    return {label: slots[label][:, 0] for label in task.names if label in slots}


def _of_expression(tracks: Tracks, times: NDArray[np.floating]) -> Iterator[dict[str, Any]]:
    """An expression's episode is a run of frames in which it is the likeliest."""
    labels = list(tracks)
    smooth = [_median(track) for track in tracks.values()]
    best = np.argmax(smooth, axis=0) if labels else np.zeros(0)
    for n, label in enumerate(labels):
        if label != CALM:
            yield from ({"task": "expression", "label": label, **e} for e in episodes(smooth[n], best == n, times))


def _of_units(
    tracks: Mapping[str, Tracks], thresholds: Mapping[str, float], times: NDArray[np.floating]
) -> Iterator[dict[str, Any]]:
    """An action unit's episode is a run of frames in which it reaches the threshold from which it counts."""
    for unit, track in tracks["action_units"].items():
        smooth = _median(track)
        found = episodes(smooth, smooth >= thresholds[unit], times)
        yield from ({"task": "action_units", "label": unit, **episode} for episode in found)


def episodes(
    track: NDArray[np.floating], shown: NDArray[np.bool_], times: NDArray[np.floating]
) -> Iterator[dict[str, Any]]:
    """Onset, apex and offset in seconds, and the probability at the apex, of each run of at least ``SHORTEST`` frames
    that show something.

    The onset is the first frame of the run, the offset its last; each is None where the run reaches the video's end.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start < SHORTEST:
            continue
        apex = int(start + track[start:stop].argmax())
        yield {
            "onset": round(float(times[start]), 3) if start > 0 else None,
            "apex": round(float(times[apex]), 3),
            "offset": round(float(times[stop - 1]), 3) if stop < len(times) else None,
            "peak": round(float(track[apex]), 4),
        }


def _median(track: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of each three frames: a single noisy one is no movement."""
    padded = np.concatenate([track[:1], track, track[-1:]])
    return np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)


def _rounded(track: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 4) for value in track]
