"""Pictures through Pillow: upright, 8-bit RGB, refused when broken instead of filled with grey."""

from __future__ import annotations

import contextlib
import struct
import threading
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, UnidentifiedImageError

from facellava.errors import DamagedMedia, FacellavaError, MediaTooLarge, UnsupportedMedia
from facellava.face.integrity import has_wrong_checksum
from facellava.face.limits import Decoded, Limits
from facellava.interrupt import poll

__all__ = ["read_image", "to_rgb8"]

ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ANIMATED = ("GIF", "WEBP", "PNG")  # other formats with several pictures hold pages, thumbnails or depth maps
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, OverflowError, RuntimeError)
_warnings = threading.Lock()  # warnings.catch_warnings changes the process: two threads must not nest it


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: our own limit follows its bomb warning, and odd metadata is no concern of ours."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_image(stream: BinaryIO, fmt: str, name: str, limits: Limits, max_frames: int) -> Decoded:
    """One picture, or the sampled frames of an animated one.

    Args:
        stream: the file, at its start.
        fmt: Pillow's name of the format that the signature shows.
        name: for messages.
        limits: refused from the header.
        max_frames: of an animation.

    Raises:
        DamagedMedia, MediaTooLarge, UnsupportedMedia.
    """
    if fmt == "PNG" and has_wrong_checksum(stream):
        raise DamagedMedia(f"{name} is a damaged PNG picture (a checksum does not fit): get an intact copy")
    picture = _open(stream, fmt, name)
    limits.check_size(name, *picture.size)
    try:
        if fmt in _ANIMATED and getattr(picture, "n_frames", 1) > 1:
            return _animation(picture, limits, max_frames)
        with _quiet() if fmt == "TIFF" else contextlib.nullcontext():  # others decode without warnings, in parallel
            picture.load()
        return Decoded(to_rgb8(_upright(picture))[None], np.zeros(1))
    except FacellavaError:
        raise
    except _BROKEN as error:
        raise DamagedMedia(f"{name} is a damaged {fmt} picture ({_reason(error)}): get an intact copy") from error


def _open(stream: BinaryIO, fmt: str, name: str) -> Image.Image:
    if fmt == "HEIF":
        # Registered here: importing the library takes time that other pictures need not pay.
        from pillow_heif import register_heif_opener

        register_heif_opener()
    try:
        with _quiet():
            return Image.open(stream, formats=(fmt,))
    except Image.DecompressionBombError as error:
        raise MediaTooLarge(f"{name} has too many pixels to be decoded safely: scale it down") from error
    except UnidentifiedImageError as error:
        if fmt == "BMP":  # its signature is two letters, which many texts start with
            raise UnsupportedMedia(f"{name} is neither a picture nor a video: convert it first") from error
        raise DamagedMedia(
            f"{name} starts like a {fmt} picture but has no readable header: get an intact copy"
        ) from error
    except _BROKEN as error:
        raise DamagedMedia(f"{name} is a damaged {fmt} picture ({_reason(error)}): get an intact copy") from error


def _animation(picture: Image.Image, limits: Limits, max_frames: int) -> Decoded:
    """Frames of a GIF, WebP or APNG at uniformly spaced indices; times follow from the frames' durations."""
    width, height = picture.size
    count = int(getattr(picture, "n_frames", 1))
    limits.check_count("the animation", count)
    kept = np.linspace(0, count - 1, min(count, limits.frames_that_fit(width, height, max_frames))).astype(int)
    wanted = set(kept.tolist())
    frames, times, clock = [], [], 0.0
    for index, frame in enumerate(ImageSequence.Iterator(picture)):
        poll()
        if index in wanted:
            frames.append(to_rgb8(frame))
            times.append(clock)
        frame.load()  # WebP knows a frame's duration only then
        clock += max(float(frame.info.get("duration", 100)), 10.0) / 1000
        limits.check_duration("the animation", clock)
    return Decoded(np.stack(frames), np.array(times), count / clock, clock)


def _upright(picture: Image.Image) -> Image.Image:
    with _quiet():
        turn = _UPRIGHT.get(picture.getexif().get(ORIENTATION_TAG, 1))
    return picture.transpose(turn) if turn is not None else picture


def to_rgb8(picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Any picture as uint8 (H, W, 3) RGB; transparency is put on white."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    if picture.mode == "F":
        values = np.asarray(picture)
        return _deep_grey(values, 1.0 if values.max(initial=0) <= 1 else 255.0)  # the two habits of float TIFFs
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _deep_grey(np.asarray(picture), 65535.0)
    if "transparency" in picture.info or picture.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return np.array(picture.convert("RGB"))


def _deep_grey(values: NDArray, full: float) -> NDArray[np.uint8]:
    """Grey of more than 8 bits, `full` being white; Pillow's own conversion would clip it."""
    grey = np.clip(np.rint(values.astype(np.float64) * (255.0 / full)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
