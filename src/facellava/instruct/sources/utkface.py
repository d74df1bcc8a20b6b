"""UTKFace (Zhang et al., CVPR 2017): ages from 0 to 116 in the file names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facellava.errors import LabelUnknown
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import IMAGE_ENDINGS, check_split, fold_of

INFO = SourceInfo(
    name="utkface",
    title="UTKFace (2017)",
    task="age",
    modality="image",
    licence="non-commercial research",
    redistribute=False,
    obtain="Download it from https://susanqq.github.io/UTKFace.",
    citation="Z. Zhang et al., Age Progression/Regression by Conditional Adversarial Autoencoder, CVPR 2017",
    layout="""
        UTKFace/25_0_1_20170116.jpg ... (aligned) or part1/, part2/, part3/ (in the wild); age_gender_race_date
    """,
    splits=("train", "test"),
    counts=(24_100, 23_500, 22_800),
    expected={"all": 23_708},
)
FOLDERS = ("UTKFace", "part1", "part2", "part3")
NAME = re.compile(r"(\d{1,3})_(?:([01])_(?:([0-4])_)?)?_?(\d+)(?:\D.*)?")
"""A few official names lack the race, or gender and race; their ages can be read all the same."""


def read(root: Path, split: str) -> Iterator[Sample]:
    """The pictures of one split.

    The authors publish no split. A fifth of the pictures, by a hash of the file name, is the test set here (the paper's has
    about 4,000 of 23,700); people are not named, so both splits may show the same person.
    """
    wanted = check_split(INFO, split)
    require(INFO, root, *FOLDERS)
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            continue
        for file in sorted((root / folder).iterdir()):
            if file.suffix.lower() not in IMAGE_ENDINGS:
                continue
            if (fold_of(file.name, 6) == 1) == (wanted == "test"):
                yield _sample(file, folder, wanted)


def _sample(file: Path, folder: str, split: str) -> Sample:
    found = NAME.fullmatch(file.name)
    if found is None or int(found.group(1)) > 116:
        raise LabelUnknown(f"{file}: expected age_gender_race_date with an age from 0 to 116")
    age, gender, race, _ = found.groups()
    meta = {"gender": gender, "race": race}
    stem = file.name.partition(".")[0]
    return Sample(
        id=f"utkface/{folder}/{stem}",
        source="utkface",
        split="test" if split == "test" else "train",
        task="age",
        media=file.absolute(),
        kind="image",
        label=int(age),
        meta={key: value for key, value in meta.items() if value is not None},
    )
