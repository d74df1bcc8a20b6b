"""A run in a few lines for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.metrics import Interval
from facellava.evaluation.score import Scores

HEADINGS = {
    "uar": "UAR",
    "war": "WAR",
    "accuracy": "accuracy",
    "mean_f1": "mean F1",
    "mean_accuracy": "mean accuracy",
    "mean_balanced": "mean balanced accuracy",
    "mae": "MAE, years",
    "coverage": "answers with a number",
    "in_range": "true age in the stated range",
}
VIEW_NAMES = {"text": "parsed text", "typed": "scored labels"}


def shown(interval: Interval, digits: int = 3) -> str:
    """``0.512 [0.480, 0.541]``; an en dash for what is not defined."""
    if math.isnan(interval.value):
        return "–"
    if math.isnan(interval.low):
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def summary(benchmark: Benchmark, scores: Scores, heading: str) -> str:
    """The headline metrics with intervals, and what was not answered."""
    videos = " videos" if benchmark.vote else ""
    lines = [f"{benchmark.title}, {heading}: {scores.answered}{videos} of {scores.samples} samples counted"]
    for view, values in scores.views.items():
        for metric in benchmark.metrics:
            name = HEADINGS.get(metric, metric)
            lines.append(f"  {VIEW_NAMES[view]:<14} {name:<24} {shown(values[metric])}")
    if not math.isnan(scores.agreement):
        lines.append(f"  both agree     {scores.agreement:.3f}")
    for key in ("mean_auc", "ece"):
        if key in scores.probabilities:
            lines.append(f"  probabilities  {key:<24} {scores.probabilities[key]:.3f}")
    lines += _counts("no face clip", scores.excluded) + _counts("no answer", scores.failed)
    unread = {name: count for name, count in scores.outcomes.items() if name != "found"}
    lines += _counts("text without a label", unread)
    if scores.cut:
        lines.append(f"  cut off at the limit of tokens: {scores.cut}")
    if scores.abstained:
        lines.append(f"  abstained: {scores.abstained}")
    return "\n".join(lines)


def _counts(what: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    parts = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return [f"  {what}: {parts}"]
