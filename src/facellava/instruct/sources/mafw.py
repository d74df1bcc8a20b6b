"""MAFW (Liu et al., ACM MM 2022): film and television clips in eleven classes, of which the paper keeps seven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import VIDEO_ENDINGS, check_split, choice, fields, find_media, mapped, reader

INFO = SourceInfo(
    name="mafw",
    title="Multi-modal Affective database for dynamic facial expressions in the Wild (2022)",
    task="expression",
    modality="video",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="Send the signed agreement of https://mafw-database.github.io/MAFW.",
    citation="Y. Liu et al., MAFW: A Large-scale, Multi-modal, Compound Affective Database, ACM MM 2022",
    layout="""
        Train & Test Set/single/no_caption/set_1/train.txt and test.txt ... set_5, lines: 00001.mp4 sadness
        data/clips/00001.mp4 ... (or clips/00001.mp4)
    """,
    splits=("train", "test"),
    counts=(10_000, 6_900, 6_600),
    options={"fold": "official fold, 1 to 5; default 1"},
)
LEFT_OUT = ("contempt", "anxiety", "helplessness", "disappointment")
"""Classes of MAFW that appendix D.1 excludes for their small number."""
LABELS: dict[str, str | None] = {
    **{name: name for name in ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")},
    **dict.fromkeys(LEFT_OUT),
}


@reader(INFO)
def read(root: Path, split: str, fold: int = 1) -> Iterator[Sample]:
    """The clips of the seven kept classes of one split of one fold. MAFW names no people."""
    wanted = check_split(INFO, split)
    choice(INFO, "fold", fold, (1, 2, 3, 4, 5))
    table = require(INFO, root, f"Train & Test Set/single/no_caption/set_{fold}/{wanted}.txt")
    clips = require(INFO, root, "data/clips", "clips")
    for line in fields(table, ["file", "label"]):
        label = mapped(line, "label", LABELS)
        if label is None:
            continue
        stem = Path(line.values["file"]).stem
        media = find_media(clips, [stem], VIDEO_ENDINGS).absolute()
        meta = {"native": line.values["label"], "fold": fold}
        yield Sample(f"mafw/{stem}", "mafw", wanted, "expression", media, "video", label, meta=meta)
