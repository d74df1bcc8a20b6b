"""`read_media` on pictures: every way in which a picture can be stored shows the same upright RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facellava.errors import (
    DamagedMedia,
    EmptyFile,
    FacellavaError,
    FileMissing,
    MediaTooLarge,
    UnsupportedMedia,
    UsageError,
)
from facellava.face import Limits, read_media

# EXIF orientation -> how a camera held that way would have stored the upright picture.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def encoded(picture: Image.Image, fmt: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, fmt, **options)
    return out.getvalue()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(astronaut: np.ndarray, orientation: int, fmt: str) -> None:
    upright = astronaut[:400, 100:356]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    options = {"quality": 95} if fmt in ("JPEG", "WEBP") else {}
    media = read_media(encoded(stored, fmt, exif=exif, **options))
    assert media.kind == "image"
    assert media.frames.shape == (1, 400, 256, 3)
    assert difference(media.frames[0], upright) < 5


def test_heic(astronaut: np.ndarray, tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "photo.jpg"  # the name lies
    pillow_heif.from_pillow(Image.fromarray(astronaut)).save(path, quality=90, format="HEIF")
    media = read_media(path)
    assert media.kind == "image"
    assert difference(media.frames[0], astronaut) < 5


def test_grey_palette_cmyk_and_one_bit(astronaut: np.ndarray) -> None:
    colour = Image.fromarray(astronaut)
    grey = np.asarray(colour.convert("L"))
    decoded = read_media(encoded(colour.convert("L"), "PNG")).frames[0]
    assert (decoded == grey[..., None]).all()
    assert difference(read_media(encoded(colour.quantize(256), "PNG")).frames[0], astronaut) < 10
    assert difference(read_media(encoded(colour.convert("CMYK"), "JPEG", quality=95)).frames[0], astronaut) < 5
    assert set(np.unique(read_media(encoded(colour.convert("1"), "PNG")).frames)) == {0, 255}


def test_transparency_is_put_on_white(astronaut: np.ndarray) -> None:
    alpha = np.full(astronaut.shape[:2], 255, np.uint8)
    alpha[:, :100] = 0
    alpha[:, 100:200] = 128
    decoded = read_media(encoded(Image.fromarray(np.dstack([astronaut, alpha])), "PNG")).frames[0]
    assert (decoded[:, :100] == 255).all()
    assert (decoded[:, 200:] == astronaut[:, 200:]).all()
    mixed = astronaut[:, 100:200] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(decoded[:, 100:200] - mixed).max() <= 1.5
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert read_media(encoded(palette, "PNG", transparency=0)).frames[0].tolist() == [[[255] * 3, [40, 50, 60]]]


def test_sixteen_bits_are_scaled_not_clipped(astronaut: np.ndarray) -> None:
    grey = np.asarray(Image.fromarray(astronaut).convert("L"))
    for fmt in ("PNG", "TIFF"):
        deep = Image.fromarray(grey.astype(np.uint16) * 257)
        assert (read_media(encoded(deep, fmt)).frames[0] == grey[..., None]).all()
    dark = Image.fromarray(np.full((4, 4), 200, np.uint16))  # nearly black in 16 bits, not light grey
    assert (read_media(encoded(dark, "PNG")).frames == 1).all()
    unit = Image.fromarray((grey / 255).astype(np.float32))
    assert (read_media(encoded(unit, "TIFF")).frames[0] == grey[..., None]).all()


def test_animations_are_videos(astronaut: np.ndarray) -> None:
    frames = [Image.fromarray(np.full((40, 60, 3), 20 * i, np.uint8)) for i in range(10)]
    for fmt in ("GIF", "WEBP", "PNG"):
        extra = {"lossless": True} if fmt == "WEBP" else {}
        data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:], duration=200, **extra)
        media = read_media(data, max_frames=4)
        assert media.kind == "video"
        assert media.times.tolist() == pytest.approx([0.0, 0.6, 1.2, 1.8])
        assert media.frames[:, 0, 0, 0].tolist() == [0, 60, 120, 180]
        assert media.duration == pytest.approx(2.0)
    assert read_media(encoded(Image.fromarray(astronaut), "GIF")).kind == "image"


def test_arrays_and_digest(astronaut: np.ndarray, tmp_path: Path) -> None:
    import hashlib

    assert (read_media(astronaut).frames[0] == astronaut).all()
    assert read_media(astronaut[..., 0]).frames.shape == (1, 512, 512, 3)
    assert read_media(np.dstack([astronaut, astronaut[..., :1] * 0])).frames.min() == 255
    clip = read_media(np.stack([astronaut] * 5), max_frames=3)
    assert clip.kind == "video"
    assert clip.times.tolist() == [0, 2, 4]
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(astronaut), "PNG"))
    media = read_media(str(path))
    assert media.path == path
    assert media.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (media.fps, media.duration) == (0.0, 0.0)


def one_line(error: FacellavaError) -> str:
    message = str(error)
    assert "\n" not in message
    assert ": " in message, "says what is wrong, then what to do"
    return message


def test_missing_empty_directory_and_text(tmp_path: Path) -> None:
    with pytest.raises(FileMissing) as caught:
        read_media(tmp_path / "nothing.jpg")
    assert "nothing.jpg" in one_line(caught.value)
    with pytest.raises(UsageError) as usage:
        read_media(tmp_path)
    one_line(usage.value)
    (tmp_path / "empty.jpg").touch()
    for source in (tmp_path / "empty.jpg", b""):
        with pytest.raises(EmptyFile) as empty:
            read_media(source)
        one_line(empty.value)
    texts = [
        "Dear reader, this is text.\n",
        "BMW sells cars",
        "#EXTM3U\nhttp://example.org/a.ts\n",
        "P6 is a chip",
    ]
    for number, text in enumerate(texts):
        path = tmp_path / f"text{number}.jpg"
        path.write_text(text)
        with pytest.raises((UnsupportedMedia, DamagedMedia)) as caught:
            read_media(path)
        one_line(caught.value)
        if number < 3:
            assert isinstance(caught.value, UnsupportedMedia)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_truncated_pictures_are_refused_not_filled(astronaut: np.ndarray, fmt: str, part: float) -> None:
    data = encoded(Image.fromarray(astronaut), fmt)
    with pytest.raises(DamagedMedia) as caught:
        read_media(data[: int(len(data) * part)])
    one_line(caught.value)


def test_truncated_progressive_jpeg_and_heic(astronaut: np.ndarray) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    data = encoded(Image.fromarray(astronaut), "JPEG", progressive=True)
    heic = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(astronaut)).save(heic, format="HEIF")
    for whole in (data, heic.getvalue()):
        with pytest.raises(DamagedMedia):
            read_media(whole[: len(whole) // 2])
    with pytest.raises(DamagedMedia):
        read_media(data[:20])


def test_bomb_is_refused_from_the_header() -> None:
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    for side in (30_000, 11_000):  # above and below Pillow's own ceiling
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        # Its pixel data is garbage: had it been decoded, the error would be another.
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"x" * 1000)) + chunk(b"IEND", b"")
        with pytest.raises(MediaTooLarge) as caught:
            read_media(bomb)
        one_line(caught.value)


def test_limits_can_be_set(astronaut: np.ndarray) -> None:
    data = encoded(Image.fromarray(astronaut), "PNG")
    for limits in (Limits(max_pixels=1000), Limits(max_bytes=1000)):
        with pytest.raises(MediaTooLarge):
            read_media(data, limits=limits)
    with pytest.raises(UsageError):
        read_media(data, max_frames=0)
    for wrong in (astronaut.astype(np.float32), astronaut[0, 0], astronaut[:0], astronaut[..., :2]):
        with pytest.raises(UsageError):
            read_media(wrong)
