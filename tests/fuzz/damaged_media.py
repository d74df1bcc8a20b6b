"""Damaged pictures and videos, made from good ones by rules and a seed: the same files on every machine.

python tests/fuzz/damaged_media.py FOLDER   write them all (about 800 files)
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

SIDE, FRAMES = 96, 12
PICTURES: Mapping[str, dict[str, object]] = {
    "jpg": {"format": "JPEG", "quality": 90},
    "progressive.jpg": {"format": "JPEG", "quality": 90, "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "quality": 90},
    "lossless.webp": {"format": "WEBP", "lossless": True},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "jp2": {"format": "JPEG2000"},
    "ppm": {"format": "PPM"},
    "avif": {"format": "AVIF"},
    "heic": {"format": "HEIF"},
}
ANIMATIONS: Mapping[str, dict[str, object]] = {
    "animated.gif": {"format": "GIF"},
    "animated.webp": {"format": "WEBP", "lossless": True},
    "animated.png": {"format": "PNG"},
}
VIDEOS: Mapping[str, tuple[str, str]] = {
    "mp4": ("mp4", "libx264"),
    "mov": ("mov", "mpeg4"),
    "webm": ("webm", "libvpx-vp9"),
    "mkv": ("matroska", "libx264"),
    "avi": ("avi", "mpeg4"),
    "flv": ("flv", "flv"),
    "ts": ("mpegts", "mpeg2video"),
    "mpg": ("mpeg", "mpeg2video"),
    "asf": ("asf", "wmv2"),
}


class Damaged(NamedTuple):
    """A file: the good one's name, what was done to it, its bytes."""

    kind: str
    damage: str
    data: bytes

    @property
    def name(self) -> str:
        return f"{self.damage}.{self.kind}"


def moving(number: int) -> NDArray[np.uint8]:
    """uint8 (96, 96, 3): a smooth pattern that moves."""
    y, x = np.mgrid[:SIDE, :SIDE] / 8.0
    waves = [np.sin(x + number / 3), np.cos(y - number / 4), np.sin((x + y) / 2 + number / 5)]
    return np.ascontiguousarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8))


def _encoded(pictures: list[Image.Image], **options: object) -> bytes:
    out = io.BytesIO()
    first, *more = pictures
    if more:
        options |= {"save_all": True, "append_images": more, "duration": 100}
    first.save(out, **options)  # pyright: ignore[reportArgumentType]
    return out.getvalue()


def _video(container: str, codec: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25, options={"threads": "1", "g": "5"})
        stream.width = stream.height = SIDE  # pyright: ignore[reportAttributeAccessIssue]
        stream.pix_fmt = "yuv420p"  # pyright: ignore[reportAttributeAccessIssue]
        for n in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(moving(n), format="rgb24")
            file.mux(stream.encode(frame))  # pyright: ignore[reportAttributeAccessIssue]
        file.mux(stream.encode(None))  # pyright: ignore[reportAttributeAccessIssue]
    return out.getvalue()


@cache
def good() -> dict[str, bytes]:
    """Whole files by kind; formats that this machine's libraries cannot write are left out."""
    pillow_heif.register_heif_opener()
    pictures = [Image.fromarray(moving(n)) for n in range(FRAMES)]
    found: dict[str, bytes] = {}
    for kind, options in PICTURES.items():
        found[kind] = _encoded(pictures[:1], **options)
    for kind, options in ANIMATIONS.items():
        found[kind] = _encoded(pictures[:5], **options)
    for kind, (container, codec) in VIDEOS.items():
        found[kind] = _video(container, codec)
    return found


def _cut(data: bytes, rng: random.Random, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _flip(data: bytes, rng: random.Random, bits: int) -> bytes:
    changed = bytearray(data)
    for _ in range(bits):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _zeros(data: bytes, rng: random.Random, share: float) -> bytes:
    length = max(1, int(len(data) * share))
    at = rng.randrange(len(data) - length + 1)
    return data[:at] + bytes(length) + data[at + length :]


def _noise(data: bytes, rng: random.Random, share: float) -> bytes:
    length = max(1, int(len(data) * share))
    at = rng.randrange(len(data) - length + 1)
    return data[:at] + rng.randbytes(length) + data[at + length :]


def _head(data: bytes, rng: random.Random, count: int) -> bytes:
    """The first bytes of another format in front of this one's rest."""
    other = rng.choice([other for other in good().values() if other[:8] != data[:8]])
    return other[:count] + data[count:]


def _huge(data: bytes, rng: random.Random, at: int) -> bytes:
    """Four bytes of the header as large as they can be: lengths, sizes, counts."""
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


def _splice(data: bytes, rng: random.Random, share: float) -> bytes:
    """The first part of this file and the last of another."""
    other = rng.choice(list(good().values()))
    return data[: int(len(data) * share)] + other[int(len(other) * share) :]


def _without(data: bytes, rng: random.Random, share: float) -> bytes:
    """A piece taken out, so that everything behind it lies too early."""
    length = max(1, int(len(data) * share))
    at = rng.randrange(len(data) - length + 1)
    return data[:at] + data[at + length :]


def _repeated(data: bytes, rng: random.Random, times: int) -> bytes:
    return data * times


DAMAGES: tuple[tuple[str, Callable[..., bytes], tuple[float | int, ...]], ...] = (
    ("cut", _cut, (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999)),
    ("flip", _flip, (1, 1, 1, 8, 8, 64, 512)),
    ("zeros", _zeros, (0.01, 0.1, 0.5)),
    ("noise", _noise, (0.01, 0.1, 0.5)),
    ("head", _head, (4, 16, 64)),
    ("huge", _huge, (4, 16, 24, 40)),
    ("splice", _splice, (0.3, 0.7)),
    ("without", _without, (0.005, 0.05, 0.3)),
    ("repeated", _repeated, (2,)),
)


def corpus() -> Iterator[Damaged]:
    """Every kind under every damage."""
    for kind, data in good().items():
        for name, damage, amounts in DAMAGES:
            for number, amount in enumerate(amounts):
                rng = random.Random(f"{kind} {name} {number}")
                yield Damaged(kind, f"{name}-{number}", damage(data, rng, amount))


def main(folder: str) -> None:
    """Write the corpus and the good files."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for kind, data in good().items():
        (target / f"good.{kind}").write_bytes(data)
    for file in corpus():
        (target / file.name).write_bytes(file.data)


if __name__ == "__main__":
    main(sys.argv[1])
