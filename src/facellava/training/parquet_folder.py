"""Conversations out of the store of record: Parquet files, one row an instruction."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facellava.arrow import ARRAYS, arrays_of
from facellava.errors import FileMissing, MissingExtra
from facellava.files import reading
from facellava.training.crops import Known, crop_clip
from facellava.training.talks import Talk, digest_of, labels_of, readers_of, task_of
from facellava.types import FaceClip

_INDEX = ("id", "source", "split", "subject", "task", "label", "labels", "known", "years", "question", "description")
_FACTS = ("clip", "sha256", "times", "margin", "crop", "meta")
_PIXELS = ("image", "video", *ARRAYS)
_ADVICE = "run the build again"
_GROUPS_KEPT = 8
"""Row groups (of 200 rows as we write them) whose pixels are kept, so that neighbours are not read again."""


class ParquetFolder:
    """See ``TalkFolder``. Subset ``train`` is for training, ``test`` is held out.

    Args:
        path: ``OUT/dataset`` of a build.
        multi_turn: all rows about a face become one conversation, in order of their ids.

    Raises:
        MissingExtra: no ``pyarrow``. DamagedFile: a file cannot be read.
    """

    def __init__(self, path: Path, *, multi_turn: bool = False) -> None:
        try:
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtra("train", "reading Parquet") from error
        self.path, self._pq = path, pq
        self._files = sorted(path.glob("data/train-*.parquet")) + sorted(path.glob("data/test-*.parquet"))
        self._pixels: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._origins = readers_of(path)
        self.digest = digest_of(path, self._files)
        rows: dict[str, list[Talk]] = {"train": [], "test": []}
        for talk, subset in self._read_index():
            rows[subset].append(talk)
        merge = _merged if multi_turn else list
        self.talks, self.held_out = merge(rows["train"]), merge(rows["test"])

    def _read_index(self) -> Iterator[tuple[Talk, str]]:
        group_number = -1
        for file_number, path in enumerate(self._files):
            with reading(path, _ADVICE), self._pq.ParquetFile(path) as file:
                names = set(file.schema_arrow.names)
                columns = [name for name in (*_INDEX, *_FACTS) if name in names]
                for group in range(file.num_row_groups):
                    group_number += 1
                    for row, record in enumerate(file.read_row_group(group, columns=columns).to_pylist()):
                        place = file_number, group, row
                        yield self._talk(record, group_number, place), path.name.split("-")[0]

    def _talk(self, record: dict[str, Any], group: int, place: tuple[int, int, int]) -> Talk:
        label = next((record[k] for k in ("label", "years", "labels") if record.get(k) is not None), None)
        source, meta = str(record["source"]), json.loads(record.get("meta") or "{}")
        return Talk(
            id=record["id"],
            source=source,
            split=record["split"],
            subject=record["subject"],
            task=record["task"],
            turns=((record["question"], record["description"]),),
            labels=labels_of(record["task"], label, record["known"] or ()),
            frames=len(record["times"] or (0.0,)),
            digest=record["sha256"] or "",
            margin=record.get("margin") or 0.0,
            group=group,
            place=(place, record["clip"]),
            origins=frozenset({self._origins.get(source, source), *str(record["id"]).split("/")[:-1]}),
            fold=int(meta.get("fold", 0)),
            crop=record.get("crop") or "centred",
        )

    def address(self, talk: Talk) -> str:
        """See ``TalkFolder``: the clip's key, which names what it was made from; of imported rows their own bytes."""
        _, clip = talk.place
        if clip:
            return clip
        media, known = self._stored_clip(talk)
        arrays = (array.tobytes() for array in known if array is not None)
        return hashlib.sha256(b"".join([media, *arrays])).hexdigest()

    def stored(self, talk: Talk) -> None:
        """See ``TalkFolder``."""

    def clip(self, talk: Talk, *, blendshapes: bool = True) -> FaceClip:
        """See ``TalkFolder``.

        Raises:
            FileMissing: the row holds no pixels. DamagedMedia and the like: they cannot be decoded.
        """
        media, known = self._stored_clip(talk)
        return crop_clip(media, known, blendshapes, margin=talk.margin, crop=talk.crop, name=talk.id)

    def _stored_clip(self, talk: Talk) -> tuple[bytes, Known]:
        (file, group, row), _ = talk.place
        record = self._group(file, group)
        media = record["image"][row] or record["video"][row]
        if media is None or not media.get("bytes"):
            raise FileMissing(
                f"{talk.id} has no pixels in {self.path}, as its licence forbids passing them on: train on the build "
                "folder's own dataset, built with options = { redistribute = true } for your own use"
            )
        return media["bytes"], Known(record["landmarks"][row], record["blendshapes"][row])

    def _group(self, file: int, group: int) -> dict[str, list[Any]]:
        key = file, group
        if key in self._pixels:
            self._pixels.move_to_end(key)
            return self._pixels[key]
        with reading(self._files[file], _ADVICE), self._pq.ParquetFile(self._files[file]) as opened:
            names = set(opened.schema_arrow.names)
            table = opened.read_row_group(group, columns=[name for name in _PIXELS if name in names])
        found = {name: table.column(name).to_pylist() for name in ("image", "video")}
        for name, shape in ARRAYS.items():
            there = name in table.column_names
            found[name] = arrays_of(table.column(name), shape) if there else [None] * table.num_rows
        self._pixels[key] = found
        if len(self._pixels) > _GROUPS_KEPT:
            self._pixels.popitem(last=False)
        return found


def _merged(talks: list[Talk]) -> list[Talk]:
    """One conversation for each clip; rows without a clip stay alone."""
    by_clip: dict[str, list[Talk]] = {}
    for talk in talks:
        _, clip = talk.place
        by_clip.setdefault(clip or talk.id, []).append(talk)
    result = []
    for same in by_clip.values():
        first = same[0]
        labels = {name: value for talk in same for name, value in talk.labels.items()}
        turns = tuple(turn for talk in same for turn in talk.turns)
        origins = frozenset(name for talk in same for name in talk.origins)
        result.append(
            Talk(
                **{
                    **{name: getattr(first, name) for name in Talk.__slots__},
                    "task": task_of(talk.task for talk in same),
                    "turns": turns,
                    "labels": labels,
                    "origins": origins,
                }
            )
        )
    return result
