"""LLaVA JSON into the store of record: every pair of question and answer becomes a row, or a line of the ledger."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellava.errors import FileMissing, UsageError
from facellava.files import from_json, is_inside, write_atomic
from facellava.instruct.dataset import write_rows
from facellava.instruct.records import Annotation, Rating, Rejected, Rejection
from facellava.instruct.rows import Row
from facellava.types import CROP_SIZE, N_LANDMARKS

SOURCE = "llava"
"""The source of rows that state none."""
MEDIA_TYPE_OF = {"image": "image/jpeg", "video": "video/mp4"}
MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class _Place:
    """Where an entry stands: the folder of its media, and the subset that its file is."""

    media: Path
    subset: str


def import_llava(file: Path, out: Path, media: Path | None = None) -> int:
    """Read one LLaVA JSON file into the dataset folder `out`; the number of rows.

    Entries that ``facellava`` exported keep everything; others get the source ``llava``, no task and no licence, and
    their media are named but not copied. What cannot be used goes to ``out/rejections.jsonl``. A file called
    ``test.json`` makes test rows, any other training rows.

    Args:
        media: the folder that the paths in the file are relative to; the file's own by default.

    Raises:
        FileMissing: no such file. UsageError: not a JSON list of objects.
    """
    if not file.is_file():
        raise FileMissing(f"{file} does not exist or is no file")
    try:
        entries = from_json(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} is no JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{file} must be a JSON list of objects with 'conversations'")
    place = _Place(media or file.parent, "test" if file.stem == "test" else "train")
    rejected: list[Rejection] = []
    work = sorted(_pairs(entries, rejected), key=lambda pair: pair.id)
    count = write_rows(out, _rows(work, place, rejected))
    lines = [
        json.dumps(dataclasses.asdict(r), ensure_ascii=False) + "\n" for r in sorted(rejected, key=lambda r: r.sample)
    ]
    write_atomic(out / "rejections.jsonl", "".join(lines))
    return count


@dataclass(frozen=True)
class _Pair:
    """One question with its answer, and the entry that it is from."""

    id: str
    question: str
    answer: str
    entry: dict[str, Any]
    facts: dict[str, Any]


def _pairs(entries: list[dict[str, Any]], rejected: list[Rejection]) -> Iterator[_Pair]:
    taken: set[str] = set()
    for number, entry in enumerate(entries):
        name = str(entry.get("id", number))
        facts = entry.get("rows") or []
        try:
            turns = _turns(entry)
        except Rejected as error:
            rejected.append(_rejection(f"{SOURCE}/{name}", error))
            continue
        for turn, (question, answer) in enumerate(turns):
            stated = facts[turn] if isinstance(facts, list) and turn < len(facts) else None
            known = stated if isinstance(stated, dict) else {}
            own = str(known.get("id") or f"{SOURCE}/{name}" + (f"#{turn}" if len(turns) > 1 else ""))
            while own in taken:  # ids repeat in public files
                own += "~"
            taken.add(own)
            yield _Pair(own, question, answer, entry, known)


def _turns(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """Questions without their placeholders, and answers."""
    talk = entry.get("conversations")
    if not isinstance(talk, list) or not talk or len(talk) % 2:
        raise Rejected("bad_conversation", "'conversations' is no list of questions and answers in turn")
    if not isinstance(entry.get("image", entry.get("video")), str):
        raise Rejected("no_media", "the entry names neither one image nor one video")
    found = []
    for human, model in zip(talk[::2], talk[1::2], strict=True):
        question, answer = _said(human, "human"), _said(model, "gpt")
        found.append((question.replace("<image>", "").replace("<video>", "").strip(), answer))
    return found


def _said(turn: object, who: str) -> str:
    if not isinstance(turn, dict) or turn.get("from") != who or not isinstance(turn.get("value"), str):
        raise Rejected("bad_conversation", "turns are not texts of 'human' and 'gpt' by turns")
    return turn["value"]


def _rejection(sample: str, error: Rejected, facts: dict[str, Any] | None = None) -> Rejection:
    facts = facts or {}
    return Rejection(sample, facts.get("source", SOURCE), facts.get("task", ""), "read", error.code, error.message)


def _rows(pairs: list[_Pair], place: _Place, rejected: list[Rejection]) -> Iterator[Row]:
    for pair in pairs:
        try:
            yield _row(pair, place)
        except Rejected as error:
            rejected.append(_rejection(pair.id, error, pair.facts))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            rejected.append(_rejection(pair.id, Rejected("bad_facts", f"what it states cannot be read ({error})")))


def _row(pair: _Pair, place: _Place) -> Row:
    entry, facts = pair.entry, pair.facts
    kind = "video" if "video" in entry else "image"
    name: str = entry[kind]
    path = place.media / name
    for inner in (name, entry.get("landmarks")):
        if isinstance(inner, str) and not is_inside(place.media, inner):
            raise Rejected("outside", f"{inner} is not below {place.media}: a list may name only what lies beside it")
    data, digest = _media(entry, facts, path)
    made_by: dict[str, Any] = facts.get("annotation") or {"annotator": "imported"}
    times, window, label = facts.get("times"), facts.get("window"), facts.get("label")
    landmarks = _landmarks(entry, place.media)
    return Row(
        id=pair.id,
        source=facts.get("source", SOURCE),
        split=facts.get("split", place.subset),
        subset=place.subset,
        subject=facts.get("subject"),
        task=facts.get("task", ""),
        kind=facts.get("kind", kind),
        label=tuple(label) if isinstance(label, list) else label,
        known=tuple(facts.get("known", ())),
        question=pair.question,
        description=pair.answer,
        annotation=Annotation(pair.answer, **made_by),
        rating=Rating(**facts["rating"]) if facts.get("rating") else None,
        clip=facts.get("clip", ""),
        media=facts.get("media", name),
        sha256=digest,
        duration=facts.get("duration", 0.0),
        landmarks=landmarks,
        blendshapes=None,
        margin=facts.get("margin", 0.0),
        times=np.array(times, np.float64) if times is not None else None,
        data=data,
        media_type=facts.get("media_type") or MEDIA_TYPES.get(path.suffix.lower(), MEDIA_TYPE_OF[kind]),
        licence=facts.get("licence", ""),
        window=(window[0], window[1]) if window else None,
        frame=facts.get("frame"),
        meta=facts.get("meta", {}),
        crop=facts.get("crop", "centred"),
    )


def _media(entry: dict[str, Any], facts: dict[str, Any], path: Path) -> tuple[bytes | None, str]:
    """The crops where they may be kept, and the digest of the source's medium."""
    if facts and not entry.get("pixels", False):
        return None, facts.get("sha256", "")
    if not os.path.isfile(path):  # the method raises for names that are too long
        raise Rejected("file_missing", f"{path} is missing: give the folder of the media")
    data = path.read_bytes()
    if facts:
        return data, facts.get("sha256", "")
    return None, hashlib.sha256(data).hexdigest()


def _landmarks(entry: dict[str, Any], media: Path) -> NDArray[np.float32] | None:
    """Back from pixels of the crop, (68, 2) or (T, 68, 2), to (T, 68, 2) in [0, 1]."""
    name = entry.get("landmarks")
    if not isinstance(name, str):
        return None
    path = media / name
    if not os.path.isfile(path):  # the method raises for names that are too long
        raise Rejected("file_missing", f"{path} is missing: give the folder of the media")
    points = np.load(path, allow_pickle=False)
    if points.shape[-2:] != (N_LANDMARKS, 2) or points.ndim not in (2, 3):
        raise Rejected("bad_landmarks", f"{path} has the shape {points.shape}, not (68, 2) or (frames, 68, 2)")
    return points.reshape(-1, N_LANDMARKS, 2).astype(np.float32) / np.float32(CROP_SIZE)
