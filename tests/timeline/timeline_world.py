"""Videos of real faces, made in a moment: NASA's portrait beside a wall, twice, elsewhere, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
WIDTH, HEIGHT = 320, 160


def portrait(size: int = 150) -> Picture:
    """Head and shoulders, uint8 (size, size, 3)."""
    data = pytest.importorskip("skimage.data")
    return np.asarray(Image.fromarray(data.astronaut()[0:330, 60:390]).resize((size, size)))


def wall() -> Picture:
    return np.full((HEIGHT, WIDTH, 3), (150, 140, 130), np.uint8)


def with_faces(*lefts: int) -> Picture:
    """The wall with a face at each of these columns."""
    frame, face = wall(), portrait()
    for left in lefts:
        frame[5 : 5 + len(face), left : left + len(face)] = face
    return frame


def film(
    path: Path,
    frame_at: Callable[[float], Picture],
    *,
    seconds: float,
    rate: int = 4,
    codec: str = "mpeg4",
    fmt: str = "mp4",
) -> Path:
    """A video of what ``frame_at`` gives for each moment, a key frame a second."""
    with av.open(str(path), "w", format=fmt) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = rate
        for index in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(frame_at(index / rate), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def spoil(path: Path, begin: float, end: float) -> None:
    """Overwrite a part of a file, given as fractions of its length."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    path.write_bytes(data)
