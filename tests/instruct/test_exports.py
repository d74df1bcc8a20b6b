"""Exports are what their readers expect, keep pixels back where they must, and LLaVA JSON comes back in."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rows_world import make_row, stored

from facellava.errors import FileMissing, UsageError
from facellava.face import read_media
from facellava.instruct.dataset import read_dataset, write_dataset
from facellava.instruct.export import FORMATS, export
from facellava.instruct.importer import import_llava
from facellava.instruct.rows import Row

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OPEN, CLOSED = "dfew", "celeba"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five rows: a picture asked about twice, a video, a test row, and one whose pixels stay at home."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = [
        make_row("a@age", "age", 33, clip="aa01", description="33 years old. Smooth skin."),
        make_row("a@expression", clip="aa01", media=Path("/x/dfew/a.png")),
        make_row("b", kind="video", clip="bb02"),
        make_row("t", "deepfake", "fake", clip="cc03", subset="test", description="Fake. The edge is blurred."),
        make_row("k", "attributes", ("Young",), source=CLOSED, clip="dd04", description="Young."),
    ]
    store = stored(rows, folder / "clips")
    write_dataset(folder, rows, store, pixels=lambda sample: sample.source == OPEN)
    return folder


def entries(folder: Path) -> dict[str, list[dict]]:
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("train", "test")}


def test_llava_is_what_the_release_trains_from(dataset: Path, tmp_path: Path) -> None:
    assert export(dataset, "llava", tmp_path / "out") == 5
    found = entries(tmp_path / "out")
    assert [e["id"] for e in found["train"]] == ["celeba/k", "dfew/a@age", "dfew/a@expression", "dfew/b"]
    assert [e["id"] for e in found["test"]] == ["dfew/t"]
    by_id = {e["id"]: e for part in found.values() for e in part}
    age, video = by_id["dfew/a@age"], by_id["dfew/b"]
    assert age["conversations"] == [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "33 years old. Smooth skin."},
    ]
    assert video["conversations"][0]["value"].startswith("<video>\n")
    assert "image" in age and "video" not in age and "video" in video and "image" not in video
    with Image.open(tmp_path / "out" / age["image"]) as crop:
        assert crop.size == (256, 256)
    assert len(read_media(tmp_path / "out" / video["video"]).frames) == 12
    for entry, shape in ((age, (68, 2)), (video, (12, 68, 2))):
        points = np.load(tmp_path / "out" / entry["landmarks"])
        row = next(row for row in read_dataset(dataset) if row.id == entry["id"])
        assert points.shape == shape and row.landmarks is not None
        assert points.reshape(-1, 68, 2) == pytest.approx(row.landmarks * 256), "pixels of the crop"
    assert by_id["dfew/a@expression"]["image"] == age["image"], "one medium, one file"


@pytest.mark.parametrize("form", FORMATS)
def test_pixels_stay_where_the_licence_keeps_them(dataset: Path, tmp_path: Path, form: str) -> None:
    export(dataset, form, tmp_path / "out")
    media = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".jpg", ".png", ".mp4")]
    if form == "webdataset":
        names = []
        for path in (tmp_path / "out").glob("*.tar"):
            with tarfile.open(path) as tar:
                names += tar.getnames()
        assert not media and sum(name.endswith((".jpg", ".mp4")) for name in names) == 4
        assert not [n for n in names if n.startswith("celeba") and n.endswith((".jpg", ".mp4"))]
        return
    assert {p.stem for p in media} == {"aa01", "bb02", "cc03"}
    closed = next(e for e in entries(tmp_path / "out")["train"] if e["id"] == "celeba/k")
    assert closed["pixels"] is False
    named = closed["image"] if form == "llava" else closed["images"][0]
    assert named == "celeba/k.png" and not (tmp_path / "out" / named).exists()
    assert (tmp_path / "out" / closed["landmarks"]).is_file()


def test_sharegpt_columns(dataset: Path, tmp_path: Path) -> None:
    export(dataset, "sharegpt", tmp_path / "out")
    video = next(e for e in entries(tmp_path / "out")["train"] if e["id"] == "dfew/b")
    assert video["videos"] == [next((tmp_path / "out/videos").rglob("*.mp4")).relative_to(tmp_path / "out").as_posix()]
    assert [turn["from"] for turn in video["conversations"]] == ["human", "gpt"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_is_read_by_webdataset(dataset: Path, tmp_path: Path) -> None:
    import webdataset

    export(dataset, "webdataset", tmp_path / "out")
    shards = sorted(str(path) for path in (tmp_path / "out").glob("train-*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode())
    assert [sample["json"]["id"] for sample in found] == ["celeba/k", "dfew/a@age", "dfew/a@expression", "dfew/b"]
    video = found[3]
    assert video["npy"].shape == (12, 68, 2) and video["npy"].max() <= 1.1
    assert video["mp4"][4:8] == b"ftyp" and "jpg" in found[1] and "jpg" not in found[0]
    assert video["json"]["messages"][0] == {"role": "user", "content": "What is it?"}


def test_several_questions_about_one_face_are_one_conversation(dataset: Path, tmp_path: Path) -> None:
    assert export(dataset, "llava", tmp_path / "one", multi_turn=True) == 4
    both = next(e for e in entries(tmp_path / "one")["train"] if len(e["conversations"]) == 4)
    assert both["id"] == "dfew/a@age+1"
    values = [turn["value"] for turn in both["conversations"]]
    assert values[0] == "<image>\nWhat is it?" and values[2] == "What is it?", "the face is shown once"
    assert {values[1], values[3]} == {
        "33 years old. Smooth skin.",
        "The displayed expression is happiness. The lip corners are raised.",
    }
    orders = set()
    for seed in range(8):
        export(dataset, "llava", tmp_path / "seeded", multi_turn=True, seed=seed)
        text = (tmp_path / "seeded/train.json").read_text()
        orders.add(next(e["conversations"][1]["value"] for e in json.loads(text) if len(e["conversations"]) == 4))
    assert len(orders) == 2, "the order of turns varies with the seed"


@pytest.mark.parametrize("form", FORMATS)
def test_same_bytes_again_and_nothing_left_of_before(dataset: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    export(dataset, form, out)
    first = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    (out / "stray.txt").write_text("of an older export")
    export(dataset, form, out)
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == first
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def comparable(row: Row) -> tuple:
    return (
        *(row.id, row.source, row.split, row.subset, row.subject, row.task, row.kind, row.label, row.known),
        *(row.question, row.description, row.annotation, row.rating, row.clip, row.sha256, row.duration),
        *(row.data, row.media_type, row.licence, row.window, row.frame, dict(row.meta or {})),
        None if row.landmarks is None else np.round(row.landmarks, 5).tolist(),
        None if row.times is None else row.times.tolist(),
    )


@pytest.mark.parametrize("multi_turn", [False, True])
def test_what_goes_out_as_llava_comes_back_in(dataset: Path, tmp_path: Path, multi_turn: bool) -> None:
    export(dataset, "llava", tmp_path / "out", multi_turn=multi_turn)
    before = {row.id: row for row in read_dataset(dataset)}
    for name, count in (("train", 4), ("test", 1)):
        assert import_llava(tmp_path / "out" / f"{name}.json", tmp_path / name) == count
        for row in read_dataset(tmp_path / name):
            assert comparable(row) == comparable(before.pop(row.id))
        assert (tmp_path / name / "rejections.jsonl").read_text() == ""
    assert not before


def test_foreign_llava_json(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "face.png")
    (tmp_path / "clip.mp4").write_bytes(b"any bytes: nothing of it is taken over but its digest")
    good = {"id": "7", "image": "face.png", "conversations": talk("<image>\nWho?", "A face.", "And?", "Calm.")}
    odd: list[dict] = [
        {"id": "no-media", "conversations": talk("Q", "A")},
        {"id": "half", "image": "face.png", "conversations": talk("Q", "A")[:1]},
        {"id": "gone", "image": "gone.png", "conversations": talk("Q", "A")},
        {"id": "swapped", "image": "face.png", "conversations": talk("Q", "A")[::-1]},
        {"id": "silent", "image": "face.png", "conversations": [{"from": "human"}, {"from": "gpt", "value": "A"}]},
        {"id": "odd", "image": "face.png", "conversations": talk("Q", "A"), "rows": [{"rating": {"beauty": 5}}]},
        {"id": "7", "video": "clip.mp4", "conversations": talk("<video>\nQ", "A"), "rows": "none"},
    ]
    (tmp_path / "in.json").write_text(json.dumps([good, *odd]))
    assert import_llava(tmp_path / "in.json", tmp_path / "out") == 3
    rows = list(read_dataset(tmp_path / "out"))
    assert len({row.id for row in rows}) == 3, "ids that repeat stay apart"
    assert {(row.question, row.description) for row in rows} == {("Who?", "A face."), ("And?", "Calm."), ("Q", "A")}
    assert {row.source for row in rows} == {"llava"} and all(row.data is None for row in rows)
    ledger = [json.loads(line) for line in (tmp_path / "out/rejections.jsonl").read_text().splitlines()]
    assert Counter(entry["code"] for entry in ledger) == {
        "no_media": 1,
        "bad_conversation": 3,
        "file_missing": 1,
        "bad_facts": 1,
    }


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def test_mistakes_are_told(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="llava, sharegpt, webdataset"):
        export(dataset, "jsonl", tmp_path / "out")
    with pytest.raises(FileMissing):
        export(tmp_path, "llava", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="name a folder"):
        export(dataset, "llava", tmp_path / "file")
    for text in ("{", "{}", "[1]"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError, match=r"bad\.json"):
            import_llava(tmp_path / "bad.json", tmp_path / "in")
    with pytest.raises(FileMissing):
        import_llava(tmp_path / "none.json", tmp_path / "in")


def test_tar_bytes_hold_no_clock(dataset: Path, tmp_path: Path) -> None:
    export(dataset, "webdataset", tmp_path / "out")
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "out/test-000000.tar").read_bytes())) as tar:
        assert {member.mtime for member in tar.getmembers()} == {0}
