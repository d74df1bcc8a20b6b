"""Conversations out of LLaVA JSON: ``train.json`` (``test.json`` held out), media and landmarks beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellava.errors import DamagedMedia, UsageError
from facellava.face import read_media
from facellava.files import from_json, is_inside
from facellava.training.crops import ALL_FRAMES, Known, crop_clip
from facellava.training.talks import MIXED, Talk, digest_of, labels_of, readers_of, task_of
from facellava.types import CROP_SIZE, FaceClip

_PLACEHOLDER = re.compile(r"\s*<(?:image|video)>\s*")
_GROUP = 200
"""Conversations that count as neighbours on disk."""
UNKNOWN = "llava"
"""Source of conversations that state none."""


class LlavaFolder:
    """See ``TalkFolder``. Media are 256 x 256 crops; landmarks are pixels of the crop, as the release reads them.

    Raises:
        UsageError: the file is no list of conversations.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._readers = path, readers_of(path)
        self.talks = self._read("train.json", 0)
        self.held_out = self._read("test.json", len(self.talks))
        self.digest = digest_of(path, [f for f in (path / "train.json", path / "test.json") if f.is_file()])

    def _read(self, name: str, start: int) -> list[Talk]:
        file = self.path / name
        if not file.is_file():
            return []
        try:
            entries = from_json(file.read_bytes())
        except ValueError as error:
            raise UsageError(f"{file} is no JSON: {error}") from error
        if not isinstance(entries, list):
            raise UsageError(f"{file} must hold a list of conversations")
        return [self._talk(entry, start + n, f"{file}, conversation {n}") for n, entry in enumerate(entries)]

    def _talk(self, entry: dict[str, Any], number: int, where: str) -> Talk:
        media = entry.get("image") or entry.get("video")
        if not isinstance(media, str):
            raise UsageError(f"{where} names neither image nor video")
        for name in (media, entry.get("landmarks"), entry.get("blendshapes")):
            if name is not None and not is_inside(self.path, str(name)):
                raise UsageError(f"{where}: {name} is not below {self.path}")
        facts = entry.get("rows") or [{}]
        first = facts[0]
        labels: dict[str, Any] = {}
        for row in facts:
            if row.get("task"):
                labels |= labels_of(row["task"], row.get("label"), row.get("known", ()))
        sources = [str(row.get("source", UNKNOWN)) for row in facts]
        source = sources[0]
        name = str(entry.get("id", number))
        return Talk(
            id=name,
            source=source,
            split=first.get("split", "train"),
            subject=first.get("subject"),
            task=task_of(row["task"] for row in facts if row.get("task")) if first.get("task") else MIXED,
            turns=_turns(entry, where),
            labels=labels,
            frames=self._frames(entry, first, media),
            digest=first.get("sha256", ""),
            margin=float(first.get("margin", 0.0)),
            group=number // _GROUP,
            place=(media, entry.get("landmarks"), entry.get("blendshapes"), first.get("clip", "")),
            origins=frozenset({*sources, *name.split("/")[:-1], *(self._readers.get(s, s) for s in sources)}),
            fold=int((first.get("meta") or {}).get("fold", 0)),
            crop=first.get("crop", "centred"),
        )

    def _frames(self, entry: Mapping[str, Any], first: Mapping[str, Any], media: str) -> int:
        if first.get("times"):
            return len(first["times"])
        if "image" in entry:
            return 1
        if entry.get("landmarks"):
            return len(np.load(self.path / entry["landmarks"], mmap_mode="r", allow_pickle=False))
        return len(read_media(self.path / media, max_frames=ALL_FRAMES).frames)

    def address(self, talk: Talk) -> str:
        """See ``TalkFolder``."""
        *names, clip = talk.place
        if clip:
            return clip
        total = hashlib.sha256()
        for name in filter(None, names):
            total.update((self.path / name).read_bytes())
        return total.hexdigest()

    def stored(self, talk: Talk) -> None:
        """See ``TalkFolder``."""

    def clip(self, talk: Talk, *, blendshapes: bool = True) -> FaceClip:
        """See ``TalkFolder``."""
        media, landmarks, shapes, _ = talk.place
        points = self._array(landmarks, (68, 2))
        known = Known(None if points is None else points / np.float32(CROP_SIZE), self._array(shapes, (52,)))
        return crop_clip(self.path / media, known, blendshapes, margin=talk.margin, crop=talk.crop, name=talk.id)

    def _array(self, name: str | None, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """(T, *shape) out of a file that holds one for each frame, or the one of a picture."""
        if name is None:
            return None
        path = self.path / name
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DamagedMedia(f"{path} cannot be read ({error}): export the data again") from error
        if array.shape[array.ndim - len(shape) :] != shape or array.ndim not in (len(shape), len(shape) + 1):
            raise DamagedMedia(f"{path} has the shape {array.shape}, not {shape} or (frames, {str(shape)[1:]}")
        return array.reshape(-1, *shape).astype(np.float32)


def _turns(entry: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    """(question, answer) pairs without placeholders: the face opens every conversation anyway."""
    said = entry.get("conversations")
    if not isinstance(said, list) or not said or len(said) % 2:
        raise UsageError(f"{where}: questions and answers must come by turns")
    roles = [turn.get("from") for turn in said]
    if roles != ["human", "gpt"] * (len(said) // 2):
        raise UsageError(f"{where}: turns must be human, gpt, human, gpt, ...")
    texts = [_PLACEHOLDER.sub("", str(turn["value"])).strip() for turn in said]
    return tuple(zip(texts[::2], texts[1::2], strict=True))
