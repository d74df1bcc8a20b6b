"""FABA-Instruct (Li et al., 2024): descriptions of AffectNet pictures, rated as a reference in Table 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facellava import tasks
from facellava.errors import SourceLayout
from facellava.files import from_json
from facellava.types import LabelValue, Sample

from .base import SourceInfo, require
from .fields import Split, check_split, is_text, reader

INFO = SourceInfo(
    name="faba_instruct",
    title="FABA-Instruct (2024)",
    task="",
    modality="image",
    licence="research only; the pictures are AffectNet's",
    redistribute=False,
    obtain="See https://github.com/JackYFL/EmoLA; the pictures come with it.",
    citation="Y. Li et al., Facial Affective Behavior Analysis with Instruction Tuning, ECCV 2024",
    layout="""
        train/train_emotion_anno.json, train/train_au_anno.json in LLaVA's form (one of them may be missing)
        eval/eval_emotion_anno.json, eval/eval_au_anno.json
        train/images/..., eval/images/...: the annotations name them FABAInstruct/train/images/...
    """,
    splits=("train", "test"),
    expected={"train": 19_474 + 15_838, "test": 403 + 325},
    in_paper=False,
)
KINDS = {"emotion": "expression", "au": "action_units"}
FOLDERS = {"train": "train", "test": "eval"}


@reader(INFO)
def read(root: Path, split: str) -> Iterator[Sample]:
    """The entries of one split, their text in ``meta['description']`` for the annotator ``recorded``.

    The release states no labels apart from the text, so a label is what our parser reads in it; an entry in which it
    reads none is passed on without a label.
    """
    wanted = check_split(INFO, split)
    files = {task: f"{FOLDERS[wanted]}/{FOLDERS[wanted]}_{kind}_anno.json" for kind, task in KINDS.items()}
    require(INFO, root, *files.values())
    for task, file in files.items():
        if (root / file).is_file():
            for number, entry in enumerate(_entries(root / file)):
                yield _sample(root, root / file, number, entry, task, wanted)


def _entries(path: Path) -> list[Any]:
    try:
        with is_text(path):
            found = from_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SourceLayout(f"{path}, line {error.lineno}: expected a JSON list ({error.msg})") from error
    if not isinstance(found, list):
        raise SourceLayout(f"{path}: expected a JSON list")
    return found


def _sample(root: Path, path: Path, number: int, entry: Any, task: str, split: Split) -> Sample:
    try:
        image, text = str(entry["image"]), str(entry["conversations"][1]["value"]).strip()
    except (KeyError, IndexError, TypeError) as error:
        raise SourceLayout(f"{path}, entry {number}: expected 'image' and two 'conversations'") from error
    image = image.removeprefix("FABAInstruct/")
    known = tasks.get(task)
    parsed = known.parse(text)
    label: LabelValue = parsed.active if known.kind == "multi" else parsed.label
    return Sample(
        id=f"faba_instruct/{Path(image).with_suffix('').as_posix()}@{task}",
        source="faba_instruct",
        split=split,
        task=task,
        media=(root / image).absolute(),
        kind="image",
        label=label,
        known=known.default_names if isinstance(label, tuple) else (),
        meta={"description": text},
    )
