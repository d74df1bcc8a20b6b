"""Which question goes with which sample (appendix E.3)."""

from __future__ import annotations

import dataclasses
from collections import Counter

from rows_world import make_row

from facellava import tasks
from facellava.instruct.compose import question_for


def test_a_question_depends_on_seed_and_sample_only() -> None:
    samples = [make_row(f"{n}", "age", n).sample for n in range(300)]
    first = [question_for(sample, 0) for sample in samples]
    assert [question_for(sample, 0) for sample in reversed(samples)] == first[::-1]
    assert [question_for(sample, 1) for sample in samples] != first
    assert question_for(dataclasses.replace(samples[0], label=99), 0) == first[0], "not on the label"


def test_all_questions_are_used_about_equally_often() -> None:
    for name in tasks.all_tasks():
        label = {"single": "x", "multi": (), "number": 5}[tasks.get(name).kind]
        counts = Counter(question_for(make_row(f"{n}", name, label).sample, 0) for n in range(5000))
        assert len(counts) == 100
        assert max(counts.values()) < 95, "50 each, give or take six standard deviations"


def test_the_medium_is_called_what_it_is() -> None:
    for name in tasks.all_tasks():
        label = {"single": "x", "multi": (), "number": 5}[tasks.get(name).kind]
        rows = [make_row(f"{n}", name, label, kind=kind) for n in range(400) for kind in ("image", "video")]
        for row in rows:
            words = set(question_for(row.sample, 0).lower().replace("?", " ").replace(".", " ").split())
            assert not {"{media}", "image" if row.sample.kind == "video" else "video"} & words
        asked = {row.sample.kind: question_for(row.sample, 0) for row in rows[:2]}
        assert asked["image"].replace("image", "video") == asked["video"], "the same question, the other word"
