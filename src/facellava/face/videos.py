"""Videos through PyAV: a few frames at known moments, without decoding or holding the rest.

Two passes. The first reads packets only: how many frames there are, when each is shown, where decoding can
start. The second jumps to the last key frame before each wanted moment and decodes from there.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from facellava.errors import DamagedMedia, MediaTooLarge, UnsupportedMedia
from facellava.face.integrity import missing_bytes
from facellava.face.limits import Decoded, Limits
from facellava.face.picture import Picture, VideoFrames, as_large, yuv_picture
from facellava.interrupt import poll

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Track", "opened", "read_video", "shown_size", "timed", "upright"]


WIDEST = 8
"""Pixels are at most so many times wider or higher than they are high or wide; a header that says more is damaged."""


def read_video(stream: BinaryIO, fmt: str, name: str, limits: Limits, max_frames: int) -> Decoded:
    """The frames of a video at `np.linspace(0, N - 1, max_frames)` truncated to integers.

    Args:
        stream: the file, at its start; must be seekable.
        fmt: FFmpeg's name of the container that the signature shows.
        name: for messages.
        limits: refused from the header.
        max_frames: frames to keep at most.

    Raises:
        DamagedMedia, MediaTooLarge, UnsupportedMedia.
    """
    # Imported here: it takes 100 ms that pictures need not pay.
    from av.error import FFmpegError

    if lacking := missing_bytes(stream, fmt):
        raise DamagedMedia(f"{name} is cut off ({lacking:,} bytes are missing): get an intact copy")
    try:
        with _open(stream, fmt) as container:
            plan = _plan(container, name, limits, max_frames)
        for jump in (True, False):
            with _open(stream, fmt) as container:
                frames, shown = _collect(container, plan, name, limits, jump=jump)
            if plan.is_met_by(shown):
                break  # else the container's jumps are not to be trusted (MPEG-TS): decode from the start
    except FFmpegError as error:
        raise DamagedMedia(f"{name} is a damaged video ({error.strerror}): get an intact copy") from error
    if not frames:
        raise DamagedMedia(f"no frame of {name} can be decoded: get an intact copy")
    return Decoded(VideoFrames(frames), plan.seconds(shown), plan.rate, plan.duration)


def _open(stream: BinaryIO, fmt: str) -> InputContainer:
    import av

    stream.seek(0)
    return av.open(_Source(stream), mode="r", format=fmt, metadata_errors="ignore")


class _Source:
    """A file as FFmpeg reads it. Damaged files send it to places before their start: that is its error to tell."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read, self.tell = stream.read, stream.tell
        self._seek = stream.seek

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position, or the negative number of the system's error."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL


class Track(NamedTuple):
    """A video stream that is read from start to end, and what its header says."""

    stream: VideoStream
    start: int
    base: Fraction
    rate: float
    duration: float

    def seconds(self, time: int) -> float:
        """Seconds from the first frame."""
        return float((time - self.start) * self.base)


@contextmanager
def opened(stream: BinaryIO, fmt: str, name: str, limits: Limits) -> Iterator[tuple[InputContainer, Track]]:
    """A video at its start, after the checks of ``read_video``; raises what that raises."""
    if lacking := missing_bytes(stream, fmt):
        raise DamagedMedia(f"{name} is cut off ({lacking:,} bytes are missing): get an intact copy")
    with _open(stream, fmt) as container:
        plan = _plan(container, name, limits, 1)
    with _open(stream, fmt) as container:
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        base = video.time_base or Fraction(1, 1000)
        yield container, Track(video, plan.start, base, plan.rate, plan.duration)


class _Plan(NamedTuple):
    """Which frames to keep: presentation times in units of the stream's time base."""

    wanted: NDArray[np.int64]
    keys: NDArray[np.int64]
    start: int
    base: Fraction
    rate: float
    duration: float

    def seconds(self, times: list[int]) -> NDArray[np.float64]:
        """Seconds from the first frame."""
        return np.array([float((time - self.start) * self.base) for time in times])

    def is_met_by(self, shown: list[int]) -> bool:
        """Whether all wanted frames were found, give or take two."""
        late = 2 / self.rate
        return len(shown) == len(self.wanted) and bool(
            (self.seconds(shown) - self.seconds(self.wanted.tolist()) <= late).all()
        )


def _plan(container: InputContainer, name: str, limits: Limits, max_frames: int) -> _Plan:
    if not container.streams.video:
        raise UnsupportedMedia(f"{name} has no video track: give a file with pictures in it")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UnsupportedMedia(f"{name} uses a video codec that cannot be decoded: convert it to H.264")
    width, height = shown_size(stream, stream.codec_context.width, stream.codec_context.height)
    limits.check_size(name, width, height)
    if container.duration:
        limits.check_duration(name, container.duration / 1_000_000)
    times, keys = _index(container, stream)
    if not len(times):
        raise DamagedMedia(f"{name} has a video track without frames: get an intact copy")
    base = stream.time_base or Fraction(1, 1000)
    span = float(int(times[-1] - times[0]) * base)
    limits.check_duration(name, span)
    count = len(times)
    limits.check_count(name, count)
    kept = limits.frames_that_fit(width, height, min(count, max_frames))
    rate = float(stream.average_rate or 0) or (count - 1) / max(span, 1e-3) or 1.0
    wanted = times[np.linspace(0, count - 1, kept).astype(int)]
    return _Plan(wanted, keys, int(times[0]), base, rate, span + 1 / rate)


def _index(container: InputContainer, stream: VideoStream) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times of all frames and of the key frames, in order, from the packets alone.

    AVI has no presentation times: decoding times stand in.
    """
    times, keys = set(), set()
    for packet in container.demux(stream):
        poll()
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or packet.size == 0 or packet.is_discard:
            continue
        times.add(time)
        if packet.is_keyframe:
            keys.add(time)
    return np.array(sorted(times), dtype=np.int64), np.array(sorted(keys), dtype=np.int64)


def _collect(
    container: InputContainer, plan: _Plan, name: str, limits: Limits, *, jump: bool
) -> tuple[list[Picture], list[int]]:
    """Decode the wanted frames: pixels and the times really met. Without `jump`, everything decoded from the start.

    Frames that change size within the stream are brought to the first one's at once, so that memory stays what was
    planned; where the first one is larger than the header said, MediaTooLarge.
    """
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    frames: list[Picture] = []
    shown: list[int] = []
    wanted = frozenset(plan.wanted.tolist()) if jump else None
    decoder = timed(container, stream, wanted)
    position = plan.start
    for time in plan.wanted.tolist():
        start = _key_before(plan.keys, time)
        if jump and start is not None and start > position:
            container.seek(start, stream=stream)
            decoder = timed(container, stream, wanted)
        for position, frame in decoder:
            # Some packets (VP8's hidden frames) show nothing: the next frame stands in.
            if position >= time:
                limits.check_size(name, *shown_size(stream, frame.width, frame.height))
                picture = upright(frame, stream)
                frames.append(as_large(picture, frames[0]) if frames else picture)
                shown.append(position)
                height, width, _ = frames[0].shape
                if len(frames) > limits.frames_that_fit(width, height, len(plan.wanted)):
                    raise MediaTooLarge(f"{name} has larger frames than its header says: scale it down")
                break
    return frames, shown


def timed(
    container: InputContainer, stream: VideoStream, wanted: Collection[int] | None = None
) -> Iterator[tuple[int, VideoFrame]]:
    """(presentation time in units of the time base, frame) from here to the end.

    Args:
        wanted: times; others that no frame depends on need not be decoded and may be left out (about a third of the
            decoder's time where few are wanted).
    """
    for packet in container.demux(stream):
        poll()
        if wanted is not None:
            needed = packet.pts is None or packet.pts in wanted
            stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
        for frame in packet.decode():
            time = frame.pts if frame.pts is not None else frame.dts
            # a frame that the decoder itself calls corrupt is made up in part: the next one stands in
            if time is not None and not frame.is_corrupt:
                yield time, cast("VideoFrame", frame)


def _key_before(keys: NDArray[np.int64], time: int) -> int | None:
    at = int(np.searchsorted(keys, time, side="right")) - 1
    return int(keys[at]) if at >= 0 else None


def shown_size(stream: VideoStream, width: int, height: int) -> tuple[int, int]:
    """Width and height of a frame with square pixels."""
    aspect = stream.sample_aspect_ratio
    if not aspect or not 1 / WIDEST <= aspect <= WIDEST:
        return width, height
    return max(1, round(width * aspect)), height


def upright(frame: VideoFrame, stream: VideoStream) -> Picture:
    """With square pixels, turned as the display matrix says (it gives the counter-clockwise angle)."""
    quarters = round(frame.rotation / 90) % 4
    width, _ = shown_size(stream, frame.width, frame.height)
    planes = yuv_picture(frame) if width == frame.width else None
    if planes is not None:
        return planes.turned(quarters) if quarters else planes
    pixels = frame.reformat(width=width, format="rgb24").to_ndarray().astype(np.uint8, copy=False)
    return np.ascontiguousarray(np.rot90(pixels, quarters))
