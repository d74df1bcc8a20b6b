"""The face that a conversation is about: whatever holds a picture or a video to the clip of its largest face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facellava.errors import UsageError
from facellava.face.frontend import FaceFrontEnd
from facellava.face.images import to_rgb8
from facellava.face.media import read_media
from facellava.types import FaceClip

__all__ = ["OneFace", "largest"]


def largest(clips: Sequence[FaceClip]) -> FaceClip:
    """The face whose smallest box is widest."""
    return max(clips, key=lambda clip: clip.quality.size)


class OneFace:
    """Reads the largest face of a picture or video with one front end; for one thread, as that is.

    Args:
        front: finds, cuts out and landmarks faces.
    """

    def __init__(self, front: FaceFrontEnd) -> None:
        self._front = front

    def __call__(self, source: Any) -> FaceClip:
        """The clip of one face.

        Args:
            source: what ``read_media`` takes, a Pillow picture, or the frames of a video as a list of either.

        Raises:
            NoFace: no face is found. UsageError: frames of several sizes, or something that is no picture.
            FacellavaError: the medium cannot be read, as ``read_media`` says.
        """
        return largest(self._front.clips(read_media(_readable(source))))


def _readable(source: Any) -> str | Path | bytes | NDArray[Any]:
    if isinstance(source, str | Path | bytes):
        return source
    if isinstance(source, list | tuple):
        return _stacked(source)
    if isinstance(source, Image.Image):
        return to_rgb8(ImageOps.exif_transpose(source))
    if not hasattr(source, "__array__"):
        raise UsageError(f"{type(source).__name__} holds no picture: give a path, bytes, pixels or a Pillow picture")
    return np.asarray(source)


def _stacked(frames: Sequence[Any]) -> NDArray[np.uint8]:
    """Frames as uint8 (t, H, W, 3)."""
    if not frames:
        raise UsageError("a list without frames holds no video")
    pixels = [np.asarray(read_media(_readable(frame)).frames[0]) for frame in frames]
    if len(sizes := {frame.shape[:2] for frame in pixels}) > 1:
        raise UsageError(f"the frames of a video have {len(sizes)} sizes: give frames of one size")
    return np.stack(pixels)
