"""CelebA (Liu et al., ICCV 2015): forty attributes of celebrity pictures, with the official partition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava import tasks
from facellava.errors import LabelUnknown, SourceLayout
from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, choice, fields, is_text, mapped, reader

INFO = SourceInfo(
    name="celeba",
    title="CelebFaces Attributes (2015)",
    task="attributes",
    modality="image",
    licence="non-commercial research",
    redistribute=False,
    obtain="Download it from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.",
    citation="Z. Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
    layout="""
        Anno/list_attr_celeba.txt: the number of pictures, the forty names, then lines: 000001.jpg -1 1 ...
        Anno/identity_CelebA.txt, lines: 000001.jpg 2880
        Eval/list_eval_partition.txt, lines: 000001.jpg 0 (0 train, 1 val, 2 test)
        Img/img_celeba/000001.jpg ... or Img/img_align_celeba/000001.jpg ...
    """,
    splits=("train", "val", "test"),
    counts=(203_000, 201_000, 196_000),
    expected={"train": 162_770, "val": 19_867, "test": 19_962},
    options={"images": "img_celeba (default, in the wild) or img_align_celeba"},
)
PARTITION = {"0": "train", "1": "val", "2": "test"}


@reader(INFO)
def read(root: Path, split: str, images: str = "img_celeba") -> Iterator[Sample]:
    """The pictures of one split; a subject is a celebrity's number, which the official partition keeps apart."""
    wanted = check_split(INFO, split)
    choice(INFO, "images", images, ("img_celeba", "img_align_celeba"))
    table = require(INFO, root, "Anno/list_attr_celeba.txt")
    parts = _column(require(INFO, root, "Eval/list_eval_partition.txt"), "part")
    people = _column(require(INFO, root, "Anno/identity_CelebA.txt"), "person")
    folder = require(INFO, root, f"Img/{images}")
    task = tasks.get("attributes")
    names = _names(table)
    for line in fields(table, ["file", *names], skip=2):
        file = line.values["file"]
        if file not in parts:
            raise line.wrong(f"expected {file} in Eval/list_eval_partition.txt, too")
        if file not in people:
            raise line.wrong(f"expected {file} in Anno/identity_CelebA.txt, too")
        if parts[file] != wanted:
            continue
        present = [name for name in names if mapped(line, name, {"1": True, "-1": False})]
        yield Sample(
            id=f"celeba/{Path(file).stem}",
            source="celeba",
            split=wanted,
            task="attributes",
            media=(folder / file).absolute(),
            kind="image",
            label=task.sort(present),
            known=task.sort(names),
            subject=people[file],
        )


def _names(table: Path) -> list[str]:
    """The attributes in the file's order, which must be our forty."""
    with is_text(table), table.open(encoding="utf-8") as file:
        count, names = file.readline().strip(), file.readline().split()
    if not count.isdecimal() or not names:
        raise SourceLayout(f"{table}: expected the number of pictures on line 1 and the attributes' names on line 2")
    known = tasks.get("attributes").names
    if unknown := [name for name in names if name not in known]:
        raise LabelUnknown(f"{table}, line 2: attribute is {unknown[0]!r}; documented are {', '.join(known)}")
    if lacking := [name for name in known if name not in names]:
        raise SourceLayout(f"{table}, line 2: expected the forty attributes; {lacking[0]} is missing")
    return names


def _column(path: Path, name: str) -> dict[str, str]:
    if name == "part":
        return {line.values["file"]: mapped(line, name, PARTITION) for line in fields(path, ["file", name])}
    return {line.values["file"]: line.values[name] for line in fields(path, ["file", name])}
