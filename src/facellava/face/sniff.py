"""Telling what a file is from its first bytes.

Only containers named here reach a decoder, and FFmpeg is told which one it is: left to guess, it would take
text files for subtitles or playlists, and playlists name further files to open.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Kind", "sniff"]


class Kind(NamedTuple):
    """A recognised format: Pillow's or FFmpeg's name for it."""

    is_image: bool
    format: str


_PREFIXES: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", Kind(True, "JPEG")),
    (b"\x89PNG\r\n\x1a\n", Kind(True, "PNG")),
    (b"GIF87a", Kind(True, "GIF")),
    (b"GIF89a", Kind(True, "GIF")),
    (b"BM", Kind(True, "BMP")),
    (b"II*\0", Kind(True, "TIFF")),
    (b"MM\0*", Kind(True, "TIFF")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Kind(True, "JPEG2000")),
    (b"\xff\x4f\xff\x51", Kind(True, "JPEG2000")),
    (b"\x1aE\xdf\xa3", Kind(False, "matroska")),
    (b"FLV\x01", Kind(False, "flv")),
    (b"OggS", Kind(False, "ogg")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind(False, "asf")),
    (b"\0\0\x01\xba", Kind(False, "mpeg")),
    (b"\0\0\x01\xb3", Kind(False, "mpegvideo")),
)
_RIFF = {b"WEBP": Kind(True, "WEBP"), b"AVI ": Kind(False, "avi")}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_TS_PACKET = 188


def sniff(head: bytes) -> Kind | None:
    """The format whose signature `head` (the file's first bytes) carries; None when it carries none."""
    for prefix, kind in _PREFIXES:
        if head.startswith(prefix):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] in _BOXES:
        return _iso_base_media(head)
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return Kind(True, "PPM")
    if head[:1] == b"G" and head[_TS_PACKET : _TS_PACKET + 1] == b"G":
        return Kind(False, "mpegts")
    return None


def _iso_base_media(head: bytes) -> Kind:
    """MP4, MOV, HEIC and AVIF share one container; the brands in the first box tell them apart."""
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, end, 4))]
        if any(brand in brands for brand in _AVIF_BRANDS):
            return Kind(True, "AVIF")
        if brands[0] in _HEIF_BRANDS:
            return Kind(True, "HEIF")
    return Kind(False, "mov")
