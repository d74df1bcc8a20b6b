"""What the figures draw, the shipped model on one rendered head: ``measure.py FACES`` writes face.json beside itself.

FACES: the open faces (docs/dataset-card.md). The head is the first plainly smiling, frontal one of the renders' test
part (MakeHuman, CC0): a drawn face, nobody's photograph. ``draw.py`` needs face.json only.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

import facellava
from facellava.face import largest
from facellava.files import write_atomic

HERE = Path(__file__).resolve().parent
QUESTION = "What is the mouth doing?"
STRAIGHT, PLAIN = 5.0, 0.9
"""Degrees by which a frontal head is turned at most, and the weight of the smile at least."""


def chosen(faces: Path) -> dict[str, Any]:
    """The row of the head that is drawn."""
    rows = (json.loads(line) for line in (faces / "renders.jsonl").read_text(encoding="utf-8").splitlines())
    return next(
        row
        for row in rows
        if row["split"] == "test"
        and row["expression"] == "happy"
        and row["expression_intensity"] >= PLAIN
        and max(map(abs, row["pose"].values())) < STRAIGHT
    )


def measure(faces: Path) -> dict[str, Any]:
    """Landmarks (68, 2) in fractions of the crop, FRGCA's attention (7, 7, 9), the head's report, an answer."""
    row, model = chosen(faces), facellava.load(threads=1, progress=False)
    _, clips = model.clips(faces / row["file"])
    clip = largest(clips)
    seen = model.engine.look(clip)
    return {
        "source": row["file"],
        "model": model.name,
        "landmarks": np.round(clip.landmarks[0].astype(float), 3).tolist(),
        "attention": np.round(seen.patch_attention.astype(float), 3).tolist(),
        "report": seen.report,
        "question": QUESTION,
        "answer": model.ask(faces / row["file"], QUESTION),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    found = measure(parser.parse_args().faces)
    text = json.dumps(found, indent=1)
    write_atomic(HERE / "face.json", compact(text) + "\n")


def compact(text: str) -> str:
    """Lists of numbers on one line each."""
    return re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)


if __name__ == "__main__":
    main()
