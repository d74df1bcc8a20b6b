"""The store of record: Parquet files that ``datasets.load_dataset(folder)`` reads, one row an instruction.

The same rows give the same bytes: sorted by id, one compression, no times of writing in the metadata.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facellava.arrow import ARRAYS, array_column, arrays_of
from facellava.errors import FileMissing, MissingExtra
from facellava.files import reading
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.records import Annotation, Instruction, Rating
from facellava.instruct.rows import Origin, Row, row_of
from facellava.types import Sample

if TYPE_CHECKING:
    import pyarrow as pa

SUBSETS = ("train", "test")
ROWS_PER_GROUP = 200
"""Small row groups: readers fetch single pictures without a whole shard."""


def write_dataset(
    folder: Path,
    rows: Iterable[Instruction],
    clips: ClipStore,
    *,
    shard_rows: int = 5000,
    pixels: Callable[[Sample], bool],
    origin: Mapping[str, Origin] | None = None,
) -> int:
    """Write ``folder/data/*.parquet`` anew; the number of rows.

    Args:
        clips: where the rows' clips lie.
        shard_rows: rows of one file.
        pixels: whether a sample's crops may be passed on.
        origin: by source, see ``origins``; without it media are known by their file names only.

    Raises:
        FileMissing: a clip is gone. MissingExtra: no ``datasets``.
    """
    of = origin or {}
    ordered = sorted(rows, key=lambda row: row.sample.id)
    made = (row_of(r, clips, of.get(r.sample.source, Origin()), pixels=pixels(r.sample)) for r in ordered)
    return write_rows(folder, made, shard_rows=shard_rows)


def write_rows(folder: Path, rows: Iterable[Row], *, shard_rows: int = 5000) -> int:
    """As ``write_dataset``, for rows that are ready and in ascending order of their ids."""
    target, partial, old = folder / "data", folder / ".data.partial", folder / ".data.old"
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    writers = {subset: _Shards(partial, subset, shard_rows) for subset in SUBSETS}
    last = ""
    for row in rows:
        assert row.id > last, f"{row.id} is not after {last}"
        last = row.id
        writers[row.subset].add(row)
    count = sum(writer.close() for writer in writers.values())
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return count


def _need(what: str) -> None:
    try:
        import datasets  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra("data", what) from error


def features() -> Any:
    """The columns as ``datasets.Features``."""
    _need("writing Parquet")
    from datasets import Features, Image, List, Value, Video

    text, whole, real = Value("string"), Value("int32"), Value("float64")
    made_by = {"model": text, "prompt": text, "attempts": whole, "input_tokens": whole, "output_tokens": whole}
    scores = dict.fromkeys(("label_accuracy", "description_media", "description_label", "overall"), Value("int8"))
    return Features(
        {
            **dict.fromkeys(("id", "source", "split", "subject", "task", "kind", "label"), text),
            "labels": List(text),
            "known": List(text),
            "years": whole,
            "question": text,
            "description": text,
            "messages": List({"role": text, "content": text}),
            "rating": {**scores, "reason": text, "rater": text, **made_by},
            "annotation": {"annotator": text, **made_by},
            "clip": text,
            "media": text,
            "sha256": text,
            "window": List(real),
            "frame": whole,
            "duration": real,
            "landmarks": List(List(List(Value("float32"), length=2), length=68)),
            "blendshapes": List(List(Value("float32"), length=52)),
            "times": List(real),
            "margin": real,
            "crop": text,
            "image": Image(),
            # bytes, as decoding needs a library that few machines have; cast_column(..., Video()) switches it on
            "video": Video(decode=False),
            "media_type": text,
            "licence": text,
            "meta": text,
        }
    )


def _record(row: Row) -> dict[str, Any]:
    """The columns of a row but its arrays."""
    annotation = asdict(row.annotation)
    messages = [("user", row.question), ("assistant", annotation.pop("description"))]
    picture = None if row.data is None else {"bytes": row.data, "path": row.file_name}
    is_video = row.media_type.startswith("video/")
    same = ("id", "source", "split", "subject", "task", "kind", "question", "description", "clip", "media", "sha256")
    return {
        **{
            name: getattr(row, name) for name in (*same, "frame", "duration", "margin", "crop", "media_type", "licence")
        },
        "label": row.label if isinstance(row.label, str) else None,
        "labels": list(row.label) if isinstance(row.label, tuple) else None,
        "known": list(row.known) if row.known else None,
        "years": row.label if isinstance(row.label, int) else None,
        "messages": [{"role": role, "content": content} for role, content in messages],
        "rating": row.rating and asdict(row.rating),
        "annotation": annotation,
        "window": row.window and list(row.window),
        "times": None if row.times is None else row.times.tolist(),
        "image": None if is_video else picture,
        "video": picture if is_video else None,
        "meta": json.dumps(dict(row.meta or {}), sort_keys=True, ensure_ascii=False),
    }


class _Shards:
    """Writes the rows of one subset, and names the files when their number is known."""

    def __init__(self, folder: Path, subset: str, shard_rows: int) -> None:
        self.folder, self.subset, self.shard_rows = folder, subset, shard_rows
        self.schema = features().arrow_schema
        self.parts: list[Path] = []
        self.waiting: list[Row] = []
        self.count = 0
        self.writer: Any = None

    def add(self, row: Row) -> None:
        if self.count % self.shard_rows == 0:
            self._open()
        self.waiting.append(row)
        self.count += 1
        if len(self.waiting) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> int:
        """Rows written."""
        self._end()
        for number, part in enumerate(self.parts):
            part.rename(self.folder / f"{self.subset}-{number:05}-of-{len(self.parts):05}.parquet")
        return self.count

    def _open(self) -> None:
        import pyarrow.parquet as pq

        self._end()
        self.parts.append(self.folder / f"{self.subset}-{len(self.parts):05}.part")
        self.writer = pq.ParquetWriter(self.parts[-1], self.schema, compression="zstd")

    def _end(self) -> None:
        self._flush()
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(_table(self.waiting, self.schema))
            self.waiting = []


def _table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    records = [_record(row) for row in rows]
    columns = []
    for column in schema:
        if column.name in ARRAYS:
            columns.append(array_column([getattr(row, column.name) for row in rows], ARRAYS[column.name]))
        else:
            columns.append(pa.array([record[column.name] for record in records], column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def shard_files(folder: Path, subset: str | None = None) -> list[Path]:
    """The Parquet files of a dataset's folder in order, training before test.

    Raises:
        FileMissing: there is none.
    """
    files = [
        path for name in ([subset] if subset else SUBSETS) for path in sorted(folder.glob(f"data/{name}-*.parquet"))
    ]
    if not files and not subset:
        raise FileMissing(f"{folder} holds no data/*.parquet: give the folder that 'facellava data build' wrote")
    return files


def read_dataset(folder: Path, *, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a dataset's folder, training before test, each in order of the ids.

    Args:
        columns: read only these; the others are empty in the rows.

    Raises:
        FileMissing: no dataset there. MissingExtra: no ``pyarrow``. DamagedFile: a file of it cannot be read.
    """
    _need("reading Parquet")
    import pyarrow.parquet as pq

    for path in shard_files(folder):
        with reading(path, "run the build again"), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns and list(columns)):
                yield from _rows(batch, path.name.split("-")[0])


def _rows(batch: pa.RecordBatch, subset: str) -> Iterator[Row]:
    there = [name for name in ARRAYS if name in batch.schema.names]
    arrays = {name: arrays_of(batch.column(name), ARRAYS[name]) for name in there}
    for n, record in enumerate(batch.drop_columns(there).to_pylist()):
        yield _row(record, subset, {name: values[n] for name, values in arrays.items()})


def _row(record: dict[str, Any], subset: str, arrays: Mapping[str, NDArray[np.float32] | None]) -> Row:
    get = record.get
    description = get("description") or ""
    labels = get("labels")
    picture = get("image") or get("video")
    window, times = get("window"), get("times")
    made_by: dict[str, Any] = get("annotation") or {"annotator": ""}
    return Row(
        subset=subset,
        label=tuple(labels) if labels is not None else get("label") if get("years") is None else get("years"),
        known=tuple(get("known") or ()),
        description=description,
        annotation=Annotation(description, **made_by),
        rating=Rating(**record["rating"]) if get("rating") else None,
        duration=get("duration") or 0.0,
        landmarks=arrays.get("landmarks"),
        blendshapes=arrays.get("blendshapes"),
        margin=get("margin") or 0.0,
        times=None if times is None else np.array(times, np.float64),
        data=picture and picture["bytes"],
        window=(window[0], window[1]) if window else None,
        frame=get("frame"),
        subject=get("subject"),
        kind=get("kind") or "image",
        meta=json.loads(get("meta") or "{}"),
        crop=get("crop") or "centred",
        **{name: get(name) or "" for name in _TEXTS},
    )


_TEXTS = ("id", "source", "split", "task", "question", "clip", "media", "sha256", "media_type", "licence")
