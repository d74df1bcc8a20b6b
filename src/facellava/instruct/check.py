"""Is a copy of a dataset whole? Counts, files, media, labels and subjects, before a build relies on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facellava import tasks
from facellava.errors import FacellavaError, LabelUnknown, SourceLayout
from facellava.instruct import sources
from facellava.instruct.sources import SourceInfo
from facellava.types import Sample

__all__ = ["CheckReport", "Unreadable", "check"]

SHOWN = 20
"""Examples of each kind of trouble in a report; the numbers count all of it."""
BAR = 30


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A medium that cannot be decoded: its path, the code of the error and its message."""

    path: Path
    code: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """What was found in a copy.

    Attributes:
        info: of the source. root, options: what was checked.
        samples: split -> number of samples.
        expected: split, or ``all`` -> number in a complete official copy; empty where none is documented, or where an
            option changes it.
        problems: annotation files that are missing or wrong, one message each; reading a split ends at the first.
        files: number of different media. missing: those that are not there.
        opened: how many were decoded. unreadable: those of them that cannot be.
        labels: task -> label -> number of samples (ages in decades, several labels each for itself).
        unlabelled: samples without a label.
        subjects: number of people. shared: those in more than one split -> the splits.
        repeated: ids that occur more than once.
    """

    info: SourceInfo
    root: Path
    options: Mapping[str, Any]
    samples: Mapping[str, int]
    expected: Mapping[str, int]
    problems: tuple[str, ...]
    files: int
    missing: tuple[Path, ...]
    opened: int
    unreadable: tuple[Unreadable, ...]
    labels: Mapping[str, Mapping[str, int]]
    unlabelled: int
    subjects: int
    shared: Mapping[str, tuple[str, ...]]
    repeated: tuple[str, ...]

    @property
    def total(self) -> int:
        """Samples of all splits."""
        return sum(self.samples.values())

    @property
    def differing(self) -> dict[str, tuple[int, int]]:
        """Split, or ``all`` -> (found, expected) where they differ by more than the source's tolerance."""
        found = {**self.samples, "all": self.total}
        allowed = self.info.tolerance
        return {k: (found.get(k, 0), n) for k, n in self.expected.items() if abs(found.get(k, 0) - n) > allowed * n}

    @property
    def complete(self) -> bool:
        """Whether a build can rely on the copy: as many samples as expected, and nothing wrong with any."""
        trouble = (self.problems, self.differing, self.missing, self.unreadable, self.shared, self.repeated)
        return self.total > 0 and not any(trouble)

    def to_json(self) -> dict[str, Any]:
        """Everything, with at most ``SHOWN`` examples of each kind of trouble."""
        return {
            "source": self.info.name,
            "root": str(self.root),
            "options": dict(self.options),
            "complete": self.complete,
            "samples": {**self.samples, "all": self.total},
            "expected": dict(self.expected),
            "table_11_initial": self.info.counts[0] if self.info.counts else None,
            "problems": list(self.problems),
            "media": {
                "files": self.files,
                "missing": len(self.missing),
                "missing_examples": [str(path) for path in self.missing[:SHOWN]],
                "opened": self.opened,
                "unreadable": len(self.unreadable),
                "unreadable_examples": [
                    {"path": str(u.path), "code": u.code, "message": u.message} for u in self.unreadable[:SHOWN]
                ],
            },
            "labels": {task: dict(found) for task, found in self.labels.items()},
            "unlabelled": self.unlabelled,
            "subjects": self.subjects,
            "subjects_in_two_splits": len(self.shared),
            "subjects_in_two_splits_examples": {k: list(v) for k, v in list(self.shared.items())[:SHOWN]},
            "repeated_ids": len(self.repeated),
            "repeated_ids_examples": list(self.repeated[:SHOWN]),
        }

    def text(self) -> str:
        """For people: the numbers, then what is wrong, then the labels."""
        return "\n".join([*self._counts(), *self._trouble(), *self._histograms(), self._verdict()])

    def _counts(self) -> Iterator[str]:
        yield f"{self.info.title} in {self.root}"
        for name, found in {**self.samples, "all": self.total}.items():
            expected = self.expected.get(name)
            yield f"  {name:<6}{found:>10,}" + ("" if expected is None else f"   expected {expected:,}")
        if self.info.counts:
            initial = self.info.counts[0]
            yield f"  Table 11 of the paper starts from {initial:,}: this copy has {self.total / initial:.1%} of it"
        people = f", {self.subjects:,} people" if self.subjects else ""
        yield f"  {self.files:,} media, {self.opened:,} of them opened{people}"

    def _trouble(self) -> Iterator[str]:
        yield from (f"wrong: {problem}" for problem in self.problems)
        for name, (found, expected) in self.differing.items():
            yield f"wrong: {name} has {found:,} samples, expected {expected:,}"
        yield from _listed("missing", "media are missing", [str(path) for path in self.missing])
        yield from _listed("unreadable", "media cannot be read", [f"{u.code}: {u.message}" for u in self.unreadable])
        people = [f"{name}: {', '.join(splits)}" for name, splits in self.shared.items()]
        yield from _listed("wrong", "people are in more than one split", people)
        yield from _listed("wrong", "ids occur more than once", list(self.repeated))

    def _histograms(self) -> Iterator[str]:
        for task, found in self.labels.items():
            yield f"labels of {task}"
            most, wide = max(found.values(), default=0), max(map(len, found), default=0)
            for name, number in found.items():
                yield f"  {name:<{wide}}{number:>10,}  {'#' * round(BAR * number / most if most else 0)}"
        if self.unlabelled:
            yield f"without a label: {self.unlabelled:,}"

    def _verdict(self) -> str:
        if self.complete:
            return "complete" if self.expected else "nothing is wrong (no official count to compare with)"
        return "incomplete" if self.total else "incomplete: no samples"


def check(
    name: str,
    root: Path,
    options: Mapping[str, Any],
    media: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read all splits of a source and open its media.

    Args:
        name: of the source. root: folder of the copy. options: of its reader.
        media: how many media to decode, always the same ones of a copy; None for all. Pictures are decoded wholly, of
            videos the first frame.
        progress: called with (media opened, media to open).

    Raises:
        UsageError: unknown source, or an option or value that its reader does not have.
    """
    source = sources.get(name)
    root = Path(root).expanduser().absolute()
    seen = _Seen()
    for split in source.INFO.splits:
        seen.read(split, source.read(root, split, **options))
    files = sorted(seen.media)
    there = [path for path in files if path.is_file()]
    chosen = there if media is None else _spread(there, root, media)
    unreadable = [bad for bad in _opened(chosen, progress) if bad]
    resized = set(options) & set(source.INFO.resized_by)
    return CheckReport(
        info=source.INFO,
        root=root,
        options=dict(options),
        samples=dict(seen.samples),
        expected={} if resized else dict(source.INFO.expected),
        problems=tuple(dict.fromkeys(seen.problems)),
        files=len(files),
        missing=tuple(sorted(set(files) - set(there))),
        opened=len(chosen),
        unreadable=tuple(unreadable),
        labels=seen.histograms(),
        unlabelled=seen.unlabelled,
        subjects=len(seen.subjects),
        shared={k: tuple(sorted(v)) for k, v in sorted(seen.subjects.items()) if len(v) > 1},
        repeated=tuple(sorted(seen.repeated)),
    )


@dataclass
class _Seen:
    """What the samples of all splits come to; the samples themselves are not kept."""

    samples: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    media: set[Path] = field(default_factory=set)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    unlabelled: int = 0
    subjects: dict[str, set[str]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)

    def read(self, split: str, samples: Iterable[Sample]) -> None:
        self.samples[split] = 0
        try:
            for sample in samples:
                self.add(sample)
        except (SourceLayout, LabelUnknown) as error:
            self.problems.append(str(error))

    def add(self, sample: Sample) -> None:
        self.samples[sample.split] += 1
        self.media.add(sample.media)
        if sample.id in self.ids:
            self.repeated.add(sample.id)
        self.ids.add(sample.id)
        if sample.subject is not None:
            self.subjects.setdefault(sample.subject, set()).add(sample.split)
        if sample.label is None:
            self.unlabelled += 1
        else:
            self.labels.setdefault(sample.task, Counter()).update(_names(sample))

    def histograms(self) -> dict[str, dict[str, int]]:
        """In the canonical order of tasks and labels, ages from young to old; labels that never occur count 0."""
        found = {}
        for task in tasks.all_tasks().values():
            if (counts := self.labels.get(task.name)) is not None:
                order = sorted(counts, key=lambda decade: int(decade.split("-")[0])) if task.number else task.names
                found[task.name] = {name: counts[name] for name in order}
        return found


def _names(sample: Sample) -> tuple[str, ...]:
    if isinstance(sample.label, tuple):
        return sample.label
    if isinstance(sample.label, int):
        start = sample.label // 10 * 10
        return (f"{start}-{start + 9}",)
    return (str(sample.label),)


def _spread(files: list[Path], root: Path, number: int) -> list[Path]:
    """Some of the files: by a hash of their place below the root, so that no class or subject is preferred."""

    def draw(path: Path) -> bytes:
        place = path.relative_to(root) if path.is_relative_to(root) else path
        return hashlib.sha256(place.as_posix().encode()).digest()

    return sorted(sorted(files, key=draw)[:number])


def _opened(files: list[Path], progress: Callable[[int, int], None] | None) -> Iterator[Unreadable | None]:
    from facellava.face import read_media

    for number, path in enumerate(files, 1):
        try:
            read_media(path, max_frames=1)
            yield None
        except FacellavaError as error:
            yield Unreadable(path, error.code, str(error))
        if progress is not None:
            progress(number, len(files))


def _listed(word: str, what: str, found: list[str]) -> Iterator[str]:
    if not found:
        return
    yield f"{word}: {len(found):,} {what}"
    yield from (f"  {line}" for line in found[:SHOWN])
    if len(found) > SHOWN:
        yield f"  ... and {len(found) - SHOWN:,} more"
