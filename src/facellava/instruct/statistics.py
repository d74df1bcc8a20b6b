"""What a build came to in numbers: Tables 2 and 11, appendix E.6, and what was dropped why. Plain data for JSON."""

from __future__ import annotations

import re
import statistics as stats
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from facellava import tasks
from facellava.instruct.distribution import distance, distribution
from facellava.instruct.records import CRITERIA, Instruction, Rejection, Stage
from facellava.types import Sample

COLUMNS = ("initial", "preprocessed", "annotated", "filtered", "train", "test")
"""Table 11's columns (initial, after preprocessing, after filtering), with what annotation and selection left."""
LOST_BEFORE: dict[str, tuple[Stage, ...]] = {
    "preprocessed": ("read", "preprocess"),
    "annotated": ("read", "preprocess", "annotate"),
    "filtered": ("read", "preprocess", "annotate", "rate", "filter"),
}
TOP_WORDS = 150
DURATION_STEP, DURATION_STEPS = 0.5, 20
"""Fig. 9 in bins of half a second; the last one holds everything longer."""


def summarize(read: Sequence[Sample], rows: Sequence[Instruction], rejected: Sequence[Rejection]) -> dict[str, Any]:
    """Everything that report, card and metadata say about a build; see the functions for the parts.

    Args:
        read: every sample of every source. rows: what is in the dataset. rejected: the ledger.
    """
    return {
        "rows": dict(sorted(Counter(row.subset for row in rows).items())),
        "media": _media(rows),
        "composition": composition(read, rows, rejected),
        "ratings": ratings(rows),
        "classes": classes(rows),
        "filtering": filtering(read, rejected),
        "test": distances_of_test(read, rows),
        "durations": durations(rows),
        "questions": questions(rows),
        "words": words(rows),
        "rejections": rejections(rejected),
        "provenance": provenance(rows),
    }


def _media(rows: Sequence[Instruction]) -> dict[str, int]:
    subjects = {(row.sample.source, row.sample.subject) for row in rows if row.sample.subject is not None}
    return {
        "images": sum(row.sample.kind == "image" for row in rows),
        "videos": sum(row.sample.kind == "video" for row in rows),
        "clips": len({row.clip for row in rows}),
        "subjects": len(subjects),
    }


def by_task(rows: Iterable[Instruction]) -> dict[str, list[Instruction]]:
    """Rows by task in the canonical order, tasks without rows left out."""
    found: dict[str, list[Instruction]] = defaultdict(list)
    for row in rows:
        found[row.sample.task].append(row)
    return {name: found[name] for name in tasks.all_tasks() if name in found}


def composition(
    read: Sequence[Sample], rows: Sequence[Instruction], rejected: Sequence[Rejection]
) -> list[dict[str, Any]]:
    """Table 11: for each source and task how many samples were left after which stage."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for sample in read:
        counts[sample.source, sample.task].update(("initial", *LOST_BEFORE))
    for rejection in rejected:
        lost = [column for column, stages in LOST_BEFORE.items() if rejection.stage in stages]
        counts[rejection.source, rejection.task].subtract(lost)
    for row in rows:
        counts[row.sample.source, row.sample.task][row.subset] += 1
    order = list(tasks.all_tasks())
    keys = sorted(counts, key=lambda key: (order.index(key[1]) if key[1] in order else len(order), key[0]))
    return [
        {"source": source, "task": task, **{column: counts[source, task][column] for column in COLUMNS}}
        for source, task in keys
    ]


def ratings(rows: Sequence[Instruction]) -> list[dict[str, Any]]:
    """Table 2: means of the four criteria, by task (``source`` empty) and by task and source; unrated rows left out."""
    table = []
    for task, own in by_task(row for row in rows if row.rating is not None).items():
        table.append(_means(task, "", own))
        names = sorted({row.sample.source for row in own})
        table += [_means(task, name, [row for row in own if row.sample.source == name]) for name in names]
    return table


def _means(task: str, source: str, rows: Sequence[Instruction]) -> dict[str, Any]:
    given = [row.rating for row in rows if row.rating is not None]
    means = {name: round(sum(getattr(r, name) for r in given) / len(given), 3) for name in CRITERIA}
    overall = Counter(r.overall for r in given)
    return {"task": task, "source": source, "n": len(given), **means, "overall_counts": _keyed(overall)}


def _keyed(counts: Counter[int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}


def classes(rows: Sequence[Instruction]) -> dict[str, Any]:
    """Fig. 11: class counts by task for the whole, for each subset and for each source."""
    found = {}
    for task, own in by_task(rows).items():
        record: dict[str, Any] = {"kind": tasks.get(task).kind}
        record["all"] = distribution(task, (r.sample for r in own)).to_json()
        for key, get in _GROUPINGS.items():
            names = sorted({get(row) for row in own})
            record[key] = {n: distribution(task, (r.sample for r in own if get(r) == n)).to_json() for n in names}
        found[task] = record
    return found


_GROUPINGS: dict[str, Callable[[Instruction], str]] = {
    "subset": lambda row: row.subset,
    "source": lambda row: row.sample.source,
}


def filtering(read: Sequence[Sample], rejected: Sequence[Rejection]) -> dict[str, Any]:
    """What the rating filter did to the classes: counts of all that were rated, and of those that passed."""
    stage = {r.sample: r.stage for r in rejected}
    found = {}
    for task in tasks.all_tasks():
        before = [s for s in read if s.task == task and stage.get(s.id, "select") in ("filter", "select")]
        after = [s for s in before if stage.get(s.id) != "filter"]
        if not before:
            continue
        one, two = distribution(task, before), distribution(task, after)
        found[task] = {
            "before": len(before),
            "after": len(after),
            "removed_share": round(1 - len(after) / len(before), 4),
            "distance": round(distance(one, two).value, 4),
            "classes": {name: [one.counts[name], two.counts[name]] for name in one.names},
        }
    return found


def distances_of_test(read: Sequence[Sample], rows: Sequence[Instruction]) -> dict[str, Any]:
    """How far the classes of the test rows are from those of the same sources as they were read (section 3.4)."""
    found = {}
    for task, own in by_task(row for row in rows if row.subset == "test").items():
        names = sorted({row.sample.source for row in own})
        chosen = distribution(task, (row.sample for row in own))
        gap = distance(chosen, distribution(task, (s for s in read if s.source in names)))
        overall = [row.rating.overall for row in own if row.rating]
        found[task] = {
            "n": len(own),
            "sources": names,
            "distance": round(gap.value, 4),
            "worst": gap.worst,
            "worst_difference": round(gap.worst_value, 4),
            "mean_overall": round(stats.fmean(overall), 3) if overall else None,
        }
    return found


def durations(rows: Sequence[Instruction]) -> dict[str, Any]:
    """Fig. 9: videos only, by task. Seconds, hours, and counts in bins of half a second."""
    found = {}
    for task, own in by_task(row for row in rows if row.sample.kind == "video").items():
        seconds = [row.duration for row in own]
        bins = Counter(min(int(s / DURATION_STEP), DURATION_STEPS) for s in seconds)
        found[task] = {
            "n": len(seconds),
            "hours": round(sum(seconds) / 3600, 4),
            "mean": round(stats.fmean(seconds), 3),
            "median": round(stats.median(seconds), 3),
            "longest": round(max(seconds), 3),
            "bins": [bins[n] for n in range(DURATION_STEPS + 1)],
        }
    return found


def questions(rows: Sequence[Instruction]) -> dict[str, Any]:
    """How often each question was drawn, by task; "image" and "video" count as one."""
    found = {}
    for task, own in by_task(rows).items():
        templates = tasks.get(task).questions
        by_text = {tasks.task.fill_media(t, kind): t for kind in ("image", "video") for t in templates}
        counts = Counter(by_text.get(row.question, row.question) for row in own)
        found[task] = {
            "of": len(templates),
            "used": len(counts),
            "most": max(counts.values()),
            "least": min(counts[t] for t in templates),
            "top": [[text, n] for text, n in _top(counts, 5)],
        }
    return found


def _top(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    """The largest counts, equal ones by name (``Counter.most_common`` goes by order of insertion)."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]


@cache
def stop_words() -> frozenset[str]:
    """Words that say nothing about a face."""
    text = (resources.files("facellava.instruct") / "templates" / "stopwords.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def words(rows: Sequence[Instruction]) -> dict[str, Any]:
    """Fig. 10: words of the descriptions by task, without stop words; labels such as ``Big_Nose`` are one word."""
    found = {}
    for task, own in by_task(rows).items():
        lengths, counts = [], Counter()
        for row in own:
            spoken = re.findall(r"[A-Za-z][A-Za-z0-9_'-]*", row.annotation.description)
            lengths.append(len(spoken))
            counts.update(
                w for w in (word.lower().strip("'-") for word in spoken) if w not in stop_words() and len(w) > 1
            )
        found[task] = {
            "mean": round(stats.fmean(lengths), 2),
            "median": stats.median(lengths),
            "distinct": len(counts),
            "identical_descriptions": len(own) - len({row.annotation.description for row in own}),
            "top": [[word, n] for word, n in _top(counts, TOP_WORDS)],
        }
    return found


def rejections(rejected: Sequence[Rejection]) -> list[dict[str, Any]]:
    """Reasons in the order of the stages, most frequent first, with the sources they hit."""
    counts: dict[tuple[Stage, str], Counter[str]] = defaultdict(Counter)
    for one in rejected:
        counts[one.stage, one.code][one.source] += 1
    stages: list[Stage] = ["read", "preprocess", "annotate", "rate", "filter", "select"]
    ordered = sorted(counts.items(), key=lambda item: (stages.index(item[0][0]), -item[1].total(), item[0][1]))
    return [
        {"stage": stage, "code": code, "n": by.total(), "sources": dict(sorted(by.items()))}
        for (stage, code), by in ordered
    ]


def provenance(rows: Sequence[Instruction]) -> dict[str, Any]:
    """Who described and who rated: service or kind, model, hash of the prompt, by task; with what it took."""
    made = Counter[tuple[str, str, str, str]]()
    rated = Counter[tuple[str, str, str, str]]()
    spent = Counter[str]()
    for row in rows:
        a, r = row.annotation, row.rating
        made[row.sample.task, a.annotator, a.model, a.prompt] += 1
        spent.update(annotator_calls=a.attempts, annotator_input=a.input_tokens, annotator_output=a.output_tokens)
        if r is not None:
            rated[row.sample.task, r.rater, r.model, r.prompt] += 1
            spent.update(rater_calls=r.attempts, rater_input=r.input_tokens, rater_output=r.output_tokens)
    return {"annotators": _made_by(made), "raters": _made_by(rated), "spent": dict(sorted(spent.items()))}


def _made_by(counts: Counter[tuple[str, str, str, str]]) -> list[dict[str, Any]]:
    keys = ("task", "by", "model", "prompt")
    return [{**dict(zip(keys, key, strict=True)), "n": n} for key, n in sorted(counts.items())]


# --- tables for a terminal ---


def table11_text(found: dict[str, Any]) -> str:
    """Table 11 of a build with its total."""
    lines = [f"{'source':<20}{'task':<14}" + "".join(f"{column:>14}" for column in COLUMNS)]
    for row in [*found["composition"], total(found)]:
        lines.append(f"{row['source']:<20}{row['task']:<14}" + "".join(f"{row[c]:>14,}" for c in COLUMNS))
    return "\n".join(lines)


def total(found: dict[str, Any]) -> dict[str, Any]:
    """The sum of Table 11's lines."""
    sums = {column: sum(row[column] for row in found["composition"]) for column in COLUMNS}
    return {"source": "total", "task": "", **sums}


def table2_text(found: dict[str, Any]) -> str:
    """Table 2 of a build, or that nothing was rated."""
    if not found["ratings"]:
        return "nothing was rated"
    lines = [f"{'task':<14}{'source':<20}{'n':>10}" + "".join(f"{name:>20}" for name in CRITERIA)]
    for row in found["ratings"]:
        lines.append(
            f"{row['task']:<14}{row['source'] or 'all':<20}{row['n']:>10,}"
            + "".join(f"{row[name]:>20.2f}" for name in CRITERIA)
        )
    return "\n".join(lines)
