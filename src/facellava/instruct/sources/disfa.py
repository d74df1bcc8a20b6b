"""DISFA (Mavadati et al., IEEE TAC 2013): 27 subjects, every frame of a video coded for twelve units from 0 to 5.

A unit of intensity 2 or more counts as active, as is usual for this data set; the option ``threshold`` changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from facellava import tasks
from facellava.errors import LabelUnknown, SourceLayout
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, choice, fields, reader, whole

INFO = SourceInfo(
    name="disfa",
    title="Denver Intensity of Spontaneous Facial Action (2013)",
    task="action_units",
    modality="image",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="A group leader requests it at http://mohammadmahoor.com/disfa.",
    citation="S. M. Mavadati et al., DISFA: A Spontaneous Facial Action Intensity Database, IEEE TAC 2013",
    layout="""
        Videos_LeftCamera/LeftVideoSN001_comp.avi ... (RightVideo likewise)
        ActionUnit_Labels/SN001/SN001_au1.txt ... lines: frame,intensity with frames from 1
    """,
    splits=("train", "test"),
    counts=(131_000, 130_000, 123_000),
    expected={"all": 130_788},
    tolerance=0.001,
    options={
        "threshold": "intensity from which a unit is active, 1 to 5; default 2",
        "units": "disfa: the eight of the benchmark (default), or all: the twelve coded ones",
        "camera": "Left (default) or Right",
        "every": "take every n-th frame; default 1",
        "fold": "0: everything is train (default). 1 to 3: the subjects of that fold are the test split. There is no "
        "official split; subjects are dealt to three folds in order, as nobody publishes the lists",
    },
    resized_by=("every",),
)
CODED = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")


@reader(INFO)
def read(
    root: Path,
    split: str,
    threshold: int = 2,
    units: str = "disfa",
    camera: str = "Left",
    every: int = 1,
    fold: int = 0,
) -> Iterator[Sample]:
    """The frames of one split, each a picture of its own; a subject is a person.

    Raises:
        SourceLayout: also where a subject's files differ in their number of frames.
    """
    wanted = check_split(INFO, split)
    for name, value, known in (
        ("threshold", threshold, range(1, 6)),
        ("units", units, ("disfa", "all")),
        ("camera", camera, ("Left", "Right")),
        ("every", every, range(1, 10_000)),
        ("fold", fold, range(4)),
    ):
        choice(INFO, name, value, known)
    task = tasks.get("action_units")
    names = task.subset("disfa") if units == "disfa" else task.sort(CODED)
    labels = require(INFO, root, "ActionUnit_Labels")
    videos = require(INFO, root, f"Videos_{camera}Camera")
    subjects = sorted(folder.name for folder in labels.glob("SN*") if folder.is_dir())
    if not subjects:
        require(INFO, labels, "SN001")
    for number, subject in enumerate(subjects):
        in_test = number % 3 + 1 == fold
        if in_test != (wanted == "test"):
            continue
        video = (videos / f"{camera}Video{subject}_comp.avi").absolute()
        for index, strengths in enumerate(_frames(labels / subject, names)):
            if index % every:
                continue
            active = task.sort(name for name, value in zip(names, strengths, strict=True) if value >= threshold)
            meta = {"native": " ".join(f"{n}={v}" for n, v in zip(names, strengths, strict=True) if v)}
            yield Sample(
                id=f"disfa/{subject}/{index:05}",
                source="disfa",
                split=wanted,
                task="action_units",
                media=video,
                kind="image",
                label=active,
                known=names,
                subject=subject,
                frame=index,
                meta=meta,
            )


def _frames(folder: Path, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Intensities of every frame in order."""
    columns = []
    for name in names:
        path = require(INFO, folder, f"{folder.name}_{name.lower()}.txt")
        values = []
        for line in fields(path, ["frame", "intensity"], delimiter=","):
            if whole(line, "frame") != len(values) + 1:
                raise line.wrong(f"expected frame {len(values) + 1}")
            value = whole(line, "intensity")
            if not 0 <= value <= 5:
                raise LabelUnknown(f"{path}, line {line.number}: intensity is {value}; documented are 0 to 5")
            values.append(value)
        columns.append(values)
    if len({len(column) for column in columns}) > 1:
        raise SourceLayout(f"{folder}: the files of the units differ in their number of frames")
    return zip(*columns, strict=True)
