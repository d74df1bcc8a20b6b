"""`read_media`: any picture or video in, upright RGB frames out; a file's name says nothing."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facellava.errors import EmptyFile, FileMissing, MediaTooLarge, UnsupportedMedia, UsageError
from facellava.face.images import read_image, to_rgb8
from facellava.face.limits import Decoded, Limits
from facellava.face.sniff import sniff
from facellava.face.videos import read_video
from facellava.types import Media

__all__ = ["read_media"]

_HEAD = 4096  # enough for every signature, including MPEG-TS's repeated sync byte


def read_media(source: str | Path | bytes | np.ndarray, *, limits: Limits | None = None, max_frames: int = 64) -> Media:
    """Decode a picture or a video.

    Pictures: whatever Pillow reads, with HEIC and AVIF; EXIF orientation applied, transparency put on white;
    CMYK, palette, grey and 16-bit pictures become 8-bit RGB. Animated GIF, WebP and PNG are videos.
    Videos: MP4/MOV, Matroska/WebM, AVI, MPEG, FLV, ASF and Ogg; rotation metadata and non-square pixels
    applied. Of a video with N frames at most `max_frames` are kept, at `np.linspace(0, N - 1, max_frames)`
    truncated to integers, each with its own presentation time.

    Args:
        source: a path, the bytes of a file, or uint8 pixels: (H, W), (H, W, 3 or 4) or (T, H, W, 3), RGB.
        limits: see `Limits`; None is the default limits.
        max_frames: of a video, at least 1.

    Raises:
        UsageError: a directory, an array of another shape or type, max_frames below 1.
        FileMissing, EmptyFile, UnsupportedMedia, DamagedMedia, MediaTooLarge: as their names say.
    """
    limits = limits or Limits()
    if max_frames < 1:
        raise UsageError(f"max_frames is {max_frames}, but must be at least 1")
    if isinstance(source, np.ndarray):
        return _from_array(source, limits, max_frames)
    if isinstance(source, bytes):
        return _from_stream(io.BytesIO(source), len(source), "the given bytes", None, limits, max_frames)
    path = Path(source)
    if path.is_dir():
        raise UsageError(f"{path} is a directory: name the files in it")
    with _opened(path) as stream:
        return _from_stream(stream, os.fstat(stream.fileno()).st_size, str(path), path, limits, max_frames)


def _opened(path: Path) -> io.BufferedReader:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for somebody to write into it
            raise FileMissing(f"{path} is a pipe or a device: save it as a file first")
        return path.open("rb")
    except FileNotFoundError as error:
        raise FileMissing(f"{path} does not exist: check the path") from error
    except PermissionError as error:
        raise FileMissing(f"{path} cannot be read: check its permissions") from error
    except (OSError, ValueError) as error:  # a name that is too long, links in a circle, a NUL in the name
        raise FileMissing(f"{str(path)!r} cannot be opened ({error}): check the path") from error


def _from_stream(
    stream: io.BufferedIOBase, size: int, name: str, path: Path | None, limits: Limits, max_frames: int
) -> Media:
    if size == 0:
        raise EmptyFile(f"{name} is empty (0 bytes): get the file again")
    if size > limits.max_bytes:
        raise MediaTooLarge(f"{name} has {size:,} bytes, more than the limit of {limits.max_bytes:,}: raise the limit")
    kind = sniff(stream.read(_HEAD))
    if kind is None:
        raise UnsupportedMedia(f"{name} is neither a picture nor a video: convert it first")
    decode: Callable[..., Decoded] = read_image if kind.is_image else read_video
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0)
    result = decode(stream, kind.format, name, limits, max_frames)
    is_video = not kind.is_image or len(result.frames) > 1
    return Media(path, "video" if is_video else "image", result.frames, result.times, digest, *result[2:])


def _from_array(pixels: np.ndarray, limits: Limits, max_frames: int) -> Media:
    if pixels.dtype != np.uint8:
        raise UsageError(f"the array has type {pixels.dtype}: give uint8 pixels from 0 to 255")
    is_video = pixels.ndim == 4 and pixels.shape[-1] == 3
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))
    if not (is_video or is_image) or 0 in pixels.shape:
        raise UsageError(f"the array has shape {pixels.shape}: give (H, W), (H, W, 3), (H, W, 4) or (T, H, W, 3)")
    height, width = pixels.shape[1:3] if is_video else pixels.shape[:2]
    limits.check_size("the given array", width, height)
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
    if is_video:
        kept = np.linspace(0, len(pixels) - 1, min(max_frames, len(pixels))).astype(int)
        # An array has no clock: one frame is one second, so that gaps still have a length.
        times = kept.astype(np.float64)
        return Media(None, "video", pixels[kept], times, digest, 1.0, float(len(pixels)))
    return Media(None, "image", to_rgb8(pixels)[None], np.zeros(1), digest, 0.0, 0.0)
