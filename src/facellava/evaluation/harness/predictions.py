"""Answers that VLMEvalKit collected, as the file that ``--model answers:FILE`` of ``facellava eval`` takes."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any
from xml.etree import ElementTree

from facellava.errors import FileMissing, UsageError
from facellava.files import from_json, read_text, write_atomic

FAILED = "Failed to obtain answer"
"""With it begins what VLMEvalKit writes where a model gave nothing."""
_LETTER = re.compile(r"\s*(?:answer\s*(?:is)?\s*:?\s*)?[(\[*]*([A-Z])[)\].:*]*\s*", re.IGNORECASE)
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def import_predictions(path: Path, out: Path) -> int:
    """Write JSON lines of ``id`` and ``text``; the number of answers.

    A letter alone becomes the text of its option, so that our parser reads it; other words stay as they are. Rows in
    which the model failed are left out: a run records them as unanswered.

    Args:
        path: VLMEvalKit's predictions: ``.xlsx``, ``.tsv``, ``.csv``, ``.json`` or ``.jsonl``.

    Raises:
        FileMissing: there is none. UsageError: another kind of file, or rows without ``id`` and ``prediction``.
    """
    if not path.is_file():
        raise FileMissing(f"{path} is missing: give the predictions that VLMEvalKit wrote")
    lines = []
    for number, row in enumerate(_rows(path), 1):
        if "id" not in row or "prediction" not in row:
            raise UsageError(
                f"{path}, row {number}: no 'id' and 'prediction'; it must come from a table of export_vlmeval"
            )
        text = _text(row)
        if not text.startswith(FAILED):
            lines.append(json.dumps({"id": str(row["id"]), "text": _answer(text, row)}, ensure_ascii=False) + "\n")
    if not lines:
        raise UsageError(f"{path} holds no answer")
    write_atomic(out, "".join(lines))
    return len(lines)


def _text(row: Mapping[str, Any]) -> str:
    value = row["prediction"]
    return "" if value is None else str(value)


def _answer(text: str, row: Mapping[str, Any]) -> str:
    letter = _LETTER.fullmatch(text)
    if letter is None:
        return text
    option = row.get(letter[1].upper())
    return str(option) if letter[1].upper() in ascii_uppercase and option else text


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    kind = path.suffix.lower()
    if kind == ".xlsx":
        yield from _sheet(path)
    elif kind in (".tsv", ".csv"):
        csv.field_size_limit(sys.maxsize)  # a table may still hold its pictures
        text = io.StringIO(read_text(path), newline="")
        yield from csv.DictReader(text, delimiter="\t" if kind == ".tsv" else ",")
    elif kind in (".json", ".jsonl"):
        yield from _json(path)
    else:
        raise UsageError(f"{path}: cannot read {kind or 'a file without ending'}: give xlsx, tsv, csv, json or jsonl")


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        text = read_text(path)
        found = (
            from_json(text)
            if path.suffix == ".json"
            else [from_json(line) for line in text.split("\n") if line.strip()]
        )
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise UsageError(f"{path}: expected a list of objects")
    return found


# --- spreadsheets: as much of the format as a table of texts and numbers has ---


def _sheet(path: Path) -> Iterator[dict[str, Any]]:
    """The first sheet's rows by the names in its first one."""
    try:
        with zipfile.ZipFile(path) as archive:
            shared = _shared_texts(archive)
            sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError) as error:
        raise UsageError(f"{path} is no spreadsheet that can be read ({error}): save it as tsv") from error
    names: dict[str, str] = {}
    for row in sheet.iter(f"{_SHEET}row"):
        cells = {_column(cell.get("r", "")): _value(cell, shared) for cell in row.iter(f"{_SHEET}c")}
        if not names:
            names = {column: str(name) for column, name in cells.items()}
        else:
            yield {name: cells.get(column) for column, name in names.items()}


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    root = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
    return [_joined(item) for item in root.iter(f"{_SHEET}si")]


def _column(place: str) -> str:
    return place.rstrip("0123456789")


def _joined(element: ElementTree.Element) -> str:
    text = "".join(part.text or "" for part in element.iter(f"{_SHEET}t"))
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def _value(cell: ElementTree.Element, shared: list[str]) -> str | None:
    if cell.get("t") == "inlineStr":
        return _joined(cell)
    value = cell.find(f"{_SHEET}v")
    if value is None or value.text is None:
        return None
    return shared[int(value.text)] if cell.get("t") == "s" else value.text
