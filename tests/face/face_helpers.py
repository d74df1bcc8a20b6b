"""Media written on the spot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def write_video(
    path: Path,
    frames: list[np.ndarray],
    *,
    milliseconds: list[int] | None = None,
    codec: str = "libx264",
    fmt: str | None = None,
    key_every: int = 12,
    faststart: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames (H, W, 3); each is shown at its time, by default 40 ms after the one before."""
    times = milliseconds or [40 * i for i in range(len(frames))]
    height, width = frames[0].shape[:2]
    layout = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", format=fmt, options=layout) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = key_every
        stream.codec_context.bit_rate = 4_000_000
        for time, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def on_grey(picture: np.ndarray, height: int, width: int, x: int, y: int) -> np.ndarray:
    """The picture pasted at (x, y) on a grey canvas, cut at its edges."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    part = picture[: height - y, : width - x]
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    """The picture resized by a factor."""
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
