"""What a dataset reader is, how readers are found, and what they share."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import facellava.instruct.sources as package
from facellava.errors import SourceLayout, UsageError
from facellava.types import Sample

HELPERS = {"base", "fields"}
"""Modules of the folder that are not datasets."""


@dataclass(frozen=True)
class SourceInfo:
    """What is known about a dataset before its files are opened.

    Attributes:
        name: the module's name, also the beginning of every sample id.
        title: for people, with the year.
        task: the task its labels are for; "" where the user's own files say (``folder``).
        modality: ``image``, ``video`` or ``both``.
        licence: its terms in a few words.
        redistribute: whether its pixels may be passed on; False unless the licence says so.
        obtain: one sentence on how to get a copy, with the address of the official page.
        citation: authors, title, venue, year.
        layout: the official files below the root, one line each, as shown to a user whose copy differs.
        splits: the official splits that ``read`` knows, out of train, val, test.
        counts: Table 11 of the paper: initial, after preprocessing, after filtering; None if not in it.
        expected: number of samples that a complete official copy yields, by split (only what is documented).
        tolerance: share by which a complete copy may differ from ``expected``, where publications disagree.
        options: keyword of ``read`` -> its help text.
        resized_by: options under which other numbers of samples than ``expected`` are right.
        in_paper: one of the 13 datasets (and real-face controls) of Table 11.
        labelled: False where ``read`` yields samples without labels.
    """

    name: str
    title: str
    task: str
    modality: Literal["image", "video", "both"]
    licence: str
    redistribute: bool
    obtain: str
    citation: str
    layout: str
    splits: tuple[str, ...]
    counts: tuple[int, int, int] | None = None
    expected: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tolerance: float = 0.0
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resized_by: tuple[str, ...] = ()
    in_paper: bool = True
    labelled: bool = True


class Source(Protocol):
    """A source module."""

    INFO: SourceInfo

    def read(self, root: Path, split: str, **options: object) -> Iterator[Sample]:
        """The samples of one official split, in a stable order.

        Raises:
            SourceLayout: a missing or malformed annotation file; says what was expected where.
            LabelUnknown: an undocumented label; says in which file and line.
            UsageError: unknown split or option value.
        """
        ...


@cache
def all_sources() -> dict[str, Source]:
    """Every dataset reader by name, those of the paper first."""
    names = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in HELPERS]
    modules: list[Source] = [importlib.import_module(f"{package.__name__}.{name}") for name in names]  # pyright: ignore[reportAssignmentType]
    modules.sort(key=lambda m: (not m.INFO.in_paper, m.INFO.name))
    return {module.INFO.name: module for module in modules}


def get(name: str) -> Source:
    """The reader called `name`. Raises UsageError with the known names otherwise."""
    sources = all_sources()
    if name not in sources:
        raise UsageError(f"unknown source {name!r}; known: {', '.join(sources)}")
    return sources[name]


def require(info: SourceInfo, root: Path, *relative: str) -> Path:
    """The first of the paths below `root` that exists.

    Raises:
        SourceLayout: none exists; the message shows the official layout.
    """
    for name in relative:
        if (root / name).exists():
            return root / name
    wanted = " or ".join(relative)
    layout = "; ".join(line.strip() for line in info.layout.strip().splitlines())
    raise SourceLayout(f"{info.name}: {root} lacks {wanted}. The official layout is: {layout}")


def chunks(sample: Sample, seconds: float) -> Iterator[Sample]:
    """The sample cut into pieces of `seconds` (appendix E.1: FaceForensics++ is cut into chunks of 3 s).

    A last piece shorter than half of `seconds` is joined to the one before. A video that cannot be opened is passed on
    whole, so that preprocessing records why.
    """
    length = _duration(sample.media)
    if length is None:
        yield sample
        return
    count = max(1, math.floor(length / seconds + 0.5))
    for n in range(count):
        end = length if n == count - 1 else (n + 1) * seconds
        yield dataclasses.replace(sample, id=f"{sample.id}#{n}", window=(n * seconds, end))


def _duration(path: Path) -> float | None:
    """Seconds by the container's header, None when it cannot be opened or states none."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return container.duration / 1_000_000 if container.duration else None
    except (FFmpegError, OSError):
        return None
