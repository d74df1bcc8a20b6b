"""Real-face controls for deepfake detection: clips of DFEW, MAFW and FERV39k, labelled real (footnote of Table 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from facellava.errors import SourceLayout
from facellava.types import Sample

from . import dfew, ferv39k, mafw
from .base import SourceInfo
from .fields import check_split, reader

READERS = {"dfew": dfew, "mafw": mafw, "ferv39k": ferv39k}

INFO = SourceInfo(
    name="real_faces",
    title="Real faces of DFEW, MAFW and FERV39k",
    task="deepfake",
    modality="video",
    licence="as its three parts: research only",
    redistribute=False,
    obtain="Obtain DFEW, MAFW and FERV39k; those that you have are used.",
    citation="as its three parts",
    layout="""
        dfew/, mafw/, ferv39k/ below the root, each in its official layout (at least one of them)
    """,
    splits=("train", "test"),
    counts=(60_700, 44_300, 43_800),
    options={name: f"folder of {name}, where it does not lie below the root" for name in READERS},
)


@reader(INFO, elsewhere=True)
def read(root: Path, split: str, **folders: str) -> Iterator[Sample]:
    """The clips of one split of all parts that are there, with the label ``real``.

    MAFW's clips of the four classes that the paper leaves out are left out here too.
    """
    wanted = check_split(INFO, split)
    places = {name: Path(folders[name]).expanduser() if name in folders else root / name for name in READERS}
    found = {name: place for name, place in places.items() if name in folders or place.is_dir()}
    if not found:
        raise SourceLayout(f"real_faces: {root} holds none of dfew, mafw, ferv39k: put at least one there, or name it")
    for name, place in found.items():
        for sample in READERS[name].read(place, wanted):
            meta = {"native": f"{name} {sample.label}"}
            yield dataclasses.replace(
                sample, id=f"real_faces/{sample.id}", source="real_faces", task="deepfake", label="real", meta=meta
            )
