"""Many windows of one video, decoded once from start to end.

Data construction needs every frame: 3-second pieces of a long video, thousands of single labelled frames. Only the
current window's frames are held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from facellava.errors import DamagedMedia, EmptyFile, FacellavaError, FileMissing, MediaTooLarge, UsageError
from facellava.face.limits import Limits
from facellava.face.media import read_media
from facellava.face.picture import Picture, VideoFrames
from facellava.face.sniff import sniff
from facellava.face.videos import opened, timed, upright
from facellava.types import Media

__all__ = ["Window", "read_windows", "video_format"]

Window = tuple[float, float] | int | None
"""[start, end) in seconds from the first frame; the index of one frame, which becomes a picture; None is everything."""


def read_windows(
    path: Path, windows: Sequence[Window], *, limits: Limits | None = None
) -> Iterator[tuple[Window, Media | FacellavaError]]:
    """Every window with all its frames, or with the error that keeps it from being read.

    Args:
        path: a video; of a picture the only window is None.
        windows: in order of their starts, not overlapping, all of one kind.
        limits: see ``Limits``; ``max_memory`` holds for one window.

    Yields:
        (window, medium) in the given order. Damage in the middle leaves the windows before it readable.

    Raises:
        FileMissing, EmptyFile, UnsupportedMedia, DamagedMedia, MediaTooLarge: nothing can be read at all.
    """
    limits = limits or Limits()
    fmt = video_format(path)
    if fmt is None:
        if any(window is not None for window in windows):
            raise UsageError(f"{path} is a picture: it has no windows or numbered frames")
        yield from ((None, read_media(path, limits=limits)) for _ in windows)
        return
    yield from _decoded(path, fmt, list(windows), limits)


def video_format(path: Path) -> str | None:
    """FFmpeg's name of the container, None for whatever ``read_media`` should look at."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileMissing(f"{path} does not exist: check the path") from error
    except PermissionError as error:
        raise FileMissing(f"{path} cannot be read: check its permissions") from error
    if not head:
        raise EmptyFile(f"{path} is empty (0 bytes): get the file again")
    kind = sniff(head)
    return None if kind is None or kind.is_image else kind.format


class _Collector:
    """Puts decoded frames into windows, one after another."""

    def __init__(self, path: Path, windows: list[Window], limits: Limits, sha256: str) -> None:
        self.path, self.limits, self.sha256 = path, limits, sha256
        self.windows = windows
        self.place = 0
        self.rate = self.duration = 0.0
        self._frames: list[Picture] = []
        self._times: list[float] = []
        self._bytes = 0

    @property
    def current(self) -> Window:
        return self.windows[self.place]

    @property
    def finished(self) -> bool:
        return self.place == len(self.windows)

    def wants(self, number: int, time: float) -> bool:
        """Whether the frame belongs to the current window."""
        window = self.current
        if window is None:
            return True
        return number == window if isinstance(window, int) else window[0] <= time < window[1]

    def is_past(self, number: int, time: float) -> bool:
        """Whether the current window ended before the frame."""
        window = self.current
        if window is None:
            return False
        return number > window if isinstance(window, int) else time >= window[1]

    def add(self, pixels: Picture, time: float) -> None:
        """Keep a frame; of a window over the memory limit only that it is over."""
        self._bytes += pixels.nbytes
        if self._bytes <= self.limits.max_memory:
            self._frames.append(pixels)
            self._times.append(time)

    def take(self) -> tuple[Window, Media | FacellavaError]:
        """The current window, complete; goes on to the next one."""
        window, frames, times, size = self.current, self._frames, self._times, self._bytes
        self.place += 1
        self._frames, self._times, self._bytes = [], [], 0
        if size > self.limits.max_memory:
            return window, MediaTooLarge(
                f"{_part(window)} of {self.path} takes {size:,} bytes decoded, more than the limit of "
                f"{self.limits.max_memory:,}: choose shorter windows or raise the limit"
            )
        if not frames:
            return window, DamagedMedia(f"{self.path} holds no frame for {_part(window)}: get an intact copy")
        if isinstance(window, int):
            return window, Media(self.path, "image", VideoFrames(frames), np.zeros(1), self.sha256, 0.0, 0.0)
        moments = np.array(times)
        return window, Media(self.path, "video", VideoFrames(frames), moments, self.sha256, self.rate, self.duration)


def _decoded(
    path: Path, fmt: str, windows: list[Window], limits: Limits
) -> Iterator[tuple[Window, Media | FacellavaError]]:
    from av.error import FFmpegError

    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        collector = _Collector(path, windows, limits, sha256)
        reason = ""
        try:
            with opened(stream, fmt, str(path), limits) as (container, track):
                collector.rate, collector.duration = track.rate, track.duration
                for number, (time, frame) in enumerate(timed(container, track.stream)):
                    seconds = track.seconds(time)
                    while not collector.finished and collector.is_past(number, seconds):
                        yield collector.take()
                    if collector.finished:
                        return
                    if collector.wants(number, seconds):
                        collector.add(upright(frame, track.stream), seconds)
                        if isinstance(collector.current, int):
                            yield collector.take()
                            if collector.finished:
                                return
        except FFmpegError as error:
            reason = f"{path} is damaged ({error.strerror})"
    if reason:
        # what was collected of the current window lacks its end
        yield from (
            (w, DamagedMedia(f"{reason} at {_part(w)}: get an intact copy")) for w in windows[collector.place :]
        )
        return
    while not collector.finished:
        yield collector.take()


def _part(window: Window) -> str:
    if window is None:
        return "the whole"
    if isinstance(window, int):
        return f"frame {window}"
    return f"{window[0]:.2f} to {window[1]:.2f} s"
