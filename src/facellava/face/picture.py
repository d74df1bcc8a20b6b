"""Video frames as decoders give them: brightness at full size, colour at half, made RGB only where somebody looks.

Converting whole frames to RGB took longer than anything else that happens to a high-definition video but decoding, and
twice the memory; detector, landmarks and crop need a few percent of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from facellava.types import Frames

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane

__all__ = ["Picture", "VideoFrames", "YuvPicture", "as_large", "part", "pictures", "warp", "yuv_picture"]

BT709, BT2020 = (1,), (9, 10)  # numbers of ITU-T H.273
_KR_KB = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)
_FULL_RANGE = 2
_PLANAR = ("yuv420p", "yuvj420p")


@dataclass(frozen=True, slots=True, eq=False)
class YuvPicture:
    """One frame in 4:2:0. ``np.asarray`` of it is its RGB picture, uint8 (H, W, 3).

    Attributes:
        y: uint8 (H, W). u, v: uint8 (ceil(H / 2), ceil(W / 2)).
        matrix: float32 (3, 4), (Y, U, V, 1) to RGB.
        black: Y of black: 16, or 0 in full range.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    matrix: NDArray[np.float32]
    black: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the RGB picture."""
        return (*self.y.shape, 3)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.y.nbytes + self.u.nbytes + self.v.nbytes

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self.part(0, self.y.shape[0], 0, self.y.shape[1])

    def part(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """RGB of the given rows and columns, which lie in the picture."""
        rows, columns = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
        height, width = 2 * (rows.stop - rows.start), 2 * (columns.stop - columns.start)
        inside = slice(top % 2, top % 2 + bottom - top), slice(left % 2, left % 2 + right - left)
        u, v = (cv2.resize(plane[rows, columns], (width, height))[inside] for plane in (self.u, self.v))
        return self._rgb(self.y[top:bottom, left:right], u, v)

    def warp(self, matrix: NDArray[np.float64], size: int, border: int) -> NDArray[np.uint8]:
        """See :func:`warp`."""
        half = matrix / 2
        half[:, 2] -= 0.25  # a colour value lies in the middle of its four pixels
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        y, u, v = (
            cv2.warpAffine(plane, m, (size, size), flags=flags, borderMode=border, borderValue=(outside,))
            for plane, m, outside in ((self.y, matrix, self.black), (self.u, half, 128), (self.v, half, 128))
        )
        return self._rgb(y, u, v)

    def turned(self, quarters: int) -> YuvPicture:
        """Rotated counter-clockwise by so many right angles."""
        y, u, v = (np.ascontiguousarray(np.rot90(plane, quarters)) for plane in (self.y, self.u, self.v))
        return YuvPicture(y, u, v, self.matrix, self.black)

    def _rgb(self, y: cv2.typing.MatLike, u: cv2.typing.MatLike, v: cv2.typing.MatLike) -> NDArray[np.uint8]:
        return np.asarray(cv2.transform(cv2.merge((y, u, v)), self.matrix), dtype=np.uint8)


Picture = NDArray[np.uint8] | YuvPicture
"""uint8 (H, W, 3) RGB, or something that ``np.asarray`` turns into it."""


class VideoFrames(Sequence[NDArray[np.uint8]]):
    """Frames of one size; an item is its RGB picture, made anew each time."""

    def __init__(self, held: Sequence[Picture]) -> None:
        self.pictures = tuple(_same_size(held))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        height, width, depth = self.pictures[0].shape
        return len(self.pictures), height, width, depth

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.asarray(self.pictures[index])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.stack(list(self))


def _same_size(held: Sequence[Picture]) -> list[Picture]:
    """Frames that change size within a stream are brought to the first one's."""
    return [as_large(picture, held[0]) for picture in held]


def as_large(picture: Picture, other: Picture) -> Picture:
    """The picture, resized where the other one has another size."""
    if picture.shape == other.shape:
        return picture
    height, width = other.shape[:2]
    return np.asarray(cv2.resize(np.asarray(picture), (width, height)), dtype=np.uint8)


def pictures(frames: Frames) -> Sequence[Picture]:
    """Frames in the form that costs least to look at."""
    return frames.pictures if isinstance(frames, VideoFrames) else [frames[i] for i in range(len(frames))]


def part(picture: Picture, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    """RGB of rows `top` to `bottom` and columns `left` to `right`, ends excluded; all lie in the picture."""
    if isinstance(picture, YuvPicture):
        return picture.part(top, bottom, left, right)
    return picture[top:bottom, left:right]


def warp(picture: Picture, matrix: NDArray[np.float64], size: int, border: int) -> NDArray[np.uint8]:
    """(size, size, 3) RGB, bilinear: pixel (i, j) is what `matrix` (2, 3) takes (i, j, 1) to.

    Args:
        border: OpenCV's border mode for what lies outside; constant is black.
    """
    if isinstance(picture, YuvPicture):
        return picture.warp(matrix, size, border)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=border), dtype=np.uint8)


def yuv_picture(frame: VideoFrame) -> YuvPicture | None:
    """The decoder's frame without a copy; None when its pixels have another format."""
    if frame.format.name not in _PLANAR:
        return None
    y, u, v = (_plane(plane) for plane in frame.planes)
    full = frame.format.name == "yuvj420p" or int(frame.color_range) == _FULL_RANGE
    weights = next((w for numbers, w in _KR_KB.items() if int(frame.colorspace) in numbers), _BT601)
    return YuvPicture(y, u, v, _to_rgb(*weights, full), 0 if full else 16)


def _plane(plane: VideoPlane) -> NDArray[np.uint8]:
    lines = np.frombuffer(memoryview(cast(Any, plane)), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]


def _to_rgb(kr: float, kb: float, full: bool) -> NDArray[np.float32]:
    """(3, 4) by the luma weights of red and blue, as ITU-R BT.601, 709 and 2020 define it."""
    kg = 1 - kr - kb
    luma, chroma, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    red, blue = 2 * (1 - kr) * chroma, 2 * (1 - kb) * chroma
    linear = np.array([[luma, 0, red], [luma, -blue * kb / kg, -red * kr / kg], [luma, blue, 0]])
    offset = linear @ np.array([black, 128, 128])
    return np.column_stack([linear, -offset]).astype(np.float32)
