"""Joining detections of successive frames into tracks, by place and size only: nobody is recognised."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from facellava.face.detect import Detection
from facellava.face.nms import iou

__all__ = ["Track", "link"]

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
        for track, detection in _pairs(tracks, free, times, index):
            track.indices.append(index)
            track.detections.append(detection)
            free = [d for d in free if d is not detection]
        tracks.extend(Track([index], [detection]) for detection in free)
    return tracks


def _pairs(tracks: list[Track], found: list[Detection], times: np.ndarray, index: int) -> list[tuple[Track, Detection]]:
    costs = []
    for t, track in enumerate(tracks):
        elapsed = float(times[index] - times[track.indices[-1]])
        for d, detection in enumerate(found):
            cost = _cost(track.detections[-1], detection, elapsed)
            if cost is not None:
                costs.append((cost, t, d))
    pairs, used_tracks, used_found = [], set(), set()
    for _, t, d in sorted(costs):
        if t not in used_tracks and d not in used_found:
            used_tracks.add(t)
            used_found.add(d)
            pairs.append((tracks[t], found[d]))
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
