"""FakeAVCeleb (Khalid et al., NeurIPS Datasets 2021), version 1.2: videos whose face, voice or both are generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, choice, mapped, reader, rows

INFO = SourceInfo(
    name="fakeavceleb",
    title="FakeAVCeleb v1.2 (2021)",
    task="deepfake",
    modality="video",
    licence="CC BY-NC 4.0, on request",
    redistribute=False,
    obtain="Fill in the form of https://github.com/DASH-Lab/FakeAVCeleb.",
    citation="H. Khalid et al., FakeAVCeleb: A Novel Audio-Video Multimodal Deepfake Dataset, NeurIPS Datasets 2021",
    layout="""
        meta_data.csv with source,target1,target2,method,category,type,race,gender,path and a column without a name:
            path is the file, the last column its folder, FakeAVCeleb/RealVideo-RealAudio/African/men/id00076
        RealVideo-RealAudio/African/men/id00076/00109.mp4 ... and RealVideo-FakeAudio, FakeVideo-RealAudio,
            FakeVideo-FakeAudio
    """,
    splits=("train",),
    counts=(20_000, 19_500, 19_300),
    expected={"train": 21_544},
    tolerance=0.005,
    options={
        "generated_voice": "videos with a genuine face and a generated voice: real (default, because the face is all "
        "that is looked at) or skip"
    },
    resized_by=("generated_voice",),
)
LABELS = {
    "RealVideo-RealAudio": "real",
    "RealVideo-FakeAudio": "real",
    "FakeVideo-RealAudio": "fake",
    "FakeVideo-FakeAudio": "fake",
}


@reader(INFO)
def read(root: Path, split: str, generated_voice: str = "real") -> Iterator[Sample]:
    """All videos: there is no official split. A subject is the person whose video it was made from."""
    wanted = check_split(INFO, split)
    choice(INFO, "generated_voice", generated_voice, ("real", "skip"))
    table = require(INFO, root, "meta_data.csv")
    for line in rows(table, ["source", "method", "type", "race", "gender", "path"]):
        label, about = mapped(line, "type", LABELS), line.values
        if about["type"] == "RealVideo-FakeAudio" and generated_voice == "skip":
            continue
        relative = _folder(about) / about["path"]
        meta = {"native": about["type"], "method": about["method"], "race": about["race"], "gender": about["gender"]}
        yield Sample(
            id=f"fakeavceleb/{relative.with_suffix('').as_posix()}",
            source="fakeavceleb",
            split=wanted,
            task="deepfake",
            media=(root / relative).absolute(),
            kind="video",
            label=label,
            subject=about["source"],
            meta=meta,
        )


def _folder(about: Mapping[str, str]) -> Path:
    """Below the root. Copies whose table lost the column without a name have the same folders."""
    if folder := about.get(""):
        return Path(folder.removeprefix("FakeAVCeleb/"))
    return Path(about["type"], about["race"], about["gender"], about["source"])
