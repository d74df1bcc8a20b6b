"""Section 3.4: the test set is top-rated, distributed as its source, and shares nobody with training."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from rows_world import make_row

from facellava.errors import UsageError
from facellava.instruct.distribution import age_bin, distance, distribution
from facellava.instruct.recipe import HeldOutConfig, load_recipe
from facellava.instruct.records import Instruction
from facellava.instruct.select import largest_remainder, select


def expressions(counts: dict[str, int], *, per_subject: int = 1, **more) -> list[Instruction]:
    """So many rows of each label, rated 7 to 10 in turn, each subject having `per_subject` of them."""
    rows = []
    for label, count in counts.items():
        for n in range(count):
            subject = f"{label}{n // per_subject}"
            rows.append(make_row(f"{label}{n:04}", label=label, overall=7 + n % 4, subject=subject, **more))
    return rows


def labels(rows: list[Instruction], subset: str) -> Counter[str]:
    return Counter(str(row.sample.label) for row in rows if row.subset == subset)


def test_seats_follow_shares() -> None:
    # by hand: 10 seats for 47:16:15:22 are 4.7, 1.6, 1.5, 2.2; whole parts give 8, the largest rests the others
    assert largest_remainder({"a": 47, "b": 16, "c": 15, "d": 22}, 10) == {"a": 5, "b": 2, "c": 1, "d": 2}
    assert largest_remainder({"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}
    assert sum(largest_remainder({"a": 0.3, "b": 0.7}, 501).values()) == 501


def test_distances_by_hand() -> None:
    one = distribution("expression", (r.sample for r in expressions({"happiness": 3, "anger": 1})))
    two = distribution("expression", (r.sample for r in expressions({"happiness": 1, "anger": 1, "fear": 2})))
    gap = distance(one, two)
    assert gap.value == pytest.approx((0.5 + 0.0 + 0.5) / 2) and gap.worst_value == pytest.approx(0.5)
    units = [make_row(str(n), "action_units", label) for n, label in enumerate([("AU1",), ("AU1", "AU12"), (), ()])]
    other = [make_row(str(n), "action_units", ("AU12",)) for n in range(2)]
    gap = distance(*(distribution("action_units", (r.sample for r in rows)) for rows in (units, other)))
    names = len(units[0].sample.known)
    assert gap.value == pytest.approx((0.5 + 0.75) / names) and (gap.worst, gap.worst_value) == ("AU12", 0.75)
    assert [age_bin(n) for n in (0, 9, 10, 34, 100)] == ["0-9", "0-9", "10-19", "30-39", "100-109"]


def test_quotas_ratings_and_people() -> None:
    rows = expressions({"happiness": 400, "sadness": 200, "anger": 100}, per_subject=2)
    found = select(rows, HeldOutConfig(per_task=70), read=[r.sample for r in rows])
    assert labels(found.rows, "test") == {"happiness": 40, "sadness": 20, "anger": 10}, "as the source: 4 to 2 to 1"
    assert found.distances["expression"].value == pytest.approx(0, abs=1e-9)
    chosen = [row for row in found.rows if row.subset == "test"]
    # two rows a person, rated 7 and 8 or 9 and 10: who is in gets both, if both are needed
    assert {row.rating.overall for row in chosen if row.rating} <= {9, 10}
    people = {row.subset: set() for row in found.rows}
    for row in found.rows:
        people[row.subset].add(row.sample.subject)
    assert people["test"].isdisjoint(people["train"])
    assert len(found.rows) + len(found.rejected) == 700
    assert {(r.stage, r.code) for r in found.rejected} <= {("select", "test_subject")}
    (note,) = found.notes
    assert "70 of 70" in note and "0.000" in note


def test_order_of_the_rows_does_not_matter_but_the_seed_does() -> None:
    rows = expressions({"happiness": 90, "fear": 30})
    shuffled = random.Random(1).sample(rows, len(rows))
    first = select(rows, HeldOutConfig(per_task=12), seed=3)
    assert [(r.sample.id, r.subset) for r in first.rows] == [
        (r.sample.id, r.subset) for r in select(shuffled, HeldOutConfig(per_task=12), seed=3).rows
    ]
    other = select(rows, HeldOutConfig(per_task=12), seed=4)
    assert [r.subset for r in other.rows] != [r.subset for r in first.rows]


def test_nothing_is_shared_with_training(tmp_path: Path) -> None:
    rows = [
        *(
            make_row(f"{n}@age", "age", 20 + n, clip=f"c{n}", media=tmp_path / f"{n}.png", overall=10)
            for n in range(50)
        ),
        *(make_row(f"{n}@expression", clip=f"c{n}", media=tmp_path / f"{n}.png", overall=7) for n in range(50)),
        *(make_row(f"v{n}#{k}", clip=f"v{n}-{k}", media=tmp_path / f"v{n}.mp4") for n in range(20) for k in range(3)),
    ]
    found = select(rows, HeldOutConfig(per_task=10))
    sides: dict[str, dict[str, set]] = {s: {"clip": set(), "media": set()} for s in ("train", "test")}
    for row in found.rows:
        sides[row.subset]["clip"].add(row.clip)
        sides[row.subset]["media"].add(row.sample.media)
    assert sides["test"]["clip"] and sides["test"]["clip"].isdisjoint(sides["train"]["clip"])
    assert sides["test"]["media"].isdisjoint(sides["train"]["media"])
    codes = Counter(r.code for r in found.rejected)
    assert set(codes) <= {"test_clip", "test_medium", "test_subject"} and codes["test_clip"]
    assert all("of the test set" in r.message for r in found.rejected)


def test_small_builds_keep_their_training_data() -> None:
    rows = expressions({"happiness": 50, "sadness": 50})
    found = select(rows, HeldOutConfig(per_task=500, share=0.2))
    assert labels(found.rows, "test") == {"happiness": 10, "sadness": 10} and labels(found.rows, "train").total() == 80
    assert "20 of 500" in found.notes[0] and "20%" in found.notes[0]
    lonely = [*expressions({"happiness": 60}), *(make_row(f"z{n}", subject="one", label="fear") for n in range(40))]
    found = select(lonely, HeldOutConfig(per_task=10))
    assert labels(found.rows, "test")["fear"] == 0, "one person with all of a class would take it from training"
    assert "without fear" in found.notes[0]


def test_several_labels_keep_their_active_rates() -> None:
    rng = random.Random(0)
    rates = {"AU1": 0.1, "AU6": 0.4, "AU12": 0.6, "AU25": 0.8}
    rows = [
        make_row(
            f"{n:05}",
            "action_units",
            tuple(unit for unit, rate in rates.items() if rng.random() < rate),
            source="disfa",
            overall=rng.choice([8, 9, 10]),
        )
        for n in range(1200)
    ]
    found = select(rows, HeldOutConfig(per_task=100))
    chosen = [row for row in found.rows if row.subset == "test"]
    assert len(chosen) == 100
    whole = distribution("action_units", (r.sample for r in rows)).rates()
    mine = distribution("action_units", (r.sample for r in chosen)).rates()
    assert max(abs(mine[unit] - whole[unit]) for unit in rates) <= 0.01
    picked = select(rows, HeldOutConfig(per_task=40)).rows
    assert {r.rating.overall for r in picked if r.subset == "test" and r.rating} != {8}


def test_sources_are_the_named_ones_else_those_with_a_test_split() -> None:
    rows = [
        *expressions({"happiness": 40}, source="dfew"),
        *expressions({"happiness": 40}, source="mafw", split="test"),
    ]
    by_split = select(rows, HeldOutConfig(per_task=5))
    assert {r.sample.source for r in by_split.rows if r.subset == "test"} == {"mafw"}
    named = select(rows, HeldOutConfig(per_task=5, sources=("dfew",)))
    assert {r.sample.source for r in named.rows if r.subset == "test"} == {"dfew"}
    with pytest.raises(UsageError, match="celeba"):
        select(rows, HeldOutConfig(sources=("celeba",)))
    nothing = select(rows, HeldOutConfig(per_task=0))
    assert {r.subset for r in nothing.rows} == {"train"} and not nothing.rejected


def test_the_source_is_what_was_read_and_not_what_is_left() -> None:
    rows = expressions({"happiness": 300, "anger": 300})
    read = [r.sample for r in expressions({"happiness": 900, "anger": 300})]
    found = select(rows, HeldOutConfig(per_task=40), read=read)
    assert labels(found.rows, "test") == {"happiness": 30, "anger": 10}


def test_official_test_samples_train_only_where_nobody_minds() -> None:
    rows = [
        *expressions({"happiness": 60}),
        *(make_row(f"t{n}", split="test", subject=f"t{n}", source="dfew") for n in range(40)),
    ]
    found = select(rows, HeldOutConfig(per_task=10))
    trained = [row for row in found.rows if row.subset == "train" and row.sample.split == "test"]
    assert len(trained) == 30 and any("official test splits: 30 of dfew" in note for note in found.notes)
    strict = select(rows, HeldOutConfig(per_task=10, official="leave"))
    assert {row.sample.split for row in strict.rows if row.subset == "train"} == {"train"}
    assert Counter(r.code for r in strict.rejected) == {"official_test": 30}
    assert not any("official test splits" in note for note in strict.notes)
    none = select(rows, HeldOutConfig(per_task=0, official="leave"))
    assert len(none.rows) == 60 and len(none.rejected) == 40, "also without a test set of its own"


def test_the_open_faces_build_leaves_out_what_the_open_benchmarks_test(tmp_path: Path) -> None:
    recipe = load_recipe("open-faces", dict.fromkeys(("congress", "sfhq", "renders", "clips"), tmp_path))
    assert recipe.test.official == "leave"
