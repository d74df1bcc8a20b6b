"""AffectNet (Mollahosseini et al., IEEE TAC 2019): the manually annotated part in its first release's layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, choice, mapped, reader, rows, whole

INFO = SourceInfo(
    name="affectnet",
    title="AffectNet, manually annotated (2019)",
    task="expression",
    modality="image",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="A group leader requests it at http://mohammadmahoor.com/affectnet.",
    citation="A. Mollahosseini et al., AffectNet: A Database for Facial Expression, Valence, and Arousal, "
    "IEEE TAC 2019",
    layout="""
        Manually_Annotated_file_lists/training.csv and validation.csv with subDirectory_filePath,face_x,face_y,
            face_width,face_height,facial_landmarks,expression,valence,arousal
        Manually_Annotated_Images/1/abc.jpg ...
    """,
    splits=("train", "val"),
    counts=(287_000, 280_000, 260_000),
    expected={"train": 283_901, "val": 3_500},
    options={
        "task": "expression (default), or action_units: the same pictures without labels, to be named by the "
        "annotator, as the paper does for its zero-shot setting of action units"
    },
)
LABELS: dict[str, str | None] = {
    "0": "neutral",
    "1": "happiness",
    "2": "sadness",
    "3": "surprise",
    "4": "fear",
    "5": "disgust",
    "6": "anger",
    "7": None,  # contempt: not among the paper's seven
    "8": None,  # none
    "9": None,  # uncertain
    "10": None,  # no face
}
FILES = {"train": "training.csv", "val": "validation.csv"}


@reader(INFO)
def read(root: Path, split: str, task: str = "expression") -> Iterator[Sample]:
    """The pictures of the seven classes of one split. The test labels were never published; there are no subjects."""
    wanted = check_split(INFO, split)
    choice(INFO, "task", task, ("expression", "action_units"))
    table = require(INFO, root, f"Manually_Annotated_file_lists/{FILES[wanted]}")
    images = require(INFO, root, "Manually_Annotated_Images")
    columns = ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression"]
    for line in rows(table, columns):
        label = mapped(line, "expression", LABELS)
        if label is None:
            continue
        x, y, width, height = (float(whole(line, name)) for name in columns[1:5])
        file = line.values["subDirectory_filePath"]
        yield Sample(
            id=f"affectnet/{file}",
            source="affectnet",
            split=wanted,
            task=task,
            media=(images / file).absolute(),
            kind="image",
            label=label if task == "expression" else None,
            box=(x, y, width, height),
            meta={"native": line.values["expression"]},
        )
