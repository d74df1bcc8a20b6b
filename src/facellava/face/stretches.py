"""A video of any length as stretches of time, a few frames of each: one is held at a time, damage costs its stretch.

Unlike ``read_windows`` this reads no index of the file first, goes on after damage, and can begin anywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np

from facellava.errors import DamagedMedia, MediaTooLarge, UnsupportedMedia, UsageError
from facellava.face.limits import Limits
from facellava.face.picture import Picture, VideoFrames
from facellava.face.videos import shown_size, upright
from facellava.face.windows import video_format
from facellava.interrupt import poll
from facellava.types import Media

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Stretch", "VideoFile", "read_stretches"]

LAST_ERRORS = 3
"""So many failures to read on in a row end a file."""
SLACK = 0.5
"""Seconds of a stated length that may lack frames without being called missing."""


class Stretch(NamedTuple):
    """What a video shows from ``start`` to ``end``, seconds from its first frame.

    Attributes:
        number: of the stretch, from 0; ``after``: of the next one. A run of stretches without frames is one.
        media: its frames, or why it has none that can be used.
    """

    number: int
    after: int
    start: float
    end: float
    media: Media | DamagedMedia | MediaTooLarge


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video that can be opened, and how it is cut.

    Attributes:
        path, fmt: FFmpeg's name of its container. sha256: of its bytes.
        seconds: of a stretch. frames: of a stretch that are looked at. limits: see ``Limits``; ``max_memory`` holds for
            the frames of one stretch.
    """

    path: Path
    fmt: str
    sha256: str
    seconds: Fraction
    frames: int
    limits: Limits

    @classmethod
    def of(cls, path: Path, seconds: float, frames: int, limits: Limits) -> VideoFile:
        """Raises UsageError for a picture or numbers that make no sense, and what tells that a file cannot be read."""
        if not 0.1 <= seconds <= 3600:
            raise UsageError(f"a window of {seconds:g} s: choose between 0.1 and 3600")
        if not 1 <= frames <= 64:
            raise UsageError(f"{frames} frames of a window: choose between 1 and 64")
        fmt = video_format(path)
        if fmt is None:
            raise UsageError(f"{path} is no video: use 'facellava analyze' for pictures")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(path, fmt, digest, Fraction(seconds).limit_denominator(1000), frames, limits)


def read_stretches(file: VideoFile, first: int = 0) -> Iterator[Stretch]:
    """The stretches from number ``first`` on, in order: together they cover all of the time, once.

    Of each, the first frame at or after ``frames`` evenly spaced moments. Frames whose clocks run backwards belong to
    the stretch that is being read.

    Raises:
        DamagedMedia, UnsupportedMedia, MediaTooLarge: nothing of the file can be read.
    """
    with file.path.open("rb") as stream:
        header, events = _opened_at(file, stream, first)
        stretch = _Stretch(file, header, first)
        for event in events:
            if isinstance(event, str):
                stretch.damage = stretch.damage or event
                continue
            time, frame = event
            number = max(int(time // file.seconds), stretch.number)
            if number > stretch.number:
                yield from stretch.until(number)
                stretch = _Stretch(file, header, number)
            stretch.offer(time, frame)
        yield from stretch.ended()


class _Header(NamedTuple):
    """What a file says about itself; ``start``: of its first frame, in units of ``base``."""

    start: int
    base: Fraction
    rate: float
    duration: float

    def time(self, pts: int) -> Fraction:
        """Seconds from the first frame."""
        return (pts - self.start) * self.base


@dataclass(slots=True)
class _Stretch:
    """The one that is being read."""

    file: VideoFile
    header: _Header
    number: int
    damage: str = ""
    last: Fraction = Fraction(-1)
    _next: int = 0
    _bytes: int = 0
    _pictures: list[Picture] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)

    @property
    def _start(self) -> Fraction:
        return self.number * self.file.seconds

    def offer(self, time: Fraction, frame: _Frame) -> None:
        """Keep a frame if it is the first at or after the next moment."""
        self.last = max(time, self.last)
        moment = int((time - self._start) * self.file.frames / self.file.seconds)
        if moment < self._next:
            return
        from av.error import FFmpegError

        self._next = moment + 1
        if frame.pixels > self.file.limits.max_pixels or self._bytes > self.file.limits.max_memory:
            self._bytes = self.file.limits.max_memory + 1
            return
        try:
            picture = frame.picture()
        except FFmpegError as error:
            self.damage = self.damage or error.strerror or "frames that cannot be converted"
            return
        self._bytes += picture.nbytes
        self._pictures.append(picture)
        self._times.append(float(time))

    @property
    def _holds(self) -> bool:
        return bool(self._pictures or self.damage or self._bytes)

    def until(self, number: int) -> Iterator[Stretch]:
        """It, and the time without frames before the one of this number."""
        first = self.number
        if self._holds:
            first += 1
            yield self._made(first * self.file.seconds)
        if first < number:
            start, end = float(first * self.file.seconds), float(number * self.file.seconds)
            yield Stretch(first, number, start, end, self._error("holds no frame", start, end))

    def ended(self) -> Iterator[Stretch]:
        """It as the file's last one, and the time after it that the file claims to have."""
        seconds, header = self.file.seconds, self.header
        seen = max(self.last + Fraction(1 / header.rate).limit_denominator(10**6), self._start)
        end = max(seen, Fraction(header.duration).limit_denominator(10**6))
        following = self._start + seconds
        if self._holds:
            yield self._made(min(end, following))
        else:
            following = self._start
        if float(end - following) > SLACK:
            number = round(following / seconds)
            start, stop = float(following), float(end)
            reason = self._error("ends before its stated length, and lacks what it should show", start, stop)
            yield Stretch(number, math.ceil(end / seconds), start, stop, reason)

    def _made(self, end: Fraction) -> Stretch:
        start, stop = float(self._start), float(end)
        return Stretch(self.number, self.number + 1, start, stop, self._media(start, stop))

    def _media(self, start: float, end: float) -> Media | DamagedMedia | MediaTooLarge:
        file, header = self.file, self.header
        if self.damage:
            return self._error(f"is damaged ({self.damage})", start, end)
        if self._bytes > file.limits.max_memory:
            return MediaTooLarge(f"{file.path} has too large frames from {start:.2f} to {end:.2f} s: scale it down")
        frames, times = VideoFrames(self._pictures), np.array(self._times)
        return Media(file.path, "video", frames, times, file.sha256, header.rate, header.duration)

    def _error(self, what: str, start: float, end: float) -> DamagedMedia:
        return DamagedMedia(f"{self.file.path} {what} from {start:.2f} to {end:.2f} s: get an intact copy")


class _Frame(NamedTuple):
    """A decoded frame that may become a picture."""

    frame: VideoFrame
    stream: VideoStream

    @property
    def pixels(self) -> int:
        width, height = shown_size(self.stream, self.frame.width, self.frame.height)
        return width * height

    def picture(self) -> Picture:
        return upright(self.frame, self.stream)


_Event = tuple[Fraction, _Frame] | str
"""A frame and its second, or how reading failed here."""


def _open(stream: BinaryIO, file: VideoFile) -> tuple[InputContainer, VideoStream]:
    import av
    from av.error import FFmpegError

    stream.seek(0)
    try:
        container = av.open(stream, mode="r", format=file.fmt, metadata_errors="ignore")
    except FFmpegError as error:
        raise DamagedMedia(f"{file.path} is a damaged video ({error.strerror}): get an intact copy") from error
    if not container.streams.video:
        raise UnsupportedMedia(f"{file.path} has no video track: give a file with pictures in it")
    video = container.streams.video[0]
    if video.codec_context is None:
        raise UnsupportedMedia(f"{file.path} uses a video codec that cannot be decoded: convert it to H.264")
    file.limits.check_size(str(file.path), video.codec_context.width, video.codec_context.height)
    video.thread_type = "AUTO"
    return container, video


def _opened_at(file: VideoFile, stream: BinaryIO, first: int) -> tuple[_Header, Iterator[_Event]]:
    """The header, and frames from the start of stretch ``first``, whether or not the container can be jumped in."""
    container, video = _open(stream, file)
    header = _header(file, container, video)
    wanted = first * file.seconds
    container, video = _open(stream, file)
    if first:
        target = header.start + int(wanted / header.base)
        container.seek(target, stream=video)
        found = next((time for time in _times(container, video, header)), None)
        container, video = _open(stream, file)
        if found is not None and found <= wanted:
            container.seek(target, stream=video)
        # else jumps are not to be trusted (MPEG-TS): decode from the start
    return header, _from(_events(container, video, header), wanted)


def _header(file: VideoFile, container: InputContainer, video: VideoStream) -> _Header:
    base = video.time_base or Fraction(1, 1000)
    unplaced = _Header(0, base, 1.0, 0.0)
    start = next((time for time in _times(container, video, unplaced)), None)
    if start is None:
        raise DamagedMedia(f"no frame of {file.path} can be decoded: get an intact copy")
    rate = float(video.average_rate or video.guessed_rate or 0) or 25.0
    duration = float(video.duration * base) if video.duration else (container.duration or 0) / 1_000_000
    file.limits.check_duration(str(file.path), duration)
    return _Header(int(start / base), base, rate, duration)


def _times(container: InputContainer, video: VideoStream, header: _Header) -> Iterator[Fraction]:
    return (event[0] for event in _events(container, video, header) if not isinstance(event, str))


def _from(events: Iterator[_Event], wanted: Fraction) -> Iterator[_Event]:
    """What happens from a moment on; before it, nothing counts."""
    begun = not wanted
    for event in events:
        begun = begun or (not isinstance(event, str) and event[0] >= wanted)
        if begun:
            yield event


def _events(container: InputContainer, video: VideoStream, header: _Header) -> Iterator[_Event]:
    """Frames in order; where packets cannot be read or decoded, why, and then what comes after them."""
    from av.error import FFmpegError

    packets, failures = container.demux(video), 0
    while failures < LAST_ERRORS:
        poll()
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            failures += 1
            packets = container.demux(video)
            yield error.strerror or "unreadable"
            continue
        failures = 0
        try:
            frames = packet.decode()
        except FFmpegError as error:
            yield error.strerror or "undecodable"
            continue
        for frame in frames:
            pts = frame.pts if frame.pts is not None else frame.dts
            # a frame that the decoder itself calls corrupt is made up in part: the next one stands in
            if pts is not None and not frame.is_corrupt:
                yield header.time(pts), _Frame(cast("VideoFrame", frame), video)
