"""What moves in the default's training folder: clips frame by frame, and sequences made from stills of one head."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

from facellava.training.mirror import MIRROR

FRAMES = 4
"""Of each clip and each sequence."""
RETURNS = 0.5
"""How often the first of two stills comes back at the end."""
MOVING = ("clips", "sequences")
"""Sets of rows that are frames."""
_Rows = list[dict[str, Any]]


def sequences(rows: _Rows) -> tuple[_Rows, list[int]]:
    """The rows of a folder with sequences of stills after them, and the places whose features those repeat.

    A row has ``frames``: how many rows, itself the first, are one clip; 1 for a still, 0 inside of a clip. A sequence
    shows stills of one rendered head, of which at least two display different expressions; a still may stay for several
    frames, and the first of two may come back. Its rows have no labels: the stills themselves have them.
    """
    whole = [{**row, "frames": 1} for row in rows]
    for _, clip in groupby(whole, key=lambda row: row["id"].split("@")[0]):
        first, *others = clip
        if first["set"] == "clips":
            first["frames"] = 1 + len(others)
            for row in others:
                row["frames"] = 0
    stills: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row["set"] == "renders" and "expression" in row["labels"] and not row["id"].endswith(MIRROR):
            stills.setdefault(row["subject"], []).append(i)
    places: list[int] = []
    for subject, own in stills.items():
        if len({rows[i]["labels"]["expression"] for i in own}) < 2:
            continue
        rng = random.Random(subject)
        picked = rng.sample(own, min(len(own), rng.choice([2, 3, 3])))
        if len(picked) == 2 and rng.random() < RETURNS:
            picked.append(picked[0])
        turns = sorted(rng.choices(range(len(picked)), k=FRAMES - len(picked)) + list(range(len(picked))))
        places += [picked[turn] for turn in turns]
        for n, turn in enumerate(turns):
            still = rows[picked[turn]]
            row = {**still, "id": f"{subject}@{n}", "set": "sequences", "authenticity": None, "labels": {}}
            whole.append(row | {"frames": 0 if n else FRAMES})
    return whole, places
