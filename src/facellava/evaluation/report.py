"""The report of a folder of runs: the paper's tables with ours beside them, and a page of evidence for each run.

One HTML file that loads nothing, the same tables in Markdown, and one LaTeX file a table.
"""

from __future__ import annotations

import html
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facellava.errors import FacellavaError
from facellava.evaluation import published, render
from facellava.evaluation.compare import compare_runs
from facellava.evaluation.fairness import by_group
from facellava.evaluation.metrics import Interval, SingleAnswers, reliability
from facellava.evaluation.runs import Run, find_runs, judged, own_table, rows_for
from facellava.evaluation.score import VIEWS, View, arrays, label_truth, predicted
from facellava.evaluation.summary import HEADINGS, VIEW_NAMES, shown
from facellava.files import write_atomic
from facellava.instruct.charts import curve, heatmap, png
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.report import strip

TEMPLATE_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1,h2,h3{line-height:1.2}h2{margin-top:3rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-size:.88rem;display:block;overflow-x:auto;margin:1rem 0}
caption{text-align:left;font-weight:600;padding:.4rem 0}th,td{padding:.25rem .6rem;border-bottom:1px solid #e5e5e5}
td{text-align:right;font-variant-numeric:tabular-nums}th[scope=row]{text-align:left;font-weight:400}
tr.ours th,tr.ours td{background:#eef6ee}tbody th[scope=rowgroup]{text-align:left;font-style:italic}
tfoot td,tfoot li{text-align:left;color:#555}.faces{display:flex;flex-wrap:wrap;gap:1rem}
.faces figure{width:11rem;margin:0}.faces img{width:100%;border-radius:4px}
figcaption{font-size:.8rem;overflow-wrap:anywhere}
.notice{background:#f6f3ea;border-left:4px solid #c9a227;padding:.6rem 1rem}
"""
WORST = 8
"""Failure cases shown of each run."""


def write_report(folder: Path, out: Path, *, blur: bool = False, groups: bool = True) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``tableN.tex`` to ``out``; returns the files.

    Args:
        folder: of runs (``facellava eval --out``).
        blur: blur the faces of failure cases. groups: errors by group where the benchmark has annotations.

    Raises:
        FileMissing: no finished run. MissingExtra: matplotlib, or fairlearn for groups.
    """
    runs = find_runs(folder)
    tables = tables_of(folder, runs)
    page = ["<h1>Evaluation</h1>", _notice(), "<h2>Tables</h2>", *(render.html(t, rows) for t, rows in tables)]
    text = ["# Evaluation", *(render.markdown(t, rows) for t, rows in tables)]
    comparisons = _comparisons(runs)
    page.append(_comparisons_html(comparisons))
    text.append(_comparisons_text(comparisons))
    page += [_run_page(run, folder, blur, groups) for run in runs]
    files = {"report.html": _document(page), "report.md": "\n\n".join(text) + "\n"}
    files |= {f"table{t.number or '-open'}.tex": render.latex(t, rows) for t, rows in tables}
    for name, content in files.items():
        write_atomic(out / name, content)
    return [out / name for name in files]


def tables_of(folder: Path, runs: Sequence[Run]) -> list[tuple[published.Table, list[render.OurRow]]]:
    """Our own table first, then each published one, with what our runs put into it."""
    found = []
    if (own := own_table(runs)) is not None:
        found.append(own)
    marks = {}
    for judge, by_title in judged(folder, runs).items():
        marks |= {f"{title}, judged by {judge}": means for title, means in by_title.items()}
    return found + [(table, rows_for(table, runs, marks)) for table in published.all_tables()]


def _notice() -> str:
    return (
        "<p class='notice'>Displayed expression is what a face shows, not what a person feels. Ages are estimates. "
        "&ldquo;Fake&rdquo; is a hint, never proof. Published numbers come from other data, crops and models than "
        "ours: rows marked as measured by us were computed by this program.</p>"
    )


def _document(parts: Sequence[str]) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Evaluation</title>"
        f"<meta http-equiv='Content-Security-Policy' content=\"{policy}\">"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<style>{TEMPLATE_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


# --- paired comparisons ---


def _comparisons(runs: Sequence[Run]) -> list[list[str]]:
    """One line for each pair of runs on one benchmark: metric, difference, chance."""
    found = []
    for one, other in itertools.combinations(runs, 2):
        if one.benchmark.name != other.benchmark.name:
            continue
        views = _view(one), _view(other)
        metric = one.benchmark.metrics[0]
        result = compare_runs(one.benchmark, one.records, other.records, views, metric, draws=500)
        if result is None:
            continue
        names = [f"{run.title} ({VIEW_NAMES[view]})" for run, view in zip((one, other), views, strict=True)]
        found.append(
            [
                one.benchmark.title,
                HEADINGS.get(metric, metric),
                " minus ".join(names),
                shown(result.difference),
                f"{result.p_value:.3g}",
                str(result.n),
            ]
        )
    return found


def _view(run: Run) -> View:
    return next(view for view in VIEWS if view in run.scores["views"])


COMPARED = ("benchmark", "metric", "difference of", "value [95 %]", "p", "n")


def _comparisons_html(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{name}</th>" for name in COMPARED)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>Paired comparisons</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _comparisons_text(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = ["## Paired comparisons", "", f"| {' | '.join(COMPARED)} |", "|" + "---|" * len(COMPARED)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows)])


# --- one run ---


def _run_page(run: Run, folder: Path, blur: bool, groups: bool) -> str:
    title = html.escape(f"{run.benchmark.title}: {run.title}")
    parts = [f"<h2>{title}</h2>", f"<p>{html.escape(run.benchmark.protocol)}</p>", _facts(run)]
    answered = [r for r in run.records if r.status == "answered"]
    shown_views: list[View] = [v for v in VIEWS if v in run.scores["views"]]
    for view in shown_views:
        parts.append(_metrics_table(run, view))
        found = arrays(run.benchmark, answered, view).answers
        if isinstance(found, SingleAnswers):
            columns = [*found.names, "no label"]
            chart = heatmap(found.names, columns, found.confusion(), axis=VIEW_NAMES[view], title="Truth by answer")
            parts.append(_image(chart, f"confusion matrix of {VIEW_NAMES[view]}"))
    parts += [_reliability(run), _groups(run) if groups else "", _failures(run, folder, blur)]
    return "".join(parts)


def _facts(run: Run) -> str:
    scores, same = run.scores, run.about["same"]
    facts = {
        "samples": scores["samples"],
        "counted": scores["answered"],
        "without a face clip": scores["excluded"],
        "without an answer": scores["failed"],
        "parsing": scores["outcomes"],
        "cut off": scores.get("cut"),
        "abstained": scores["abstained"],
        "text and label agree": scores["agreement"],
        "identity": same["identities"],
        "data": same["data"],
        "version": run.about["version"],
    }
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td>{html.escape(json.dumps(value))}</td></tr>"
        for name, value in facts.items()
        if value not in (None, {})
    )
    return f"<table><caption>What was counted</caption><tbody>{rows}</tbody></table>"


def _metrics_table(run: Run, view: View) -> str:
    rows = []
    for name, found in run.scores["views"][view].items():
        if found["value"] is None:
            continue
        low, high = (math.nan if found[end] is None else found[end] for end in ("low", "high"))
        strict = run.scores["strict"].get(view, {}).get(name)
        cells = (
            f"<td>{shown(Interval(found['value'], low, high))}</td><td>{'' if strict is None else f'{strict:.3f}'}</td>"
        )
        rows.append(f"<tr><th scope='row'>{html.escape(str(HEADINGS.get(name, name)))}</th>{cells}</tr>")
    head = "<tr><th scope='col'>metric</th><th scope='col'>value [95 %]</th><th scope='col'>unanswered wrong</th></tr>"
    caption = VIEW_NAMES[view].capitalize()
    return f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _image(address: str, alt: str) -> str:
    return f"<p><img src='{address}' alt='{html.escape(alt)}'></p>"


def _reliability(run: Run) -> str:
    pairs = [
        (p, truth[name])
        for r in run.records
        if r.probabilities
        for truth in [label_truth(run.benchmark, r)]
        for name, p in r.probabilities.items()
        if name in truth
    ]
    if not pairs:
        return ""
    table = reliability(np.array([p for p, _ in pairs]), np.array([t for _, t in pairs], bool))
    chart = curve(
        [b.confidence for b in table],
        [b.frequency for b in table],
        x_axis="stated probability",
        y_axis="share that holds",
        title="Reliability",
    )
    found = run.scores["probabilities"]
    facts = ", ".join(f"{k} {found[k]:.3f}" for k in ("mean_auc", "ece", "brier") if found.get(k) is not None)
    return f"<h3>Probabilities</h3><p>{facts}</p>{_image(chart, 'reliability diagram')}"


def _groups(run: Run) -> str:
    if not run.benchmark.groups:
        return ""
    found = by_group(run.benchmark, run.folder)
    return f"<h3>By group</h3><pre>{html.escape(found.text())}</pre>" if found.groupings else ""


def _failures(run: Run, folder: Path, blur: bool) -> str:
    """The faces on which the answer was most wrong, as far as clips are at hand."""
    store, view = ClipStore(folder / "clips"), _view(run)
    wrong = sorted((r for r in run.records if r.status == "answered" and r.clip), key=_badness(run, view), reverse=True)
    figures = []
    for record in wrong[:WORST]:
        if _badness(run, view)(record) <= 0 or record.clip not in store:
            continue
        try:
            frames = store.load(record.clip).frames
        except FacellavaError:
            continue  # a picture is an illustration here; the numbers do not need it
        picture = png(strip(frames[:1], blur=blur))
        said = html.escape(f"{record.id}. Truth: {_words(record.truth)}. Answer: {_words(predicted(record, view))}.")
        figures.append(f"<figure><img src='{picture}' alt='a face'><figcaption>{said}</figcaption></figure>")
    return f"<h3>Failure cases</h3><div class='faces'>{''.join(figures)}</div>" if figures else ""


def _badness(run: Run, view: View) -> Callable[[Any], float]:
    def measure(record: Any) -> float:
        guess, truth = predicted(record, view), record.truth
        if run.benchmark.spec.kind == "number":
            return -1.0 if guess is None else abs(float(guess) - float(truth))
        if isinstance(truth, tuple):
            said = set(guess) if isinstance(guess, tuple) else set()
            return float(len((said ^ set(truth)) & set(record.known)))
        sure = record.probabilities.get(str(guess), 0.5)
        return 0.0 if guess == truth else 1.0 + sure

    return measure


def _words(label: Any) -> str:
    if label is None:
        return "none"
    return (", ".join(label) or "nothing") if isinstance(label, tuple) else str(label)
