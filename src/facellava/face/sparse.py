"""Detection of every k-th frame only: faces move little in a fifth of a second, and where they do it is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facellava.face.detect import Detection, Detector
from facellava.face.nms import iou
from facellava.face.picture import Picture
from facellava.interrupt import poll

__all__ = ["detect_sparsely"]

STEADY_IOU = 0.6
"""Two looks at one face overlap at least this much; less is a jump, a cut or somebody else."""


def detect_sparsely(detector: Detector, frames: Sequence[Picture], every: int) -> list[list[Detection]]:
    """Faces of each frame, the detector being asked about every `every`-th one and wherever two answers differ.

    Where two neighbouring looks show the same faces, those in between lie on straight lines. Otherwise the frame in
    the middle is looked at, and so on down to neighbouring frames.
    """
    found: dict[int, list[Detection]] = {}

    def look(index: int) -> list[Detection]:
        if index not in found:
            poll()
            found[index] = detector.detect(frames[index])
        return found[index]

    last = len(frames) - 1
    open_spans = [(start, min(start + every, last)) for start in range(0, max(last, 1), every)]
    while open_spans:
        start, end = open_spans.pop()
        pairs = _same_faces(look(start), look(end))
        if pairs is None and end - start > 1:
            middle = (start + end) // 2
            open_spans += [(start, middle), (middle, end)]
        elif pairs is not None:
            for index in range(start + 1, end):
                part = (index - start) / (end - start)
                found[index] = [_between(first, second, part) for first, second in pairs]
    return [found[index] for index in range(len(frames))]


def _same_faces(first: list[Detection], second: list[Detection]) -> list[tuple[Detection, Detection]] | None:
    """Each face with itself in the other frame; None unless all faces are steady."""
    if len(first) != len(second):
        return None
    pairs, free = [], list(second)
    for face in first:
        overlaps = [float(iou(face.box, other.box[None])[0]) for other in free]
        if not overlaps or max(overlaps) < STEADY_IOU:
            return None
        pairs.append((face, free.pop(int(np.argmax(overlaps)))))
    return pairs


def _between(first: Detection, second: Detection, part: float) -> Detection:
    return Detection(
        box=_mix(first.box, second.box, part),
        score=min(first.score, second.score),
        keypoints=_mix(first.keypoints, second.keypoints, part),
    )


def _mix(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    return ((1 - part) * a + part * b).astype(np.float32)
