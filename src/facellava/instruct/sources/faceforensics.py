"""FaceForensics++ (Rössler et al., ICCV 2019): 1,000 videos and four manipulations of each, in one compression."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from facellava.errors import SourceLayout, UsageError
from facellava.files import from_json
from facellava.types import Sample

from .base import SourceInfo, chunks, require
from .fields import Split, check_split, choice, is_text, reader

MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")

INFO = SourceInfo(
    name="faceforensics",
    title="FaceForensics++ (2019)",
    task="deepfake",
    modality="video",
    licence="non-commercial research, terms of use",
    redistribute=False,
    obtain="Fill in the form of https://github.com/ondyari/FaceForensics, whose folder splits belongs to the data.",
    citation="A. Rössler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019",
    layout="""
        splits/train.json, val.json, test.json: lists of pairs such as ["033", "097"]
        original_sequences/youtube/c40/videos/033.mp4 ...
        manipulated_sequences/Deepfakes/c40/videos/033_097.mp4 ... and Face2Face, FaceSwap, NeuralTextures
    """,
    splits=("train", "val", "test"),
    counts=(30_000, 25_900, 24_700),
    options={
        "compression": "c40 (default, as in the paper), c23 or raw",
        "chunk_seconds": "videos are cut into pieces of this length; default 3, as in the paper; 0 keeps them whole",
        "manipulations": f"list out of {', '.join(MANIPULATIONS)}; default all",
    },
)


@reader(INFO)
def read(
    root: Path,
    split: str,
    compression: str = "c40",
    chunk_seconds: float = 3.0,
    manipulations: list[str] | None = None,
) -> Iterator[Sample]:
    """The pieces of one split's videos: for each pair both originals and both directions of every manipulation.

    A subject is a pair, whose two people appear in one split only.
    """
    wanted = check_split(INFO, split)
    choice(INFO, "compression", compression, ("raw", "c23", "c40"))
    if not isinstance(chunk_seconds, (int, float)) or chunk_seconds < 0:
        raise UsageError(f"{INFO.name}: option chunk_seconds is {chunk_seconds!r}, but must be seconds, or 0")
    if isinstance(manipulations, str):
        raise UsageError(f"{INFO.name}: option manipulations is {manipulations!r}, but must be a list")
    kinds = [choice(INFO, "manipulations", name, MANIPULATIONS) for name in manipulations or MANIPULATIONS]
    pairs = _pairs(require(INFO, root, f"splits/{wanted}.json"))
    originals = require(INFO, root, f"original_sequences/youtube/{compression}/videos")
    folders = {kind: require(INFO, root, f"manipulated_sequences/{kind}/{compression}/videos") for kind in kinds}
    for one, other in pairs:
        for name in (one, other):
            yield from _pieces(originals / f"{name}.mp4", wanted, "original", (one, other), chunk_seconds)
        for kind, folder in folders.items():
            for name in (f"{one}_{other}", f"{other}_{one}"):
                yield from _pieces(folder / f"{name}.mp4", wanted, kind, (one, other), chunk_seconds)


def _pairs(path: Path) -> list[tuple[str, str]]:
    try:
        with is_text(path):
            found = from_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SourceLayout(f"{path}, line {error.lineno}: expected a JSON list ({error.msg})") from error
    pairs = []
    for number, pair in enumerate(found if isinstance(found, list) else [found]):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise SourceLayout(f'{path}, entry {number}: expected a pair such as ["033", "097"], found {pair!r:.60}')
        pairs.append((pair[0], pair[1]))
    return pairs


def _pieces(file: Path, split: Split, kind: str, pair: tuple[str, str], seconds: float) -> Iterator[Sample]:
    sample = Sample(
        id=f"faceforensics/{kind}/{file.stem}",
        source="faceforensics",
        split=split,
        task="deepfake",
        media=file.absolute(),
        kind="video",
        label="real" if kind == "original" else "fake",
        subject="-".join(sorted(pair)),
        meta={"native": kind, "video": file.stem},
    )
    yield from chunks(sample, seconds) if seconds else (sample,)
