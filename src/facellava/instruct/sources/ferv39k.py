"""FERV39k (Wang et al., CVPR 2022): clips of 22 scenes, the setup of all scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import VIDEO_ENDINGS, check_split, fields, find_media, mapped, reader

INFO = SourceInfo(
    name="ferv39k",
    title="FERV39k, facial expression recognition in videos (2022)",
    task="expression",
    modality="video",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="Send the signed agreement of https://wangyanckxx.github.io/Proj_CVPR2022_FERV39k.html.",
    citation="Y. Wang et al., FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in Videos, "
    "CVPR 2022",
    layout="""
        4_setups/All_scenes/train_All.csv and test_All.csv, lines: Action/Happy/0267 Happy
        0_7_LabelClips/Action/Happy/0267.mp4 ... (or .avi)
    """,
    splits=("train", "test"),
    counts=(39_000, 30_700, 28_800),
    expected={"train": 31_088, "test": 7_847},
)
LABELS = {
    "Angry": "anger",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Surprise": "surprise",
}


@reader(INFO)
def read(root: Path, split: str) -> Iterator[Sample]:
    """The clips of one split of the all-scenes setup. FERV39k names no people."""
    wanted = check_split(INFO, split)
    table = require(INFO, root, f"4_setups/All_scenes/{wanted}_All.csv")
    clips = require(INFO, root, "0_7_LabelClips")
    for line in fields(table, ["file", "label"]):
        label, file = mapped(line, "label", LABELS), Path(line.values["file"])
        name = file.with_suffix("").as_posix()
        media = find_media(clips, [name], VIDEO_ENDINGS).absolute()
        meta = {"native": line.values["label"], "scene": file.parts[0]}
        yield Sample(f"ferv39k/{name}", "ferv39k", wanted, "expression", media, "video", label, meta=meta)
