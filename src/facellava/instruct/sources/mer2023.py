"""MER2023 (Lian et al., ACM MM 2023): the unlabelled clips of its semi-supervised track (Table 12)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facellava.types import Sample

from .base import SourceInfo, require
from .fields import VIDEO_ENDINGS, check_split, reader

INFO = SourceInfo(
    name="mer2023",
    title="MER2023, unlabelled clips (2023)",
    task="expression",
    modality="video",
    licence="research only, signed agreement",
    redistribute=False,
    obtain="Send the signed agreement of http://merchallenge.cn/datasets.",
    citation="Z. Lian et al., MER 2023: Multi-label Learning, Modality Robustness, and Semi-Supervised Learning, "
    "ACM MM 2023",
    layout="""
        test3/sample_00000000.avi ... (or .mp4), the unlabelled clips
    """,
    splits=("train",),
    expected={"train": 73_148},
    tolerance=0.03,
    in_paper=False,
    labelled=False,
)


@reader(INFO)
def read(root: Path, split: str) -> Iterator[Sample]:
    """Every clip, without a label: the annotator names the expression."""
    wanted = check_split(INFO, split)
    for file in sorted(require(INFO, root, "test3").iterdir()):
        if file.suffix.lower() in VIDEO_ENDINGS:
            yield Sample(f"mer2023/{file.stem}", "mer2023", wanted, "expression", file.absolute(), "video", None)
