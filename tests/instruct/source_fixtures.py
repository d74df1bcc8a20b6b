"""What a tiny copy of a dataset is, and the media that all of them share.

The copies themselves are in ``source_fixtures_expression`` and ``source_fixtures_others``: official file names and
formats, made-up people. Adding a dataset means adding a copy; a test fails otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from facellava.errors import FacellavaError, LabelUnknown
from facellava.types import LabelValue

CODECS = {"mp4": "libx264", "avi": "mpeg4", "flv": "flv"}
RATE, FRAMES = 4, 29
"""7.25 seconds: two pieces of 3 s, the rest joined to the second."""


@dataclass(frozen=True)
class Breakage:
    """A label that no documentation names, and what the reader must say about it.

    Attributes:
        do: changes one annotation below the root. says: regular expressions that the message must match.
        error: what is raised.
    """

    do: Callable[[Path], None]
    says: tuple[str, ...]
    error: type[FacellavaError] = LabelUnknown


@dataclass(frozen=True)
class Fixture:
    """A tiny copy of one dataset in its official layout.

    Attributes:
        source: name of the reader. build: writes the copy below a root.
        labels: split -> sample id -> label, by hand.
        annotations: files and folders that the reader needs, each group to be removed at once (a reader may need one of
            a group only). breakage: see there; None where nothing is labelled.
        options: further options that must be accepted. refused: option -> value that must not.
        free: options of which every value is a possible one.
    """

    source: str
    build: Callable[[Path], None]
    labels: Mapping[str, Mapping[str, LabelValue]]
    annotations: tuple[tuple[str, ...], ...]
    breakage: Breakage | None
    options: tuple[Mapping[str, object], ...] = ()
    refused: Mapping[str, object] = field(default_factory=dict)
    free: tuple[str, ...] = ()


@cache
def picture(form: str = "JPEG") -> bytes:
    """A picture of 24 x 32 pixels."""
    file = io.BytesIO()
    Image.fromarray((np.arange(24 * 32 * 3) % 251).reshape(24, 32, 3).astype(np.uint8)).save(file, form)
    return file.getvalue()


@cache
def clip(form: str) -> bytes:
    """A video of 7.25 seconds and 32 x 32 pixels."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(CODECS[form], rate=RATE, options={"threads": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((32, 32, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def put(root: Path, *files: str) -> None:
    """Media below the root, in the form that their names say."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = path.suffix.lower().lstrip(".")
        if ending in CODECS:
            path.write_bytes(clip(ending))
        else:
            path.write_bytes(picture("PNG" if ending == "png" else "JPEG"))


def write(root: Path, name: str, *lines: str) -> None:
    """A text file below the root."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of an annotation file: the first ``old`` becomes ``new``."""

    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text, f"{name} has no {old!r}"
        (root / name).write_text(text.replace(old, new, 1))

    return change


def rename(old: str, new: str) -> Callable[[Path], None]:
    """A change of a file's name."""
    return lambda root: (root / old).rename(root / new) and None


@cache
def fixtures() -> dict[str, Fixture]:
    """Every copy by the name of its source."""
    import source_fixtures_expression
    import source_fixtures_others

    found = [*source_fixtures_expression.FIXTURES, *source_fixtures_others.FIXTURES]
    return {fixture.source: fixture for fixture in found}
