"""A row of the dataset, and how an instruction becomes one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facellava.instruct import sources
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.recipe import Recipe
from facellava.instruct.records import Annotation, Instruction, Rating
from facellava.types import Crop, LabelValue, MediaKind, Sample

ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "video/mp4": "mp4"}


@dataclass(frozen=True, slots=True)
class Origin:
    """What rows take from their source: the folder that media paths are relative to, and the licence in a few words."""

    root: Path | None = None
    licence: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of the dataset, independent of the machine that built it.

    Attributes:
        id, source, split, subject, task, kind, label, known, window, frame, meta: as in ``Sample``.
        subset: ``train`` or ``test`` of this dataset.
        question, description: the instruction and its answer.
        annotation, rating: where the description came from and what it was rated.
        clip: key in the build's clip store, "" for imported rows.
        media: path of the source's medium relative to the source's root. sha256: of that medium, "" if unknown.
        duration: seconds, 0 for a picture.
        landmarks: float32 (T, 68, 2) in [0, 1] of the crop; blendshapes: float32 (T, 52); times: float64 (T,) seconds;
            None where not known.
        margin: how much wider than the detector's box the crops are. crop: where they lie, see ``types.Crop``.
        data: the crops as JPEG or MP4 bytes, None where the licence forbids passing them on. media_type: of ``data``.
        licence: of the medium.
    """

    id: str
    source: str
    split: str
    subset: str
    subject: str | None
    task: str
    kind: MediaKind
    label: LabelValue
    known: tuple[str, ...]
    question: str
    description: str
    annotation: Annotation
    rating: Rating | None
    clip: str
    media: str
    sha256: str
    duration: float
    landmarks: NDArray[np.float32] | None
    blendshapes: NDArray[np.float32] | None
    times: NDArray[np.float64] | None
    margin: float
    data: bytes | None
    media_type: str
    licence: str
    window: tuple[float, float] | None = None
    frame: int | None = None
    meta: Mapping[str, Any] | None = None
    crop: Crop = "centred"

    @property
    def modality(self) -> Literal["image", "video"]:
        """What ``data`` is or would be: a video of a single frame is stored as a picture."""
        count = len(self.times) if self.times is not None else 2
        return "video" if self.kind == "video" and count > 1 else "image"

    @property
    def file_name(self) -> str:
        """A name for ``data``: the clip's key, or the id where there is none; safe, whatever rows of others hold."""
        return f"{safe_name(self.clip or self.id)}.{ENDINGS.get(self.media_type, 'bin')}"


def safe_name(text: str) -> str:
    """`text` as a file name without dots or separators, unique by a digest where something was replaced."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def origins(recipe: Recipe) -> dict[str, Origin]:
    """What the rows of each source of a recipe take from it, by the source's name in the build."""
    found = {}
    for config in recipe.sources:
        licence = config.options.get("licence") or sources.get(config.name).INFO.licence
        found[config.label] = Origin(Path(config.root) if config.root else None, str(licence))
    return found


def row_of(instruction: Instruction, clips: ClipStore, origin: Origin, *, pixels: bool) -> Row:
    """The row of one instruction; reads its clip. Crops go in with ``pixels`` only."""
    sample = instruction.sample
    data, media_type = clips.encoded(instruction.clip)
    measured = clips.measured(instruction.clip)
    return Row(
        id=sample.id,
        source=sample.source,
        split=sample.split,
        subset=instruction.subset,
        subject=sample.subject,
        task=sample.task,
        kind=sample.kind,
        label=sample.label,
        known=sample.known,
        question=instruction.question,
        description=instruction.annotation.description,
        annotation=instruction.annotation,
        rating=instruction.rating,
        clip=instruction.clip,
        media=_relative(sample, origin),
        sha256=clips.source(instruction.clip).sha256,
        duration=instruction.duration,
        landmarks=measured.landmarks,
        blendshapes=measured.blendshapes,
        times=measured.times,
        margin=measured.margin,
        data=data if pixels else None,
        media_type=media_type,
        licence=str(sample.meta.get("licence", origin.licence)),
        window=sample.window,
        frame=sample.frame,
        meta=sample.meta,
        crop=measured.crop,
    )


def _relative(sample: Sample, origin: Origin) -> str:
    # a path of this machine would make the bytes differ between machines, and may name a person
    if origin.root is not None:
        for root in (origin.root, origin.root.resolve()):
            if sample.media.is_relative_to(root):
                return sample.media.relative_to(root).as_posix()
    return sample.media.name
