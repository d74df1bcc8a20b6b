"""Numbers for faces across windows, by place and size only: nobody is recognised, who comes back is somebody new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellava.face.detect import Detection
from facellava.face.track import Sighting, matched
from facellava.types import FaceClip

__all__ = ["Numbering"]

KEPT_SECONDS = 10.0
"""A face that is not seen for longer is over, unless frames lie farther apart."""


@dataclass(slots=True)
class Numbering:
    """The faces that may go on, each with where and when it was seen last.

    Attributes:
        kept: seconds after which a face that is not seen is over; one that appears at its place then is another.
        given: numbers that were given so far.
    """

    kept: float = KEPT_SECONDS
    given: int = 0
    _last: dict[int, Sighting] = field(default_factory=dict)

    def number(self, clips: Sequence[FaceClip]) -> list[int]:
        """A number for each clip of the next window: an earlier one's where it goes on, else a new one."""
        now = [_sighting(clip.boxes[0], clip.times[0]) for clip in clips]
        start = min((sighting.time for sighting in now), default=0.0)
        going = [(n, last) for n, last in self._last.items() if start - last.time <= self.kept]
        pairs = matched([last for _, last in going], now)
        found = {d: going[t][0] for t, d in pairs}
        numbers = []
        for index in range(len(clips)):
            if index not in found:
                found[index] = self.given
                self.given += 1
            numbers.append(found[index])
        ended = {n: _sighting(clip.boxes[-1], clip.times[-1]) for n, clip in zip(numbers, clips, strict=True)}
        self._last = dict(going) | ended
        return numbers

    def state(self) -> dict[str, Any]:
        """Plain values for JSON, enough to go on later."""
        last = [[n, float(s.time), *map(float, s.detection.box)] for n, s in self._last.items()]
        return {"given": self.given, "last": last}

    @classmethod
    def of(cls, state: Mapping[str, Any], kept: float = KEPT_SECONDS) -> Numbering:
        """From what :meth:`state` gave."""
        return cls(kept, state["given"], {n: _sighting(np.array(box), time) for n, time, *box in state["last"]})


def _sighting(box: NDArray[np.floating], time: float) -> Sighting:
    points = np.zeros((6, 2), np.float32)  # which place and size do not need
    return Sighting(Detection(box.astype(np.float32), 1.0, points), float(time))
