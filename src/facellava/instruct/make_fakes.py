"""Writes the pictures of the open benchmark of manipulated portraits: ``python -m facellava.instruct.make_fakes``.

Of every portrait one genuine copy and one copy of each kind of manipulation (``fakes.KINDS``), cropped by the front
end and recompressed alike, with a ``labels.jsonl`` that the reader ``folder`` reads. A swap takes the face of another
person of the same split. Everything depends on the portraits' ids only, so that anyone makes the same pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facellava import weights
from facellava.errors import EmptyDataset, FacellavaError
from facellava.face import FaceFrontEnd, read_media
from facellava.files import write_atomic
from facellava.instruct.fakes import KINDS, make_fake, recompress
from facellava.instruct.sources import get
from facellava.types import FaceClip, Sample

MARGIN = 0.6
"""Of the crops: wide enough for the front end to find the face again."""


def portraits(root: Path, file: str, split: str) -> list[Sample]:
    """One sample a portrait, whatever it is labelled for."""
    found = get("folder").read(root, split, file=file)
    return sorted({sample.media: sample for sample in found}.values(), key=lambda sample: sample.id)


def crops(samples: Sequence[Sample]) -> Iterator[tuple[Sample, FaceClip]]:
    """The largest face of each portrait; a portrait without a usable one is left out with a line on why."""
    front = FaceFrontEnd(weights.resolve, margin=MARGIN)
    for sample in samples:
        try:
            clips = front.clips(read_media(sample.media))
        except FacellavaError as error:
            print(f"left out: {sample.id}: {error}")
            continue
        yield sample, max(clips, key=lambda clip: clip.quality.size)


def copies(
    faces: Sequence[tuple[Sample, FaceClip]],
) -> Iterator[tuple[Sample, str, np.ndarray]]:
    """(portrait, kind or ``none``, pixels uint8 (256, 256, 3)) of every portrait's copies."""
    for place, (sample, clip) in enumerate(faces):
        donor = faces[place - 1][1]  # the portrait before; the last one's for the first
        for kind in ("none", *KINDS):
            rng = np.random.default_rng(zlib.crc32(f"{sample.id}-{kind}".encode()))
            image = clip.frames[0]
            if kind != "none":
                image = make_fake(image, clip.landmarks[0], kind, rng, (donor.frames[0], donor.landmarks[0]))
            yield sample, kind, recompress(image, rng)


def write(root: Path, file: str, out: Path, splits: Sequence[str]) -> int:
    """Write pictures and ``labels.jsonl``; returns how many.

    Raises:
        EmptyDataset: fewer than two usable portraits in a split, so that no face can be swapped.
    """
    rows: list[dict[str, Any]] = []
    for split in splits:
        faces = list(crops(portraits(root, file, split)))
        if len(faces) < 2:
            raise EmptyDataset(f"{root} has {len(faces)} usable portraits in split {split}: two are needed")
        for sample, kind, pixels in copies(faces):
            name = f"{split}/{sample.media.stem}-{kind}.png"
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")  # what recompression left stays as it is
            write_atomic(out / name, buffer.getvalue())
            label = "real" if kind == "none" else "fake"
            row = {"file": name, "id": name, "split": split, "subject": sample.media.stem}
            rows.append({**row, "authenticity": label, "manipulation": kind})
    write_atomic(out / "labels.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder with the portraits and their table")
    parser.add_argument("out", type=Path)
    parser.add_argument("--file", default="congress.jsonl", help="the portraits' table (default: %(default)s)")
    parser.add_argument("--split", action="append", help="repeatable; default: test")
    args = parser.parse_args()
    count = write(args.root, args.file, args.out, args.split or ["test"])
    print(f"{count} pictures written to {args.out}")


if __name__ == "__main__":
    main()
