"""What moves in the default's training folder: which rows are frames of one clip, and sequences made from stills."""

from __future__ import annotations

from itertools import pairwise

import pytest

from facellava.training.sequences import FRAMES, sequences


def row(name: str, kind: str, expression: int | None, subject: str) -> dict:
    labels = {} if expression is None else {"expression": expression}
    return {"id": name, "set": kind, "split": "train", "subject": subject, "authenticity": None, "labels": labels}


CLIP = [row(f"c1@{n}", "clips", None if n == 8 else n and 3, "c1") for n in (0, 8, 15)]
STILLS = [
    row("r1", "renders", 4, "a"),
    row("r1-mirror", "renders", 4, "a"),
    row("r2", "renders", 0, "a"),
    row("r3", "renders", None, "a"),
    row("r4", "renders", 4, "b"),
    row("r5", "renders", 4, "b"),
    row("s1", "sfhq", 4, "s1"),
]


def test_a_clip_is_one_conversation_of_its_frames_and_a_still_one_of_itself() -> None:
    rows, _ = sequences(CLIP + STILLS)
    assert [r["frames"] for r in rows[: len(CLIP + STILLS)]] == [3, 0, 0] + [1] * len(STILLS)
    assert [r["labels"] for r in rows[:3]] == [r["labels"] for r in CLIP], "a frame keeps what is known of it"


def test_a_sequence_shows_one_head_with_at_least_two_expressions() -> None:
    before = CLIP + STILLS
    rows, places = sequences(before)
    added = rows[len(before) :]
    assert len(added) == len(places) == FRAMES, "only head a displays two expressions"
    assert [r["frames"] for r in added] == [FRAMES] + [0] * (FRAMES - 1)
    assert {before[p]["id"] for p in places} == {"r1", "r2"}, "mirror images and unlabelled stills stay out"
    assert all(r["labels"] == {} and r["set"] == "sequences" and r["subject"] == "a" for r in added)
    again = [before[p]["id"] for p in places]
    assert sum(a != b for a, b in pairwise(again)) == 1, "a still stays, and does not come back"


def test_frames_are_those_of_the_medium(shared_dir) -> None:
    from facellava.instruct.open_faces import read_clips

    clips = list(read_clips(shared_dir / "faces", FRAMES))
    assert len(clips) == 240
    by_name = {clip[0].id: clip for clip in clips}
    happy = by_name["c000@0"]  # intensity .651; of it 0, .5, .751 and .502 in frames 0, 7, 15 and 23
    assert [face.id for face in happy] == ["c000@0", "c000@7", "c000@15", "c000@23"]
    assert [face.time for face in happy] == pytest.approx([0, 7 / 12, 15 / 12, 23 / 12])
    assert [face.expression for face in happy] == ["neutral", None, None, None], "below .55 hard to see"
    assert happy[0].action_units["AU12"] is False
    assert happy[2].action_units["AU12"] is True, ".554 at the apex, .416 here"
    assert "AU25" not in happy[1].action_units, ".241 at the apex, .12 here: unknown"
    steady = next(clip for clip in clips if clip[1].expression == "neutral")
    assert {face.expression for face in steady} == {"neutral"}
