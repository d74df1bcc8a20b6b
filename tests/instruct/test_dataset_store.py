"""The store of record: what is written comes back, through our reader and through ``datasets``."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rows_world import make_row, stored

from facellava import tasks
from facellava.errors import FileMissing
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.dataset import read_dataset, write_dataset
from facellava.instruct.records import Instruction
from facellava.instruct.rows import Origin, Row, safe_name

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def world() -> list[Instruction]:
    """One row of every kind of label and medium."""
    units = ("AU6", "AU12")
    return [
        make_row("b", "expression", "happiness", subject="p1", split="val", window=(0.0, 3.0), kind="video"),
        make_row("a", "action_units", units, frame=7, box=(1.0, 2.0, 3.0, 4.0)),
        make_row("c", "attributes", (), source="celeba", subset="test"),
        make_row("d", "age", 42, overall=None, source="utkface"),
        make_row("e", "deepfake", "fake", source="faceforensics", meta={"method": "Deepfakes", "quality": 40}),
        make_row("f", "expression", None, source="mer2023", description='A "quoted"\nline – ünïcode.'),
    ]


def write(rows: list[Instruction], folder: Path, *, shard_rows: int = 5000, pixels: bool = True) -> ClipStore:
    store = stored(rows, folder / "clips")
    origin = {"dfew": Origin(Path("/x/dfew"), "research only")}
    count = write_dataset(folder, rows, store, shard_rows=shard_rows, pixels=lambda _: pixels, origin=origin)
    assert count == len(rows)
    return store


def test_every_field_comes_back(tmp_path: Path) -> None:
    rows = world()
    store = write(rows, tmp_path)
    found = {row.id: row for row in read_dataset(tmp_path)}
    assert list(found) == [*sorted(r.sample.id for r in rows if r.subset == "train"), "celeba/c"]
    for given in rows:
        row, sample = found[given.sample.id], given.sample
        for name in ("source", "split", "subject", "task", "kind", "label", "known", "window", "frame"):
            assert getattr(row, name) == getattr(sample, name), (sample.id, name)
        assert (row.subset, row.question, row.clip, row.duration) == (
            given.subset,
            given.question,
            given.clip,
            given.duration,
        )
        assert (row.annotation, row.rating) == (given.annotation, given.rating)
        assert row.description == given.annotation.description and dict(row.meta or {}) == dict(sample.meta)
        landmarks, blendshapes, times, margin, crop = store.measured(given.clip)
        assert row.landmarks is not None and row.times is not None
        assert np.array_equal(row.landmarks, landmarks) and np.array_equal(row.times, times)
        assert row.blendshapes is not None and np.array_equal(row.blendshapes, blendshapes) and row.margin == margin
        assert row.crop == crop == "centred"
        assert (row.data, row.media_type) == store.encoded(given.clip)
    assert found["dfew/b"].media == "b.png" and found["dfew/b"].licence == "research only"
    assert found["celeba/c"].label == () and found["mer2023/f"].label is None, "nothing active is not unlabelled"


def test_datasets_opens_it(tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = world()
    write(rows, tmp_path)
    found = load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in found.items()} == {"train": 5, "test": 1}
    by_id = {row["id"]: row for row in found["train"]}
    age, video, units = by_id["utkface/d"], by_id["dfew/b"], by_id["dfew/a"]
    assert age["years"] == 42 and age["label"] is None and age["rating"] is None
    assert age["image"].size == (256, 256), "decoded by the library"
    assert video["video"]["bytes"][4:8] == b"ftyp" and video["image"] is None
    assert np.asarray(video["landmarks"]).shape == (12, 68, 2) and len(video["times"]) == 12
    assert units["labels"] == ["AU6", "AU12"] and units["known"] == list(tasks.get("action_units").default_names)
    assert video["messages"] == [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": rows[0].annotation.description},
    ]


def test_same_rows_same_bytes_in_any_order_and_shards_in_order(tmp_path: Path) -> None:
    rows = [
        make_row(f"{n:03}", "age", n, source="utkface", subset="test" if n % 5 == 0 else "train") for n in range(23)
    ]
    for place, order in (("one", rows), ("two", rows[::-1])):
        write(order, tmp_path / place, shard_rows=4)
    files = sorted(path.name for path in (tmp_path / "one" / "data").iterdir())
    assert files == [f"test-{n:05}-of-00002.parquet" for n in range(2)] + [
        f"train-{n:05}-of-00005.parquet" for n in range(5)
    ]
    for name in files:
        assert (tmp_path / "one/data" / name).read_bytes() == (tmp_path / "two/data" / name).read_bytes()
    found = [row.label for row in read_dataset(tmp_path / "one")]
    assert found == [n for n in range(23) if n % 5] + [0, 5, 10, 15, 20]


def test_writing_anew_replaces_everything_and_a_failure_nothing(tmp_path: Path) -> None:
    rows = world()
    store = write(rows, tmp_path, shard_rows=2)
    write(rows[:2], tmp_path)
    assert sorted(row.id for row in read_dataset(tmp_path)) == ["dfew/a", "dfew/b"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    gone = dataclasses.replace(make_row("z"), clip="gone")
    with pytest.raises(FileMissing):
        write_dataset(tmp_path, [*rows[:2], gone], store, pixels=lambda _: True)
    assert sorted(row.id for row in read_dataset(tmp_path)) == ["dfew/a", "dfew/b"]


def test_pixels_only_where_allowed(tmp_path: Path) -> None:
    rows = world()
    store = stored(rows, tmp_path / "clips")
    write_dataset(tmp_path, rows, store, pixels=lambda sample: sample.source == "utkface")
    held = {row.source: row.data is not None for row in read_dataset(tmp_path)}
    assert held == {"dfew": False, "celeba": False, "utkface": True, "faceforensics": False, "mer2023": False}
    (row,) = [row for row in read_dataset(tmp_path) if row.data]
    assert row.data and Image.open(io.BytesIO(row.data)).size == (256, 256)
    assert all(row.landmarks is not None for row in read_dataset(tmp_path)), "landmarks are no pixels"
    for path in (tmp_path / "data").iterdir():
        if path.name.startswith("test"):
            assert b"JFIF" not in path.read_bytes()


def test_only_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    write(world(), tmp_path)
    rows: list[Row] = list(read_dataset(tmp_path, columns=("id", "clip")))
    assert [row.clip for row in rows][-1] == "celeba-c" and rows[0].data is None and rows[0].landmarks is None
    with pytest.raises(FileMissing, match="data build"):
        list(read_dataset(tmp_path / "nowhere"))


def test_names_are_safe_and_stay_apart() -> None:
    assert safe_name("plain-1_x") == "plain-1_x"
    odd = {safe_name(text) for text in ("../a", "..a", "..\\a", "a/b", "a.b", "a b")}
    assert len(odd) == 6 and not any(set(name) & set("./\\ ") for name in odd)
