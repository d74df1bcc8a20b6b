"""The finished runs of a folder, and what they put into which table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from facellava import settings
from facellava.errors import FileMissing
from facellava.evaluation import published
from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.judge import CRITERIA, MARKS, load_marks, mean_marks
from facellava.evaluation.records import RUN, SCORES, Record, read_records
from facellava.evaluation.render import OurRow, Value
from facellava.evaluation.score import VIEWS
from facellava.evaluation.summary import HEADINGS, VIEW_NAMES
from facellava.files import read_json

TABLE_10: Mapping[str, str] = dict(zip(CRITERIA, ("reason_video", "reason_gt", "completeness"), strict=True))
"""Criterion -> the metric's beginning in the published table."""
LOWER_IS_BETTER = {"mae", "ece", "brier"}
TWO_DIGITS = {"mae", "bias"}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what determined it, and its numbers as they were written."""

    folder: Path
    about: Mapping[str, Any]
    scores: Mapping[str, Any]
    twin: bool = False

    @property
    def title(self) -> str:
        """The respondent's name in tables, with the run's where others have the same."""
        return f"{self.about['title']} [{self.folder.name}]" if self.twin else self.about["title"]

    @property
    def part(self) -> str:
        """What of the benchmark was tested, where it was not all of it; "" otherwise."""
        whole = self.benchmark.samples
        if self.about["limit"]:
            return f"at most {self.about['limit']} samples of each source and fold"
        if self.about["folds"]:
            return f"fold {', '.join(map(str, self.about['folds']))} only"
        if whole and self.about["samples"] != whole:
            return f"{self.about['samples']:,} of {whole:,} samples were at hand"
        return ""

    @property
    def setting(self) -> str:
        """``zero-shot``, ``fine-tuned``, or what the user said."""
        return self.about["setting"]

    @cached_property
    def benchmark(self) -> Benchmark:
        """The protocol that was followed."""
        return settings.build(Benchmark, self.about["same"]["benchmark"], str(self.folder))

    @cached_property
    def records(self) -> list[Record]:
        """Every sample."""
        return read_records(self.folder)

    def value(self, view: str, metric: str) -> Value | None:
        """A metric with its interval; None where it is not defined."""
        found = self.scores["views"].get(view, {}).get(metric)
        if found is None or found["value"] is None:
            return None
        return Value(found["value"], found["low"], found["high"], self.scores["answered"], self.part)


def find_runs(folder: Path) -> list[Run]:
    """Every finished run below a folder of runs, by benchmark and name.

    Raises:
        FileMissing: there is none. DamagedFile: one cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"*/*/{RUN}")):
        scores = path.parent / SCORES
        if scores.is_file():
            found.append(Run(path.parent, read_json(path), read_json(scores)))
    names_of: dict[str, set[str]] = {}
    for run in found:
        names_of.setdefault(run.about["title"], set()).add(run.folder.name)
    # two runs of one title would stand in one row
    found = [replace(run, twin=len(names_of[run.about["title"]]) > 1) for run in found]
    if not found:
        raise FileMissing(f"{folder} holds no finished run: run 'facellava eval BENCHMARK --out {folder}' first")
    return found


def rows_for(table: published.Table, runs: Sequence[Run], marks: Mapping[str, Mapping[str, float]]) -> list[OurRow]:
    """What our runs put into a published table: one row for each respondent, setting and view.

    Args:
        marks: respondent's title -> metric of Table 10 -> mean.
    """
    values: dict[tuple[str, str], dict[str, Value]] = {}
    for run in runs:
        for view in VIEWS:
            name = _method(run, view)
            for column in table.columns:
                if column.benchmark == run.benchmark.name and (value := run.value(view, column.metric)) is not None:
                    values.setdefault((name, run.setting), {})[column.key] = value
    if table.number == 10:
        for title, means in marks.items():
            found = {c.key: Value(means[c.metric]) for c in table.columns if c.metric in means}
            if found:
                values[title, "judged here"] = found
    return [OurRow(method, setting, row) for (method, setting), row in values.items()]


def _method(run: Run, view: str) -> str:
    """The name, with the view where a run has both."""
    return f"{run.title}, {VIEW_NAMES[view]}" if len(run.scores["views"]) > 1 else run.title


def own_table(runs: Sequence[Run]) -> tuple[published.Table, list[OurRow]] | None:
    """Runs on benchmarks that no published table has, such as the open faces, as one table; None without any."""
    known = {column.benchmark for table in published.all_tables() for column in table.columns}
    others = {run.benchmark.name: run.benchmark for run in runs if run.benchmark.name not in known}
    if not others:
        return None
    columns = [
        published.Column(
            key=f"{name}_{metric}",
            heading=HEADINGS.get(metric, metric),
            metric=metric,
            group=benchmark.title,
            benchmark=name,
            higher_is_better=metric not in LOWER_IS_BETTER,
            decimals=2 if metric in TWO_DIGITS else 3,
        )
        for name, benchmark in others.items()
        for metric in benchmark.metrics
    ]
    caption = "Values with 95 % intervals over people. Parsed text: the paper's protocol. Scored labels: typed answers."
    table = published.Table(0, "Measured by this program", caption, tuple(columns), ())
    return table, rows_for(table, [run for run in runs if run.benchmark.name in others], {})


def judged(folder: Path, runs: Sequence[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Judge -> respondent's title -> metric of Table 10 -> mean mark."""
    titles = {run.folder.relative_to(folder).as_posix(): f"{run.title}, {run.setting}" for run in runs}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted((folder / "judge").glob(f"*/{MARKS}")):
        by_title: dict[str, list[Any]] = {}
        for mark in load_marks(path):
            by_title.setdefault(titles.get(mark.run, mark.run), []).append(mark)
        found[path.parent.name] = {
            title: {f"{TABLE_10[criterion]}.{task}": mean for (criterion, task), (mean, _) in mean_marks(given).items()}
            for title, given in by_title.items()
        }
    return found
