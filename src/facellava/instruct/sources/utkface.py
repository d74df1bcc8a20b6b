"""UTKFace (Zhang et al., CVPR 2017): ages from 0 to 116 in the file names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from facellava.errors import LabelUnknown
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import IMAGE_ENDINGS, check_split, choice, fold_of, reader

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
        UTKFace/25_0_1_20170116174525125.jpg.chip.jpg ... (aligned), named age_gender_race_date
        or, with images = "wild", part1/, part2/, part3/ with 25_0_1_20170116174525125.jpg ...
    """,
    splits=("train", "test"),
    counts=(24_100, 23_500, 22_800),
    expected={"all": 23_708},
    tolerance=0.001,
    options={"images": "aligned (default): UTKFace/, or wild: part1/ to part3/, as found"},
    resized_by=("images",),
)
FOLDERS = {"aligned": ("UTKFace",), "wild": ("part1", "part2", "part3")}
NAME = re.compile(r"(\d{1,3})_(?:([01])_(?:([0-4])_)?)?_?(\d+)(?:\D.*)?")
"""A few official names lack the race, or gender and race; their ages can be read all the same."""


@reader(INFO)
def read(root: Path, split: str, images: str = "aligned") -> Iterator[Sample]:
    """The pictures of one split; both forms of a face are in the same.

    The authors publish no split. A sixth of the pictures, by a hash of the name, is the test set here (the paper's has
    about 4,000 of 23,700); people are not named, so both splits may show the same person.
    """
    wanted = check_split(INFO, split)
    choice(INFO, "images", images, tuple(FOLDERS))
    require(INFO, root, *FOLDERS[images])
    for folder in FOLDERS[images]:
        for file in sorted((root / folder).glob("*")):
            if file.suffix.lower() not in IMAGE_ENDINGS:
                continue
            if (fold_of(_stem(file), 6) == 1) == (wanted == "test"):
                yield _sample(file, folder, wanted)


def _stem(file: Path) -> str:
    """The name both forms of a face share: one release has a space before the ending."""
    return file.name.partition(".")[0].strip()


def _sample(file: Path, folder: str, split: str) -> Sample:
    found = NAME.fullmatch(file.name)
    if found is None or int(found.group(1)) > 116:
        raise LabelUnknown(f"{file}: expected a name age_gender_race_date; documented are ages from 0 to 116")
    age, gender, race, _ = found.groups()
    meta = {"gender": gender, "race": race}
    return Sample(
        id=f"utkface/{folder}/{_stem(file)}",
        source="utkface",
        split="test" if split == "test" else "train",
        task="age",
        media=file.absolute(),
        kind="image",
        label=int(age),
        meta={key: value for key, value in meta.items() if value is not None},
    )
