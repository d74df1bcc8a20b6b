"""CREMA-D (Cao et al., IEEE TAC 2014): 91 actors, twelve sentences, six expressions, in the file names' codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.errors import LabelUnknown
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import VIDEO_ENDINGS, Line, check_split, choice, reader, rows

INFO = SourceInfo(
    name="crema_d",
    title="Crowd-sourced Emotional Multimodal Actors Dataset (2014)",
    task="expression",
    modality="video",
    licence="ODbL-1.0 (database), DbCL-1.0 (contents)",
    redistribute=False,
    obtain="Clone https://github.com/CheyneyComputerScience/CREMA-D with its large files.",
    citation="H. Cao et al., CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset, IEEE TAC 2014",
    layout="""
        VideoFlash/1001_DFA_ANG_XX.flv ...
        VideoDemographics.csv with ActorID,Age,Sex,Race,Ethnicity
    """,
    splits=("train", "test"),
    counts=(7_400, 7_400, 6_800),
    expected={"all": 7_442},
    options={
        "fold": "0: everything is train (default). 1 to 5: the actors of that fold are the test split. CREMA-D has no "
        "official split; the paper validates over five folds without common actors, which it does not list: actors are "
        "dealt to the folds in the order of their numbers"
    },
)
LABELS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
"""The third part of a file name. There is no surprise."""


@reader(INFO)
def read(root: Path, split: str, fold: int = 0) -> Iterator[Sample]:
    """The clips of one split; a subject is an actor."""
    wanted = check_split(INFO, split)
    choice(INFO, "fold", fold, range(6))
    table = require(INFO, root, "VideoDemographics.csv")
    clips = require(INFO, root, "VideoFlash")
    actors = {line.values["ActorID"]: line for line in rows(table, ["ActorID", "Age", "Sex", "Race", "Ethnicity"])}
    folds = {actor: place % 5 + 1 for place, actor in enumerate(sorted(actors))}
    for file in sorted(clips.iterdir()):
        if file.suffix.lower() not in VIDEO_ENDINGS:
            continue
        actor, label, parts = _code(file, actors)
        if (folds[actor] == fold) != (wanted == "test"):
            continue
        about = actors[actor].values
        meta = {
            "native": parts[2],
            "sentence": parts[1],
            "intensity": parts[3],
            "age": about["Age"],
            "gender": about["Sex"],
            "race": about["Race"],
            "fold": folds[actor],
        }
        media = file.absolute()
        yield Sample(
            f"crema_d/{file.stem}", "crema_d", wanted, "expression", media, "video", label, subject=actor, meta=meta
        )


def _code(file: Path, actors: dict[str, Line]) -> tuple[str, str, list[str]]:
    parts = file.stem.split("_")
    if len(parts) != 4 or parts[2] not in LABELS or parts[0] not in actors:
        raise LabelUnknown(
            f"{file}: expected a name ACTOR_SENTENCE_EMOTION_LEVEL with an actor of VideoDemographics.csv; documented "
            f"emotions are {', '.join(LABELS)}"
        )
    return parts[0], LABELS[parts[2]], parts
