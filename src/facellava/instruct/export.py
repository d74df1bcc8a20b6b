"""A dataset in the formats that trainers read. A format is one entry of ``FORMATS``.

``llava``: what the release trains from (one JSON list, media below a folder, landmarks beside); ``sharegpt``: the list
that most fine-tuning tools read; ``webdataset``: tar shards. Media are written only where the dataset holds them, which
it does only where the licence allows; other entries name the source's medium and are marked ``"pixels": false``.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from facellava.errors import MissingExtra, UsageError
from facellava.instruct import compose
from facellava.instruct.compose import Conversation
from facellava.instruct.dataset import SUBSETS, read_dataset
from facellava.instruct.rows import Row, safe_name
from facellava.types import CROP_SIZE

PLACEHOLDERS = {"image": "<image>", "video": "<video>"}
SHARD_CONVERSATIONS = 5000

Talk = Conversation[Row]


@dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
        help: one sentence. write: conversations into an empty folder; returns how many.
    """

    help: str
    write: Callable[[Iterable[Talk], Path], int]


def export(dataset: Path, form: str, out: Path, *, multi_turn: bool = False, seed: int = 0) -> int:
    """Write the dataset in `dataset` as `form` into `out`, anew and whole or not at all.

    Args:
        multi_turn: join the rows about one clip into one conversation (beyond the paper).
        seed: fixes the order of joined turns.

    Returns:
        How many conversations were written.

    Raises:
        UsageError: unknown format. FileMissing: no dataset there. MissingExtra: a library of the format is absent.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
    rows = read_dataset(dataset)
    if multi_turn:
        turns = compose.count_turns(read_dataset(dataset, columns=("clip",)))
        talks: Iterator[Talk] = compose.multi_turn(rows, turns, seed)
    else:
        talks = compose.single_turn(rows)
    with replaced(out) as folder:
        count = FORMATS[form].write(talks, folder)
        if (recipe := dataset / "recipe.json").is_file():  # which readers its sources have, whatever they are called
            shutil.copyfile(recipe, folder / recipe.name)
        return count


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` that takes its place when the block ends without an error."""
    partial, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file: name a folder")
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _facts(row: Row) -> dict[str, Any]:
    """What an importer needs to make the row again, and what a careful trainer looks at."""
    same = ("id", "source", "split", "subject", "task", "kind", "label", "known", "window", "frame")
    annotation = asdict(row.annotation)
    del annotation["description"]
    return {
        **{name: getattr(row, name) for name in same},
        "annotation": annotation,
        "rating": row.rating and asdict(row.rating),
        "clip": row.clip,
        "media": row.media,
        "sha256": row.sha256,
        "duration": row.duration,
        "margin": row.margin,
        "crop": row.crop,
        "media_type": row.media_type,
        "times": None if row.times is None else row.times.tolist(),
        "licence": row.licence,
        "meta": dict(row.meta or {}),
    }


def _has_pixels(talk: Talk) -> bool:
    # one clip can come through two sources: the stricter licence counts
    return all(row.data is not None for row in talk.rows)


def _place_media(talk: Talk, folder: Path, written: set[str]) -> str:
    """The medium's path relative to `folder`; written there once where the dataset holds it."""
    row = talk.rows[0]
    if not _has_pixels(talk):
        return f"{row.source}/{row.media}"
    name = f"{row.modality}s/{row.file_name[:2]}/{row.file_name}"
    if name not in written:
        assert row.data is not None
        _write(folder / name, row.data)
        written.add(name)
    return name


def _place_landmarks(row: Row, folder: Path, written: set[str]) -> str | None:
    """Landmarks as the release reads them, in pixels of the crop: (68, 2) of a picture, (T, 68, 2) of a video."""
    points = None if row.landmarks is None else row.landmarks * np.float32(CROP_SIZE)
    return _place_array("landmarks", points, row, folder, written)


def _place_array(kind: str, array: NDArray[np.float32] | None, row: Row, folder: Path, written: set[str]) -> str | None:
    """One array (T, ...) of a row as ``.npy`` below ``kind``, without the first axis for a picture."""
    if array is None:
        return None
    stem = row.file_name.rpartition(".")[0]
    name = f"{kind}/{stem[:2]}/{stem}.npy"
    if name not in written:
        _write(folder / name, _npy(array[0] if row.modality == "image" else array))
        written.add(name)
    return name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


class _JsonList:
    """A list of JSON objects in a file, one a line, written as it goes."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.file: IO[str] | None = None

    def add(self, record: dict[str, Any]) -> None:
        if self.file is None:
            self.file = self.path.open("w", encoding="utf-8")
        self.file.write(("[\n" if self.count == 0 else ",\n") + json.dumps(record, ensure_ascii=False))
        self.count += 1

    def close(self) -> int:
        if self.file is not None:
            self.file.write("\n]\n")
            self.file.close()
        return self.count


def _turns(talk: Talk, placeholder: str) -> list[dict[str, str]]:
    turns = []
    for number, row in enumerate(talk.rows):
        start = f"{placeholder}\n" if number == 0 else ""
        turns.append({"from": "human", "value": start + row.question})
        turns.append({"from": "gpt", "value": row.description})
    return turns


def _write_lists(
    talks: Iterable[Talk],
    folder: Path,
    entry: Callable[[Talk, str, str | None], dict[str, Any]],
    *,
    blendshapes: bool = False,
) -> int:
    lists = {subset: _JsonList(folder / f"{subset}.json") for subset in SUBSETS}
    written: set[str] = set()
    for talk in talks:
        media = _place_media(talk, folder, written)
        row = talk.rows[0]
        landmarks = _place_landmarks(row, folder, written)
        record = entry(talk, media, landmarks)
        if blendshapes:
            record["blendshapes"] = _place_array("blendshapes", row.blendshapes, row, folder, written)
        lists[row.subset].add(record)
    return sum(one.close() for one in lists.values())


def _llava_entry(talk: Talk, media: str, landmarks: str | None) -> dict[str, Any]:
    kind = talk.rows[0].modality
    return {
        "id": talk.id,
        kind: media,
        "landmarks": landmarks,
        "conversations": _turns(talk, PLACEHOLDERS[kind]),
        "pixels": _has_pixels(talk),
        "rows": [_facts(row) for row in talk.rows],
    }


def write_llava(talks: Iterable[Talk], folder: Path) -> int:
    """LLaVA JSON: ``train.json``, ``test.json``, ``images/``, ``videos/`` and ``landmarks/``.

    ``image`` and ``video`` are relative to the folder, which is both ``--image_folder`` and ``--video_folder`` of the
    release's trainer. Landmarks are ``.npy`` in pixels of the crop, which its loader divides by 256;
    ``blendshapes`` beside them are for our own trainer.
    """
    return _write_lists(talks, folder, _llava_entry, blendshapes=True)


def _sharegpt_entry(talk: Talk, media: str, landmarks: str | None) -> dict[str, Any]:
    kind = talk.rows[0].modality
    return {
        "id": talk.id,
        "conversations": _turns(talk, PLACEHOLDERS[kind]),
        f"{kind}s": [media],
        "landmarks": landmarks,
        "pixels": _has_pixels(talk),
        "licence": talk.rows[0].licence,
    }


def write_sharegpt(talks: Iterable[Talk], folder: Path) -> int:
    """ShareGPT JSON with an ``images`` or ``videos`` column; media and landmarks as in ``write_llava``."""
    return _write_lists(talks, folder, _sharegpt_entry)


def write_webdataset(talks: Iterable[Talk], folder: Path) -> int:
    """Tar shards ``train-000000.tar`` ...: of each conversation ``.json``, ``.npy`` landmarks (T, 68, 2) in [0, 1] of
    the crop, and ``.jpg`` or ``.mp4`` where the licence allows."""
    try:
        from webdataset.writer import TarWriter
    except ImportError as error:
        raise MissingExtra("data", "the format webdataset") from error
    writers: dict[str, Any] = {}
    counts: dict[str, int] = dict.fromkeys(SUBSETS, 0)
    for talk in talks:
        subset = talk.rows[0].subset
        shard, place = divmod(counts[subset], SHARD_CONVERSATIONS)
        if place == 0:
            if subset in writers:
                writers[subset].close()
            # a fixed time and no encoder: the bytes depend on the rows only
            name = str(folder / f"{subset}-{shard:06}.tar")
            writers[subset] = TarWriter(name, user="", group="", mtime=0.0, encoder=False)
        writers[subset].write(_tar_sample(talk))
        counts[subset] += 1
    for writer in writers.values():
        writer.close()
    return sum(counts.values())


def _tar_sample(talk: Talk) -> dict[str, Any]:
    row = talk.rows[0]
    record = {
        "id": talk.id,
        "messages": [m for r in talk.rows for m in _messages(r)],
        "pixels": _has_pixels(talk),
        "rows": [_facts(r) for r in talk.rows],
    }
    sample: dict[str, Any] = {"__key__": safe_name(talk.id), "json": json.dumps(record, ensure_ascii=False).encode()}
    if row.landmarks is not None:
        sample["npy"] = _npy(row.landmarks)
    if _has_pixels(talk):
        sample[row.file_name.rpartition(".")[2]] = row.data
    return sample


def _messages(row: Row) -> list[dict[str, str]]:
    return [{"role": "user", "content": row.question}, {"role": "assistant", "content": row.description}]


FORMATS: dict[str, Format] = {
    "llava": Format("LLaVA JSON with landmarks beside, as the release's trainer reads it", write_llava),
    "sharegpt": Format("ShareGPT JSON, read by most fine-tuning tools", write_sharegpt),
    "webdataset": Format("tar shards for webdataset", write_webdataset),
}
