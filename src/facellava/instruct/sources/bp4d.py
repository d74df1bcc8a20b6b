"""BP4D-Spontaneous (Zhang et al., IVC 2014): 41 subjects in eight tasks, frames coded for the occurrence of units."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from facellava import tasks
from facellava.errors import LabelUnknown, SourceLayout
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import IMAGE_ENDINGS, check_split, choice, find_media, is_text, reader

INFO = SourceInfo(
    name="bp4d",
    title="BP4D-Spontaneous (2014)",
    task="action_units",
    modality="image",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="See http://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html.",
    citation="X. Zhang et al., BP4D-Spontaneous: A high-resolution spontaneous 3D dynamic facial expression database, "
    "IVC 2014",
    layout="""
        AUCoding/AU_OCC/F001_T1.csv ... first row: 0 and the units' numbers; first column: frame; 1 active, 0 not,
            9 unknown
        2D+3D/F001/T1/0001.jpg ... (or Sequences(2D+3D)/...; numbers have three or four digits)
    """,
    splits=("train", "test"),
    counts=(150_000, 146_000, 128_000),
    expected={"all": 146_847},
    tolerance=0.01,
    options={
        "every": "take every n-th coded frame; default 1",
        "fold": "0: everything is train (default). 1 to 3: the subjects of that fold are the test split; there is no "
        "official one, subjects are dealt to three folds in order",
    },
    resized_by=("every",),
)


@reader(INFO)
def read(root: Path, split: str, every: int = 1, fold: int = 0) -> Iterator[Sample]:
    """The coded frames of one split; the twelve units of the benchmark, without those that are coded unknown (9).

    A frame in which all twelve are unknown is left out.
    """
    wanted = check_split(INFO, split)
    choice(INFO, "every", every, range(1, 10_000))
    choice(INFO, "fold", fold, range(4))
    coding = require(INFO, root, "AUCoding/AU_OCC")
    images = require(INFO, root, "2D+3D", "Sequences(2D+3D)")
    tables = sorted(coding.glob("*_T*.csv"))
    if not tables:
        require(INFO, coding, "F001_T1.csv")
    subjects = sorted({path.stem.split("_")[0] for path in tables})
    for path in tables:
        subject, _, session = path.stem.partition("_")
        if (subjects.index(subject) % 3 + 1 == fold) == (wanted == "test"):
            yield from _table(path, subject, images / subject / session, wanted, every)


def _table(path: Path, subject: str, images: Path, split: str, every: int) -> Iterator[Sample]:
    task = tasks.get("action_units")
    wanted = task.subset("bp4d")
    with is_text(path), path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(file)
        header = next(table, [])
        places = {f"AU{name.strip()}": n for n, name in enumerate(header) if n}
        if lacking := [name for name in wanted if name not in places]:
            raise SourceLayout(f"{path}, line 1: expected the units' numbers; {lacking[0]} is missing")
        for count, row in enumerate(table):
            if count % every or not row:
                continue
            values = {name: _occurrence(path, table.line_num, row, places[name], name) for name in wanted}
            known = task.sort(name for name, value in values.items() if value != "9")
            if not known:
                continue
            frame = row[0].strip()
            stems = [frame.zfill(width) for width in (4, 3)] + [frame]
            yield Sample(
                id=f"bp4d/{path.stem}/{frame.zfill(4)}",
                source="bp4d",
                split="test" if split == "test" else "train",
                task="action_units",
                media=find_media(images, stems, IMAGE_ENDINGS).absolute(),
                kind="image",
                label=task.sort(name for name, value in values.items() if value == "1"),
                known=known,
                subject=subject,
                meta={"native": "".join(values[name] for name in wanted), "gender": subject[0]},
            )


def _occurrence(path: Path, number: int, row: list[str], place: int, name: str) -> str:
    value = row[place].strip() if place < len(row) else ""
    if value not in ("0", "1", "9"):
        raise LabelUnknown(f"{path}, line {number}: {name} is {value!r}; documented are 0, 1, 9")
    return value
