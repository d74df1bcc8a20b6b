"""FABA-Instruct (Li et al., 2024): descriptions of AffectNet pictures, rated as a reference in Table 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facellava import tasks
from facellava.errors import SourceLayout
from facellava.types import LabelValue, Sample

from .base import SourceInfo, require
from .fields import check_split

INFO = SourceInfo(
    name="faba_instruct",
    title="FABA-Instruct (2024)",
    task="",
    modality="image",
    licence="research only; the pictures are AffectNet's",
    redistribute=False,
    obtain="See https://github.com/JackYFL/EmoLA; the pictures come with AffectNet.",
    citation="Y. Li et al., Facial Affective Behavior Analysis with Instruction Tuning, ECCV 2024",
    layout="""
        emotion_train.json, emotion_test.json, au_train.json, au_test.json in LLaVA's form (some may be missing)
        images/1.jpg ...
    """,
    splits=("train", "test"),
    options={"images": "folder of the pictures; images below the root by default"},
    in_paper=False,
)
KINDS = {"emotion": "expression", "au": "action_units"}


def read(root: Path, split: str, images: str = "") -> Iterator[Sample]:
    """The entries of one split, their text in ``meta['description']`` for the annotator ``recorded``.

    The release states no labels apart from the text, so a label is what our parser reads in it; an entry in which it reads
    none is passed on without a label.
    """
    wanted = check_split(INFO, split)
    require(INFO, root, *(f"{kind}_{wanted}.json" for kind in KINDS))
    folder = Path(images).expanduser() if images else root / "images"
    for kind, task in KINDS.items():
        path = root / f"{kind}_{wanted}.json"
        if path.is_file():
            for number, entry in enumerate(_entries(path)):
                yield _sample(path, number, entry, task, folder, wanted)


def _entries(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SourceLayout(f"{path}, line {error.lineno}: expected a JSON list ({error.msg})") from error
    if not isinstance(found, list):
        raise SourceLayout(f"{path}: expected a JSON list")
    return found


def _sample(path: Path, number: int, entry: Any, task: str, folder: Path, split: Any) -> Sample:
    try:
        image, text = str(entry["image"]), str(entry["conversations"][1]["value"]).strip()
    except (KeyError, IndexError, TypeError) as error:
        raise SourceLayout(f"{path}, entry {number}: expected 'image' and two 'conversations'") from error
    known = tasks.get(task)
    parsed = known.parse(text)
    label: LabelValue = parsed.active if known.kind == "multi" else parsed.label
    return Sample(
        id=f"faba_instruct/{image}@{task}",
        source="faba_instruct",
        split=split,
        task=task,
        media=(folder / image).absolute(),
        kind="image",
        label=label,
        known=known.default_names if isinstance(label, tuple) else (),
        meta={"description": text},
    )
