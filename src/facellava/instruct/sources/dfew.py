"""DFEW (Jiang et al., ACM MM 2020): clips from films, the single-labelled set with its five official folds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, choice, find_media, mapped, reader, rows, whole

INFO = SourceInfo(
    name="dfew",
    title="Dynamic Facial Expression in-the-Wild (2020)",
    task="expression",
    modality="video",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="Send the signed agreement of https://dfew-dataset.github.io.",
    citation="X. Jiang et al., DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the Wild, "
    "ACM MM 2020",
    layout="""
        EmoLabel_DataSplit/train(single-labeled)/set_1.csv ... set_5.csv with video_name,label
        EmoLabel_DataSplit/test(single-labeled)/set_1.csv ... set_5.csv
        Clip/original/1.mp4 ... (or Clip/original/part_1/1.mp4 ..., as the archives unpack)
    """,
    splits=("train", "test"),
    counts=(11_700, 6_700, 6_200),
    expected={"all": 11_697},
    options={"fold": "official fold, 1 to 5; default 1"},
)
CLIPS_OF_A_PART = 1600
LABELS = {
    "1": "happiness",
    "2": "sadness",
    "3": "neutral",
    "4": "anger",
    "5": "surprise",
    "6": "disgust",
    "7": "fear",
}


@reader(INFO)
def read(root: Path, split: str, fold: int = 1) -> Iterator[Sample]:
    """The clips of one split of one fold. DFEW names no people, so samples have no subject."""
    wanted = check_split(INFO, split)
    choice(INFO, "fold", fold, (1, 2, 3, 4, 5))
    table = require(INFO, root, f"EmoLabel_DataSplit/{wanted}(single-labeled)/set_{fold}.csv")
    clips = require(INFO, root, "Clip/original")
    for line in rows(table, ["video_name", "label"]):
        number, label = whole(line, "video_name"), mapped(line, "label", LABELS)
        part = f"part_{(number - 1) // CLIPS_OF_A_PART + 1}"
        media = find_media(clips, [f"{number}", f"{part}/{number}", f"{number:05}"], (".mp4",)).absolute()
        meta = {"native": line.values["label"], "fold": fold}
        yield Sample(f"dfew/{number:05}", "dfew", wanted, "expression", media, "video", label, meta=meta)
