"""FFHQ (Karras et al., CVPR 2019): 70,000 portraits without labels.

The paper has a model annotate their attributes for its zero-shot setting of CelebA.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import check_split, reader

INFO = SourceInfo(
    name="ffhq",
    title="Flickr-Faces-HQ (2019)",
    task="attributes",
    modality="image",
    licence="CC BY-NC-SA 4.0; single pictures under CC BY, CC BY-NC, CC0 or public domain",
    redistribute=False,
    obtain="Run the script of https://github.com/NVlabs/ffhq-dataset.",
    citation="T. Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks, CVPR 2019",
    layout="""
        images1024x1024/00000/00000.png ... images1024x1024/69000/69999.png
    """,
    splits=("train", "val"),
    expected={"train": 60_000, "val": 10_000},
    in_paper=False,
    labelled=False,
)
FIRST_OF_VAL = 60_000
"""The first 60,000 are meant for training, the others for validation."""


@reader(INFO)
def read(root: Path, split: str) -> Iterator[Sample]:
    """The pictures of one split, without labels: the annotator names the attributes."""
    wanted = check_split(INFO, split)
    for file in sorted(require(INFO, root, "images1024x1024").rglob("*.png")):
        if not file.stem.isdecimal():
            continue
        if (int(file.stem) >= FIRST_OF_VAL) == (wanted == "val"):
            yield Sample(f"ffhq/{file.stem}", "ffhq", wanted, "attributes", file.absolute(), "image", None)
