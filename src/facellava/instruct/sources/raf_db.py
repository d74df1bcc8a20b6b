"""RAF-DB (Li et al., CVPR 2017): the basic set with its official partition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.errors import LabelUnknown
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import IMAGE_ENDINGS, check_split, choice, fields, find_media, mapped, reader

INFO = SourceInfo(
    name="raf_db",
    title="Real-world Affective Faces Database, basic (2017)",
    task="expression",
    modality="image",
    licence="research only, on request",
    redistribute=False,
    obtain="Ask for the password as http://www.whdeng.cn/RAF/model1.html says.",
    citation="S. Li et al., Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition, "
    "CVPR 2017",
    layout="""
        EmoLabel/list_patition_label.txt, lines: train_00001.jpg 5 (spelled so in the release)
        Image/original/train_00001.jpg ... or Image/aligned/train_00001_aligned.jpg ...
    """,
    splits=("train", "test"),
    counts=(15_000, 15_000, 14_800),
    expected={"train": 12_271, "test": 3_068},
    options={"images": "original (default) or aligned"},
)
LABELS = {
    "1": "surprise",
    "2": "fear",
    "3": "disgust",
    "4": "happiness",
    "5": "sadness",
    "6": "anger",
    "7": "neutral",
}


@reader(INFO)
def read(root: Path, split: str, images: str = "original") -> Iterator[Sample]:
    """The pictures of one split. RAF-DB names no people."""
    wanted = check_split(INFO, split)
    choice(INFO, "images", images, ("original", "aligned"))
    table = require(INFO, root, "EmoLabel/list_patition_label.txt")
    folder = require(INFO, root, f"Image/{images}")
    for line in fields(table, ["file", "label"]):
        label, stem = mapped(line, "label", LABELS), Path(line.values["file"]).stem
        part = stem.partition("_")[0]
        if part not in INFO.splits:
            raise LabelUnknown(f"{table}, line {line.number}: {stem} begins with neither train_ nor test_")
        if part == wanted:
            name = stem if images == "original" else f"{stem}_aligned"
            media = find_media(folder, [name], IMAGE_ENDINGS).absolute()
            meta = {"native": line.values["label"]}
            yield Sample(f"raf_db/{stem}", "raf_db", wanted, "expression", media, "image", label, meta=meta)
