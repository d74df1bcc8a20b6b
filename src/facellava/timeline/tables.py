"""The windows of a journal as one flat table, the same row for row as CSV and, with pyarrow, as Parquet."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facellava import showing, tasks
from facellava.errors import MissingExtra
from facellava.files import atomic_path
from facellava.results import FaceResult

__all__ = ["columns", "require_parquet", "rows", "write_csv", "write_parquet"]

Record = Mapping[str, Any]

_WHOLE, _NUMBER, _TEXT = "int64", "double", "string"
_HEAD = {
    "window": _WHOLE,
    "start": _NUMBER,
    "end": _NUMBER,
    "frames": _WHOLE,
    "error": _TEXT,
    "message": _TEXT,
    "track": _WHOLE,
    "seen_from": _NUMBER,
    "seen_to": _NUMBER,
    **dict.fromkeys(("x0", "y0", "x1", "y1"), _NUMBER),
    **dict.fromkeys((f"quality.{name}" for name in ("size", "blur", "yaw", "pitch", "roll", "score")), _NUMBER),
    "abstained": _TEXT,
}
_OWN = {
    "expression": {"expression.label": _TEXT},
    "action_units": {"action_units.active": _TEXT},
    "attributes": {"attributes.present": _TEXT},
    "age": {"age.years": _WHOLE, "age.low": _WHOLE, "age.high": _WHOLE},
    "deepfake": {"deepfake.label": _TEXT},
}
assert set(_OWN) == set(FaceResult.TASKS)
_BATCH = 1000


def columns(wanted: Sequence[str], untrained: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Names of the columns and their Arrow types.

    Args:
        wanted: tasks. untrained: task -> labels that the model gives no probability.
    """
    result = dict(_HEAD)
    for name in wanted:
        result |= _OWN[name]
        if tasks.get(name).kind != "number":
            known = (label for label in tasks.get(name).names if label not in untrained.get(name, ()))
            result |= {f"{name}.p.{label}": _NUMBER for label in known}
    return result


def rows(records: Iterable[Record], names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One row a face of a window, one without a face for a window that has none; every row has all columns."""
    empty = dict.fromkeys(names)
    for record in records:
        head = {name: record[name] for name in ("window", "start", "end", "frames")}
        error = record["error"] or {"code": None, "message": None}
        head |= {"error": error["code"], "message": error["message"]}
        if not record["faces"]:
            yield {**empty, **head}
        for face in record["faces"]:
            yield {**empty, **head, **{name: value for name, value in _face(face).items() if name in empty}}


def _face(face: Record) -> dict[str, Any]:
    reasons = {task["reason"] for task in face["tasks"].values() if task["abstained"]}
    spans = {"seen_from": face["spans"][0][0], "seen_to": face["spans"][-1][1]}
    return {**showing.face_row(face), **spans, "track": face["id"], "abstained": "; ".join(sorted(reasons)) or None}


def write_csv(path: Path, records: Iterable[Record], names: Mapping[str, str]) -> None:
    """A comma-separated file in UTF-8; what is unknown is empty."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows(records, names))


def require_parquet() -> None:
    """Raise MissingExtra where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra("data", "a Parquet file") from error


def write_parquet(path: Path, records: Iterable[Record], names: Mapping[str, str]) -> None:
    """The same rows as :func:`write_csv`, typed; a thousand of them are held at a time."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in names.items()])
    found = rows(records, names)
    with atomic_path(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        while batch := list(itertools.islice(found, _BATCH)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))
