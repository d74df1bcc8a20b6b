"""From a video to one result a window, as they come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facellava import showing
from facellava.analyzer import Analyzer, Mode, wanted_tasks
from facellava.errors import DamagedMedia, LandmarksFailed, MediaTooLarge, NoFace
from facellava.face import Limits
from facellava.face.stretches import Stretch, VideoFile, read_stretches
from facellava.results import FaceResult, ResultError
from facellava.timeline.numbering import KEPT_SECONDS, Numbering
from facellava.types import Media

if TYPE_CHECKING:
    import pandas

__all__ = ["LIMITS", "TASKS", "Asked", "WindowResult", "results", "watch"]

TASKS = ("expression", "action_units", "age", "deepfake")
"""What is looked for unless tasks are named; attributes hardly change within a video."""
LIMITS = Limits(max_bytes=1 << 50, max_duration=math.inf, max_memory=512 << 20)
"""Any length; the memory is that of one window's frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowResult:
    """What a stretch of a video shows.

    Attributes:
        window: number, from 0. Windows that hold no frame are one result, under the number of the first of them.
        start, end: seconds from the first frame.
        frames: that were looked at.
        faces: ``FaceResult.id`` is the number of the face's track, the same in later windows as long as the face goes
            on at its place; nobody is recognised.
        error: why there is none: ``no_face``, or what kept the window from being read.
    """

    window: int
    start: float
    end: float
    frames: int
    faces: tuple[FaceResult, ...] = ()
    error: ResultError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON (docs/timeline.md)."""
        error = self.error and self.error.to_dict()
        return {
            "window": self.window,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "frames": self.frames,
            "error": error,
            "faces": [face.to_dict() for face in self.faces],
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row a face. Raises MissingExtra: pandas is not installed."""
        head = {"window": self.window, "start": self.start, "end": self.end}
        return showing.data_frame([head | showing.face_row(face.to_dict()) for face in self.faces])

    def _repr_html_(self) -> str:
        title = f"{self.start:.1f} to {self.end:.1f} s"
        return showing.media_html({**self.to_dict(), "media": title, "kind": "window"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of every window; make it with :meth:`of`."""

    seconds: float
    frames: int
    tasks: tuple[str, ...]

    @classmethod
    def of(
        cls, seconds: float = 5.0, frames: int = 4, tasks: Sequence[str] | None = None, mode: Mode = "full"
    ) -> Asked:
        """Raises UsageError for tasks that do not exist or that ``mode`` does not report."""
        named = TASKS if tasks is None and mode == "full" else tasks
        return cls(float(seconds), frames, tuple(wanted_tasks(named, mode)))

    @property
    def kept(self) -> float:
        """Seconds after which a face that is not seen is over: ten, or two frames."""
        return max(KEPT_SECONDS, 2 * self.seconds / self.frames)


def watch(
    analyzer: Analyzer,
    source: str | Path,
    *,
    seconds: float = 5.0,
    frames: int = 4,
    tasks: Sequence[str] | None = None,
    mode: Mode = "full",
) -> Iterator[WindowResult]:
    """What each face of a video displays, window by window: labels and probabilities, no sentences.

    Memory does not grow with the length of the video. A window that cannot be read or shows no face is a result with an
    error, and the next one follows.

    Args:
        source: path of a video.
        seconds: of a window, .1 to 3600.
        frames: of a window that are looked at, evenly spaced, 1 to 64.
        tasks: as in ``Analyzer.analyze``; displayed expression, movements, age and authenticity by default.
        mode: ``movements`` reports action units only.

    Raises:
        UsageError: it is a picture, or an option makes no sense.
        FacellavaError: nothing of the file can be read; see ``facellava.errors``.
    """
    asked = Asked.of(seconds, frames, tasks, mode)
    file = VideoFile.of(Path(source), asked.seconds, asked.frames, LIMITS)
    return (result for _, result in results(analyzer, file, asked, Numbering(asked.kept)))


def results(
    analyzer: Analyzer, file: VideoFile, asked: Asked, numbering: Numbering, first: int = 0
) -> Iterator[tuple[Stretch, WindowResult]]:
    """The windows from number ``first`` on; ``numbering`` is that of the windows before, and goes on with them."""
    for stretch in read_stretches(file, first):
        yield stretch, _result(analyzer, stretch, asked, numbering)


def _result(analyzer: Analyzer, stretch: Stretch, asked: Asked, numbering: Numbering) -> WindowResult:
    media, window = stretch.media, {"window": stretch.number, "start": stretch.start, "end": stretch.end}
    if not isinstance(media, Media):
        return WindowResult(**window, frames=0, error=ResultError(media.code, str(media)))
    try:
        faces = _faces(analyzer, media, (stretch.start + stretch.end) / 2, asked, numbering)
    except (NoFace, LandmarksFailed, DamagedMedia, MediaTooLarge) as error:
        return WindowResult(**window, frames=len(media.frames), error=ResultError(error.code, str(error)))
    return WindowResult(**window, frames=len(media.frames), faces=faces)


def _faces(
    analyzer: Analyzer, media: Media, moment: float, asked: Asked, numbering: Numbering
) -> tuple[FaceResult, ...]:
    clips = analyzer.faces(media)
    numbered = zip(clips, numbering.number(clips), strict=True)
    clips = sorted((replace(clip, face_id=number) for clip, number in numbered), key=lambda clip: clip.face_id)
    return analyzer.describe(clips, asked.tasks, "video", moment, explain=False)
