"""What the model has read of pictures and videos, remembered in memory for a while: questions about one share it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from facellava.analyzer import Analyzer
from facellava.errors import MediaTooLarge, UsageError
from facellava.face import Limits, Policy, read_media
from facellava.interrupt import poll
from facellava.runtime.engine import Seen
from facellava.server.measures import Measures
from facellava.types import FaceClip, MediaKind

__all__ = ["Faces", "Found", "Medium"]


class Medium(NamedTuple):
    """The bytes of a picture or video, or of pictures that are the frames of one video; ``digest`` names them."""

    parts: tuple[bytes, ...]
    digest: str

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> Medium:
        """Several equal parts in a row stay several: they are frames."""
        whole = hashlib.sha256()
        for part in parts:
            whole.update(hashlib.sha256(part).digest())
        return cls(tuple(parts), whole.hexdigest())


@dataclass(frozen=True, slots=True)
class Found:
    """The faces of a medium.

    Attributes:
        key: its name in the cache. moment: second of its representative frame. clips: its faces.
        size: width and height in pixels.
        boxes: (second, (n, 4) boxes of all that the detector takes for a face) of each frame that was looked at.
    """

    key: tuple[str, Policy]
    kind: MediaKind
    moment: float
    clips: tuple[FaceClip, ...]
    size: tuple[int, int] = (0, 0)
    boxes: tuple[tuple[float, np.ndarray], ...] = ()


@dataclass(slots=True)
class _Kept:
    value: Any
    size: int
    used: float


class Faces:
    """The front end and the model's reading, with a memory of what was used last.

    Args:
        limits: of media. size: bytes to remember at most, 0 for nothing. seconds: after the last use.
    """

    def __init__(self, analyzer: Analyzer, limits: Limits, size: int, seconds: float, measures: Measures) -> None:
        self._analyzer, self._limits, self._measures = analyzer, limits, measures
        self._size, self._seconds = size, seconds
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def find(self, medium: Medium, policy: Policy = "all") -> Found:
        """Every face of a medium; in the model's thread.

        Raises:
            FacellavaError: as ``Analyzer.clips``.
        """
        key = medium.digest, policy
        found = self._get(key)
        if found is None:
            source = medium.parts[0] if len(medium.parts) == 1 else self._stacked(medium.parts)
            media = read_media(source, limits=self._limits)
            clips, boxes = self._analyzer.find(media, policy=policy)
            height, width = media.frames.shape[1:3]
            moment = float(media.times[len(media.times) // 2])
            seen = tuple(zip(media.times.tolist(), boxes, strict=True))
            found = Found(key, media.kind, moment, tuple(clips), (width, height), seen)
            self._put(key, found, sum(_clip_bytes(clip) for clip in clips))
        return found

    def look(self, found: Found, clip: FaceClip) -> tuple[Seen, bool]:
        """What the model reads of a face, and whether it was remembered; in the model's thread."""
        key = *found.key, clip.face_id
        seen = self._get(key)
        self._measures.face(seen is not None)
        if seen is not None:
            return seen, True
        seen = self._analyzer.engine.look(clip)
        self._put(key, seen, self._analyzer.engine.nbytes(seen))
        return seen, False

    def forget(self, *, everything: bool = False) -> None:
        """Drop what was not used for long; from any thread."""
        oldest = time.monotonic() - self._seconds
        with self._lock:
            for key in [key for key, kept in self._kept.items() if everything or kept.used < oldest]:
                self._held -= self._kept.pop(key).size
            self._measures.cache_bytes.set(self._held)

    def _get(self, key: tuple[Any, ...]) -> Any:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.used < time.monotonic() - self._seconds:
                return None
            self._kept.move_to_end(key)
            kept.used = time.monotonic()
            return kept.value

    def _put(self, key: tuple[Any, ...], value: Any, size: int) -> None:
        if size > self._size or not self._size:
            return
        with self._lock:
            old = self._kept.pop(key, None)
            self._held += size - (old.size if old else 0)
            self._kept[key] = _Kept(value, size, time.monotonic())
            while self._held > self._size:
                self._held -= self._kept.popitem(last=False)[1].size
            self._measures.cache_bytes.set(self._held)

    def _stacked(self, parts: Sequence[bytes]) -> np.ndarray:
        """Pictures of one size as uint8 (T, H, W, 3)."""
        frames: list[np.ndarray] = []
        for part in parts:
            poll()
            media = read_media(part, limits=self._limits)
            frame = media.frames[0]
            if media.kind != "image":
                raise UsageError(
                    "several media in one message are the frames of one video: give pictures, or one video"
                )
            if frames and frame.shape != frames[0].shape:
                raise UsageError("the pictures differ in size: several pictures are taken for the frames of one video")
            if frame.nbytes * len(parts) > self._limits.max_memory:
                raise MediaTooLarge(f"{len(parts)} pictures of this size are too many: scale them down")
            frames.append(frame)
        return np.stack(frames)


def _clip_bytes(clip: FaceClip) -> int:
    return sum(a.nbytes for a in (clip.frames, clip.landmarks, clip.blendshapes, clip.boxes, clip.times))
