"""What a trainer reads: folders of conversations about faces, in three layouts, by one interface.

A folder's index (texts, labels, places) is in memory, its pixels are read when they are needed. This module knows the
layouts; ``features`` turns a clip into tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facellava import tasks
from facellava.errors import FileMissing, UsageError
from facellava.files import read_json, reading
from facellava.training.recipe import DataConfig
from facellava.types import Crop, FaceClip

if TYPE_CHECKING:
    from torch import Tensor

MIXED = "mixed"
"""Task of a conversation about several."""


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation about one face.

    Attributes:
        id: unique in its folder. source: name of the source in the build. origins: every other name that it goes by,
            for the check of settings. split: official split. subject: None where the source states none.
        task: name of a task, or ``mixed``.
        turns: (question, answer) each.
        labels: what is known of the face: ``expression`` and ``deepfake`` as names, ``age`` in years, action units and
            attributes as booleans by their own names.
        frames: crops of the clip. digest: of the medium, "" where unknown; margin, crop: how the crops were cut.
        group: what is read from disk together. place: where the folder finds it.
        fold: official fold, 0 where there is none. report: what opens the conversation, None where it is still to be
            found by the expert head.
    """

    id: str
    source: str
    split: str
    subject: str | None
    task: str
    turns: tuple[tuple[str, str], ...]
    labels: Mapping[str, Any]
    frames: int
    digest: str
    margin: float
    group: int
    place: Any
    origins: frozenset[str] = frozenset()
    fold: int = 0
    report: str | None = None
    crop: Crop = "centred"


class TalkFolder(Protocol):
    """A folder of conversations.

    Attributes:
        path: of the folder. talks: those that training may use, in a fixed order. held_out: for watching.
        digest: of everything in the folder that decides a model.
    """

    path: Path
    talks: list[Talk]
    held_out: list[Talk]
    digest: str

    def address(self, talk: Talk) -> str:
        """Names the content of the clip: equal for equal pixels and landmarks, whatever the folder."""
        ...

    def stored(self, talk: Talk) -> dict[str, Tensor] | None:
        """Features that lie in the folder itself; None where they are computed from the clip."""
        ...

    def clip(self, talk: Talk, *, blendshapes: bool = True) -> FaceClip:
        """The face. Raises a ``FacellavaError`` when it cannot be read.

        Args:
            blendshapes: measure them where the folder has none; else they are zero.
        """
        ...


@dataclass
class Corpus:
    """Several folders as one, filtered as the recipe says.

    Attributes:
        talks: for training. held_out: for watching. folder_of: group -> folder.
        excluded: conversations of sources that the recipe excludes. left_out: reason -> number of conversations.
    """

    folders: list[TalkFolder]
    talks: list[Talk] = field(default_factory=list)
    held_out: list[Talk] = field(default_factory=list)
    excluded: list[Talk] = field(default_factory=list)
    folder_of: dict[int, TalkFolder] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of all folders, in their order."""
        return hashlib.sha256("|".join(folder.digest for folder in self.folders).encode()).hexdigest()[:16]

    def folder(self, talk: Talk) -> TalkFolder:
        """Where a talk comes from."""
        return self.folder_of[talk.group]


def open_folder(path: Path, *, multi_turn: bool = False) -> TalkFolder:
    """A folder in whichever of the layouts it is.

    Raises:
        FileMissing: it is none of them.
    """
    from facellava.training.llava_folder import LlavaFolder
    from facellava.training.parquet_folder import ParquetFolder
    from facellava.training.samples import SamplesFolder

    if (path / "samples.jsonl").is_file():
        return SamplesFolder(path)
    if (path / "train.json").is_file():
        return LlavaFolder(path)
    if any(path.glob("data/train-*.parquet")):
        return ParquetFolder(path, multi_turn=multi_turn)
    raise FileMissing(
        f"{path} holds no training data: give OUT/dataset of 'facellava data build', a LLaVA export (train.json), "
        "or a folder with samples.jsonl"
    )


def readers_of(path: Path) -> dict[str, str]:
    """Name of a source -> its reader, from the ``recipe.json`` of a build or of an export of it; empty without one."""
    file = path / "recipe.json"
    if not file.is_file():
        return {}
    record = read_json(file)
    return {item.get("rename") or item["name"]: item["name"] for item in record.get("sources", [])}


def load_corpus(config: DataConfig) -> Corpus:
    """All folders of a recipe.

    Raises:
        FileMissing: no such folder. UsageError: the filters leave nothing, or name what is not there.
    """
    corpus = Corpus([])
    start = 0
    for path in config.paths:
        folder = open_folder(Path(path), multi_turn=config.multi_turn)
        corpus.folders.append(folder)
        # groups are numbered through, so that a group belongs to one folder
        for source, target in ((folder.talks, corpus.talks), (folder.held_out, corpus.held_out)):
            target += [replace(talk, group=talk.group + start) for talk in source]
        groups = {talk.group + start for talk in (*folder.talks, *folder.held_out)}
        corpus.folder_of |= dict.fromkeys(groups, folder)
        start = max(groups, default=start - 1) + 1
    _filter(corpus, config)
    if config.stated:
        corpus.talks = [replace(talk, labels=stated_labels(talk)) for talk in corpus.talks]
        keep_only(corpus, "answer without a label", lambda talk: talk.labels)
    return corpus


def stated_labels(talk: Talk) -> Mapping[str, Any]:
    """The labels of a conversation of one task as its first answer states them; empty where it states none."""
    if talk.task == MIXED:
        return talk.labels
    task = tasks.get(talk.task)
    value = getattr(task.parse(talk.turns[0][1]), task.field)
    if value is None:
        return {}
    if task.kind == "number":
        return {task.name: round(value)}
    return {task.name: value} if task.kind == "single" else {name: name in value for name in talk.labels}


def _filter(corpus: Corpus, config: DataConfig) -> None:
    there = {name for talk in corpus.talks for name in (talk.source, *talk.origins)}
    if unknown := set(config.exclude) - there:
        raise UsageError(f"data.exclude names '{min(unknown)}', which is not in the data; it has {_list(there)}")
    if unknown := set(config.tasks) - {*tasks.all_tasks(), MIXED}:
        raise UsageError(f"data.tasks names '{min(unknown)}'; known: {', '.join([*tasks.all_tasks(), MIXED])}")
    if unknown := set(config.shares) - {talk.source for talk in corpus.talks}:
        raise UsageError(f"data.shares names '{min(unknown)}'; the data has {_list({t.source for t in corpus.talks})}")
    excluded = set(config.exclude)
    corpus.excluded = [talk for talk in corpus.talks if excluded & {talk.source, *talk.origins}]
    for name, keep in {
        "excluded source": lambda talk: not excluded & {talk.source, *talk.origins},
        "other task": lambda talk: not config.tasks or talk.task in config.tasks,
    }.items():
        keep_only(corpus, name, keep)
    if config.limit:
        chosen = set(_first(corpus.talks, config.limit))
        keep_only(corpus, "over the limit of its source", lambda talk: (talk.source, talk.id) in chosen)


def keep_only(corpus: Corpus, reason: str, keep: Any) -> None:
    """Drop the talks that `keep` says no to, and count them under `reason`.

    Raises:
        UsageError: nothing is left.
    """
    kept = [talk for talk in corpus.talks if keep(talk)]
    if len(kept) < len(corpus.talks):
        corpus.left_out[reason] = len(corpus.talks) - len(kept)
    corpus.talks = kept
    # what is watched on the way is of the same tasks and sources; where none of it is, it is better than nothing
    corpus.held_out = [talk for talk in corpus.held_out if keep(talk)] or corpus.held_out
    if not kept:
        raise UsageError(f"no conversation is left to train on: {_counts(corpus.left_out)}")


def _first(talks: Iterable[Talk], limit: int) -> Iterator[tuple[str, str]]:
    """Of each source the `limit` conversations whose ids have the smallest hashes: the same in every run."""
    by_source: dict[str, list[str]] = {}
    for talk in talks:
        by_source.setdefault(talk.source, []).append(talk.id)
    for source, ids in by_source.items():
        ordered = sorted(ids, key=lambda i: hashlib.sha256(i.encode()).digest())
        yield from ((source, i) for i in ordered[:limit])


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "the folders are empty"


def labels_of(task: str, label: Any, known: Sequence[str]) -> dict[str, Any]:
    """A row's label as ``Talk.labels``."""
    kind = tasks.get(task).kind
    if label is None:
        return {}
    if kind == "multi":
        return {name: name in label for name in known}
    return {task: label}


def task_of(names: Iterable[str]) -> str:
    """The one task of a conversation, or ``mixed``."""
    found = sorted(set(names))
    return found[0] if len(found) == 1 else MIXED


def digest_of(folder: Path, files: Sequence[Path]) -> str:
    """Of the contents of files; taken from ``croissant.json`` where that states them, so that nothing is read twice."""
    stated = _stated(folder)
    total = hashlib.sha256()
    for path in files:
        known = stated.get(path.name)
        if known is None:
            with path.open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {known}\n".encode())
    return total.hexdigest()


def _stated(folder: Path) -> dict[str, str]:
    path = folder / "croissant.json"
    if not path.is_file():
        return {}
    with reading(path, "run the build again"):
        record = json.loads(path.read_bytes())
        return {item["name"]: item["sha256"] for item in record.get("distribution", []) if "sha256" in item}
