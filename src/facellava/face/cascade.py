"""Near faces first, far ones too when there is room for them: the two BlazeFace networks used together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from facellava.face.detect import BlazeFaceDetector, Detection
from facellava.face.nms import iou
from facellava.face.picture import Picture
from facellava.face.warp import Region
from facellava.interrupt import poll

__all__ = ["CascadeDetector", "merge", "tiles"]

FILLS_PICTURE = 0.5
"""A face this large, as a part of the picture's longer side, leaves no room for others."""
NEAR_RELIABLE = 0.15
NEAR_SURE = 0.7
"""The near network's box is taken from this part of the longer side and this score on."""
TINY = 0.12
"""Faces below this part of the longer side may have still smaller company that needs tiles."""
MIN_TILE = 480
"""Smaller tiles would only enlarge what is there."""
TILE_LEVELS = 2
TILE_OVERLAP = 0.25
SAME_IOU = 0.3
MOSTLY_INSIDE = 0.7


class CascadeDetector:
    """Short range on the whole picture; full range unless one face fills it; tiles for small faces.

    Args:
        near: the short-range network, MediaPipe's default.
        far: gives the full-range network; called once, on first need.
        tiles: whether pictures with only small faces, or none, are also looked at in overlapping tiles. Costs
            about 5 ms for each tile, which adds up over the frames of a video.
    """

    def __init__(self, near: BlazeFaceDetector, far: Callable[[], BlazeFaceDetector], *, tiles: bool = True) -> None:
        self._near, self._make_far, self._tiles = near, far, tiles
        self._far: BlazeFaceDetector | None = None

    def detect(self, frame: Picture) -> list[Detection]:
        """See `Detector`."""
        longest = max(frame.shape[:2])
        near = self._near.detect(frame)
        if near and max(d.side for d in near) >= FILLS_PICTURE * longest:
            return near
        if self._far is None:
            self._far = self._make_far()
        sure = [d for d in near if d.side >= NEAR_RELIABLE * longest and d.score >= NEAR_SURE]
        unsure = [d for d in near if d not in sure]
        found = merge([*sure, *sorted([*self._far.detect(frame), *unsure], key=lambda d: -d.score)])
        if self._tiles and min((d.side for d in found), default=0.0) < TINY * longest:
            found = merge([*found, *self._in_tiles(self._far, frame)])
        return sorted(found, key=lambda d: -d.score)

    @staticmethod
    def _in_tiles(far: BlazeFaceDetector, frame: Picture) -> Iterator[Detection]:
        for region in tiles(*frame.shape[:2]):
            poll()
            for detection in far.detect_region(frame, region):
                if _is_whole(detection, region, frame):
                    yield detection


def merge(found: list[Detection]) -> list[Detection]:
    """Drop whatever an earlier detection of the list already covers."""
    kept: list[Detection] = []
    for candidate in found:
        if not any(_same(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def _same(a: Detection, b: Detection) -> bool:
    """Overlapping, or one mostly inside the other (half a face is no second face)."""
    overlap = float(iou(a.box, b.box[None])[0])
    if overlap > SAME_IOU:
        return True
    areas = [float(np.prod(d.box[2:] - d.box[:2])) for d in (a, b)]
    shared = overlap * sum(areas) / (1 + overlap)
    return shared > MOSTLY_INSIDE * min(areas)


def tiles(height: int, width: int) -> list[Region]:
    """Overlapping squares covering the picture, with a half, then a quarter of its longer side."""
    sides = [max(height, width) / 2**level for level in range(1, TILE_LEVELS + 1)]
    return [
        Region(x, y, side)
        for side in sides
        if side >= MIN_TILE
        for y in _centres(height, side)
        for x in _centres(width, side)
    ]


def _centres(length: int, side: float) -> list[float]:
    if length <= side:
        return [length / 2]
    count = int(np.ceil((length - side) / (side * (1 - TILE_OVERLAP)))) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()


def _is_whole(detection: Detection, region: Region, frame: Picture) -> bool:
    """Not cut by the tile's edge, unless that is the picture's edge as well."""
    height, width = frame.shape[:2]
    left, right = region.cx - region.side / 2, region.cx + region.side / 2
    top, bottom = region.cy - region.side / 2, region.cy + region.side / 2
    x0, y0, x1, y1 = detection.box
    return bool(
        (x0 >= left or left <= 0)
        and (y0 >= top or top <= 0)
        and (x1 <= right or right >= width)
        and (y1 <= bottom or bottom >= height)
    )
