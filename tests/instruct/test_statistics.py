"""What a build came to: every table by hand on a handful of rows."""

from __future__ import annotations

from rows_world import make_row

from facellava.instruct import statistics
from facellava.instruct.records import Instruction, Rejection, Stage
from facellava.types import Sample


def rejection(row: Instruction, stage: Stage, code: str = "why") -> Rejection:
    return Rejection(row.sample.id, row.sample.source, row.sample.task, stage, code, "so")


def world() -> tuple[list[Sample], list[Instruction], list[Rejection]]:
    """Ten expression samples of dfew, of which one falls at each stage; two ages of utkface."""
    rows = [make_row(f"{n}", label="happiness" if n < 6 else "fear", subject=f"s{n // 2}") for n in range(10)]
    ages = [make_row(f"u{n}", "age", 30 + 9 * n, source="utkface", overall=None, subset="test") for n in range(2)]
    stages: list[Stage] = ["read", "preprocess", "annotate", "rate", "filter", "select"]
    lost = [rejection(rows[n + 4], stage) for n, stage in enumerate(stages)]
    return [r.sample for r in [*rows, *ages]], [*rows[:4], *ages], lost


def test_table_11() -> None:
    found = statistics.summarize(*world())
    assert found["composition"] == [
        {
            "source": "dfew",
            "task": "expression",
            "initial": 10,
            "preprocessed": 8,
            "annotated": 7,
            "filtered": 5,
            "train": 4,
            "test": 0,
        },
        {
            "source": "utkface",
            "task": "age",
            "initial": 2,
            "preprocessed": 2,
            "annotated": 2,
            "filtered": 2,
            "train": 0,
            "test": 2,
        },
    ]
    total = statistics.total(found)
    assert (total["initial"], total["filtered"], total["train"], total["test"]) == (12, 7, 4, 2)
    text = statistics.table11_text(found).splitlines()
    assert text[0].split() == ["source", "task", *statistics.COLUMNS]
    assert text[-1].split() == ["total", "12", "10", "9", "7", "4", "2"]


def test_table_2_means_the_four_criteria() -> None:
    rows = [make_row("a", overall=9), make_row("b", overall=7), make_row("c", source="mafw", overall=8)]
    rows.append(make_row("d", overall=None))
    table = statistics.ratings(rows)
    assert [(row["source"], row["n"], row["overall"]) for row in table] == [
        ("", 3, 8.0),
        ("dfew", 2, 8.0),
        ("mafw", 1, 8.0),
    ]
    assert (table[0]["label_accuracy"], table[0]["description_media"], table[0]["description_label"]) == (7, 8, 9)
    assert table[1]["overall_counts"] == {"7": 1, "9": 1}
    assert "8.00" in statistics.table2_text({"ratings": table})
    assert statistics.table2_text({"ratings": []}) == "nothing was rated"


def test_classes_durations_media_and_subjects() -> None:
    rows = [
        make_row("v1", kind="video", subject="p"),
        make_row("v2", kind="video", subject="p", subset="test"),
        make_row("i1", label="fear", subject="q"),
        make_row("i2", "action_units", ("AU12",), clip="dfew-i1"),
    ]
    found = statistics.summarize([r.sample for r in rows], rows, [])
    assert found["rows"] == {"test": 1, "train": 3}
    assert found["media"] == {"images": 2, "videos": 2, "clips": 3, "subjects": 2}
    assert found["classes"]["expression"]["all"]["counts"] == {"happiness": 2, "fear": 1}
    assert found["classes"]["expression"]["subset"]["test"]["counts"] == {"happiness": 1}
    units = found["classes"]["action_units"]["all"]
    assert units["counts"]["AU12"] == 1 and units["counts"]["AU1"] == 0 and units["known"]["AU1"] == 1
    seconds = found["durations"]["expression"]
    assert (seconds["n"], seconds["mean"], seconds["hours"]) == (2, 1.2, round(2.4 / 3600, 4))
    assert seconds["bins"][2] == 2 and sum(seconds["bins"]) == 2, "1.2 s is in the third half second"
    assert found["durations"].keys() == {"expression"}


def test_before_and_after_the_filter() -> None:
    rows = [make_row(f"{n}", label="happiness" if n < 5 else "fear") for n in range(10)]
    lost = [rejection(rows[0], "preprocess"), *(rejection(rows[n], "filter", "overall_rating") for n in (1, 2, 9))]
    found = statistics.filtering([r.sample for r in rows], lost)["expression"]
    assert found["classes"] == {"happiness": [4, 2], "fear": [5, 4]} and (found["before"], found["after"]) == (9, 6)
    assert found["removed_share"] == round(3 / 9, 4) and found["distance"] == round(4 / 9 - 2 / 6, 4)


def test_words_and_questions() -> None:
    rows = [
        make_row("a", description="The lips and the lips' corners: Big_Nose, happy-looking."),
        make_row("b", description="The lips."),
        make_row("c", description="The lips."),
    ]
    found = statistics.words(rows)["expression"]
    counts = dict(map(tuple, found["top"]))
    assert counts["lips"] == 4 and counts["big_nose"] == 1 and "the" not in counts and "and" not in counts
    assert found["identical_descriptions"] == 1 and found["median"] == 2
    assert statistics.questions(rows)["expression"]["used"] == 1


def test_reasons_in_the_order_of_the_stages() -> None:
    rows = [make_row(f"{n}") for n in range(5)]
    lost = [
        rejection(rows[0], "filter", "overall_rating"),
        rejection(rows[1], "preprocess", "no_face"),
        rejection(rows[2], "preprocess", "several_faces"),
        rejection(rows[3], "preprocess", "several_faces"),
    ]
    assert [(r["stage"], r["code"], r["n"]) for r in statistics.rejections(lost)] == [
        ("preprocess", "several_faces", 2),
        ("preprocess", "no_face", 1),
        ("filter", "overall_rating", 1),
    ]


def test_provenance_names_who_described_and_rated() -> None:
    found = statistics.provenance([make_row("a"), make_row("b", overall=None)])
    assert found["annotators"] == [{"task": "expression", "by": "evidence", "model": "", "prompt": "", "n": 2}]
    assert found["raters"] == [{"task": "expression", "by": "rules", "model": "", "prompt": "", "n": 1}]
    assert found["spent"]["annotator_calls"] == 2 and found["spent"]["rater_calls"] == 1
