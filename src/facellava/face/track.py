"""Joining detections of successive frames into tracks, by place and size only: nobody is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from facellava.face.detect import Detection
from facellava.face.nms import iou

__all__ = ["Sighting", "Track", "link", "matched"]

MAX_SIZE_RATIO = 2.0
NEAR = 0.75
"""How far a face may move between two sampled frames, in sides of its box..."""
NEAR_PER_SECOND = 1.0
"""...and how much farther for each second between them..."""
FARTHEST = 2.0
"""...but never farther than this."""


@dataclass(slots=True)
class Track:
    """One face through time: for each frame in which it was seen, the frame's index and the detection."""

    indices: list[int] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)


def link(detections: list[list[Detection]], times: np.ndarray) -> list[Track]:
    """Tracks of all faces, ordered by first appearance and, within one frame, from left to right.

    Frames are taken in order; the closest pair of track and detection is joined first (intersection over
    union and distance of the centres), detections left over start tracks of their own. A track may skip
    frames.

    Args:
        detections: per frame.
        times: float64 (T,) seconds of the frames.
    """
    tracks: list[Track] = []
    for index, found in enumerate(detections):
        free = sorted(found, key=lambda d: float(d.centre[0]))
        last = [Sighting(track.detections[-1], float(times[track.indices[-1]])) for track in tracks]
        pairs = matched(last, [Sighting(detection, float(times[index])) for detection in free])
        for t, d in pairs:
            tracks[t].indices.append(index)
            tracks[t].detections.append(free[d])
        joined = {d for _, d in pairs}
        tracks.extend(Track([index], [detection]) for d, detection in enumerate(free) if d not in joined)
    return tracks


class Sighting(NamedTuple):
    """A face in one frame, and the second of the frame."""

    detection: Detection
    time: float


def matched(last: Sequence[Sighting], now: Sequence[Sighting]) -> list[tuple[int, int]]:
    """Which faces may be the same by place and size: pairs of indices (last, now), the closest first, none twice."""
    costs = []
    for t, before in enumerate(last):
        for d, found in enumerate(now):
            cost = _cost(before.detection, found.detection, found.time - before.time)
            if cost is not None:
                costs.append((cost, t, d))
    pairs, used_last, used_now = [], set(), set()
    for _, t, d in sorted(costs):
        if t not in used_last and d not in used_now:
            used_last.add(t)
            used_now.add(d)
            pairs.append((t, d))
    return pairs


def _cost(last: Detection, now: Detection, elapsed: float) -> float | None:
    """0 for the same place, growing with distance; None when it cannot be the same face."""
    side = max(last.side, now.side)
    if side > MAX_SIZE_RATIO * min(last.side, now.side):
        return None
    distance = float(np.linalg.norm(now.centre - last.centre)) / side
    if distance > min(NEAR + NEAR_PER_SECOND * elapsed, FARTHEST):
        return None
    return distance + 1 - float(iou(last.box, now.box[None])[0])
