"""``multipart/form-data`` in memory: parts of a body that was read already, nothing in temporary files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from facellava.server.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["Form", "Part", "read_form"]

MOST_PARTS = 32
LONGEST_FIELD = 65_536
LONGEST_BOUNDARY = 200


class Part(NamedTuple):
    """A file: the name that the client gave it, and its bytes."""

    filename: str
    data: bytes


class Form:
    """What a form holds: texts by field, in order, and at most one file a field."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.files: dict[str, Part] = {}

    def one(self, name: str, default: str | None = None) -> str | None:
        """The text of a field that may come once. Raises Problem where it comes more often."""
        found = self.texts.get(name, [])
        if len(found) > 1:
            raise Problem(400, "usage", f"the form has several fields {name!r}", param=name)
        return found[0] if found else default

    def file(self, name: str) -> Part:
        """The file of a field. Raises Problem where it lacks."""
        if name not in self.files:
            raise Problem(400, "usage", f"the form has no file {name!r}", param=name)
        return self.files[name]


class _Reader:
    """Callbacks of the parser."""

    def __init__(self) -> None:
        self.form = Form()
        self._count = 0
        self._header, self._value, self._disposition = b"", b"", b""
        self._pieces: list[bytes] = []

    def on_part_begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise Problem(400, "bad_form", f"a form has at most {MOST_PARTS} parts")
        self._header, self._value, self._disposition, self._pieces = b"", b"", b"", []

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def on_part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise Problem(400, "bad_form", "a part of the form has no name")
        name, data = _text(options[b"name"]), b"".join(self._pieces)
        if b"filename" not in options:
            if len(data) > LONGEST_FIELD:
                raise Problem(400, "bad_form", f"the field {name!r} is longer than {LONGEST_FIELD:,} bytes")
            self.form.texts.setdefault(name, []).append(_text(data))
        elif name in self.form.files:
            raise Problem(400, "bad_form", f"the form has several files {name!r}: send one")
        else:
            self.form.files[name] = Part(_text(options[b"filename"]), data)


def read_form(body: bytes, content_type: str) -> Form:
    """The parts of a form. Raises Problem for what is none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= LONGEST_BOUNDARY:
        raise Problem(415, "bad_form", "send multipart/form-data with a boundary")
    reader = _Reader()
    callbacks: MultipartCallbacks = {
        "on_part_begin": reader.on_part_begin,
        "on_part_data": reader.on_part_data,
        "on_part_end": reader.on_part_end,
        "on_header_field": reader.on_header_field,
        "on_header_value": reader.on_header_value,
        "on_header_end": reader.on_header_end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, "bad_form", "the form is malformed") from error
    return reader.form


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(400, "bad_form", "a text in the form is not UTF-8") from error
