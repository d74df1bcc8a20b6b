"""Is the whole file there, as it was written? FFmpeg plays a cut-off file silently as a shorter one, and Pillow does
not look at the checksums of a PNG's pixels."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

__all__ = ["has_wrong_checksum", "missing_bytes"]

_PNG_SIGNATURE = 8
_PIXELS = (b"IDAT", b"fdAT")


def has_wrong_checksum(stream: BinaryIO) -> bool:
    """Whether a PNG's pixels are others than were written; the stream is left where it was."""
    begin = stream.tell()
    stream.seek(_PNG_SIGNATURE)
    wrong = False
    while not wrong and len(head := stream.read(8)) == 8:
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name in _PIXELS:
            content, stated = stream.read(length), stream.read(4)
            wrong = zlib.crc32(content, zlib.crc32(name)) != int.from_bytes(stated, "big")
        else:
            stream.seek(length + 4, io.SEEK_CUR)
    stream.seek(begin)
    return wrong


def missing_bytes(stream: BinaryIO, fmt: str) -> int:
    """How many bytes the container promises beyond the end of the file; 0 when complete or not stated.

    The stream is left at its start.
    """
    end = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    stated = {"mov": _iso_length, "avi": _riff_length, "matroska": _matroska_length}.get(fmt)
    length = stated(stream, end) if stated else end
    stream.seek(0)
    return max(0, length - end)


def _iso_length(stream: BinaryIO, end: int) -> int:
    """MP4 and MOV: the end of the last top-level box, or of the box header in which the file stops."""
    at = 0
    while at < end:
        stream.seek(at)
        header = stream.read(16)
        if len(header) < 8:
            return at + 8
        size = int.from_bytes(header[:4], "big")
        if size == 0:  # "to the end of the file"
            return end
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            return end  # not a box any more: trailing bytes that players ignore
        at += size
    return at


def _riff_length(stream: BinaryIO, end: int) -> int:
    """AVI: the length in the first eight bytes (0 when it was never filled in)."""
    header = stream.read(8)
    return 8 + int.from_bytes(header[4:8], "little") if len(header) == 8 else end


def _matroska_length(stream: BinaryIO, end: int) -> int:
    """Matroska and WebM: the end of the segment after the EBML header; live recordings leave it open."""
    stream.seek(4)
    header_size, at = _vint(stream, 4)
    stream.seek(at + header_size + 4)
    size, start = _vint(stream, at + header_size + 4)
    return end if size < 0 else start + size


def _vint(stream: BinaryIO, at: int) -> tuple[int, int]:
    """A variable-length integer at `at`: its value (-1: unknown) and the position behind it."""
    first = stream.read(1)
    if not first or not first[0]:
        return -1, at
    length = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + stream.read(length - 1), "big")
    unknown = (1 << 7 * length) - 1
    return (-1 if value == unknown else value), at + length
