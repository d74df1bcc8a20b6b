"""MORPH II (Ricanek and Tesafaye, FG 2006), the non-commercial release of 2008: mugshots with ages from 16 to 77."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.errors import LabelUnknown
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, fold_of, reader, rows, whole

INFO = SourceInfo(
    name="morph2",
    title="MORPH Album 2 (2008)",
    task="age",
    modality="image",
    licence="research licence, bought",
    redistribute=False,
    obtain="Apply at https://uncw.edu/myuncw/research/innovation-commercialization/technology-portfolio/morph.",
    citation="K. Ricanek and T. Tesafaye, MORPH: A Longitudinal Image Database of Normal Adult Age-Progression, "
    "FG 2006",
    layout="""
        morph_2008_nonCommercial.csv with id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo
        Album2/009055_1M54.JPG ... as the column photo says
    """,
    splits=("train", "test"),
    counts=(50_000, 49_900, 49_000),
    expected={"all": 55_134},
    tolerance=0.001,
)


@reader(INFO)
def read(root: Path, split: str) -> Iterator[Sample]:
    """The pictures of one split; a subject is a person.

    The release has no split. One person in ten, by a hash of the number, is in the test set here, which comes to about
    the paper's 5,000 pictures and keeps people apart.
    """
    wanted = check_split(INFO, split)
    table = require(INFO, root, "morph_2008_nonCommercial.csv")
    for line in rows(table, ["id_num", "age", "photo", "gender", "race"]):
        person, photo, age = line.values["id_num"], line.values["photo"], whole(line, "age")
        if not 0 < age < 117:
            raise LabelUnknown(f"{table}, line {line.number}: age is {age}; documented are 16 to 77 years")
        if (fold_of(person, 10) == 1) == (wanted == "test"):
            meta = {"gender": line.values["gender"], "race": line.values["race"]}
            media = (root / photo).absolute()
            name = Path(photo).stem
            yield Sample(f"morph2/{name}", "morph2", wanted, "age", media, "image", age, subject=person, meta=meta)
