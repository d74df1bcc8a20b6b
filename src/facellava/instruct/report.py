"""One HTML file about a build: tables, charts, word clouds, and pictures where the licence allows. No network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellava.files import write_atomic
from facellava.instruct import charts, statistics
from facellava.instruct.card import source_facts, template, uses
from facellava.instruct.clipstore import ClipStore, jpeg
from facellava.instruct.recipe import Recipe
from facellava.instruct.records import Instruction, Rejection
from facellava.types import LabelValue, Sample

SAMPLES_A_TASK = 4
FRAMES_SHOWN = 3
TILE = 128
"""Pixels of one shown crop's side."""
MOSAIC = 6
"""A blurred crop keeps so many cells a side, as ``--blur`` does elsewhere."""
MOST_BARS = 45

Chart = dict[str, str]


def write_report(
    path: Path,
    found: Mapping[str, Any],
    rows: Sequence[Instruction],
    rejected: Sequence[Rejection],
    clips: ClipStore,
    pixels: Callable[[Sample], bool],
    recipe: Recipe,
) -> None:
    """Write the report to `path`.

    Args:
        found: of ``statistics.summarize`` for these rows and rejections.
        pixels: whether a sample's pictures may be shown.
        recipe: ``export.blur`` makes the faces unrecognisable.

    Raises:
        MissingExtra: no ``jinja2``, ``matplotlib`` or ``wordcloud``.
    """
    facts = source_facts(recipe)
    examples: dict[tuple[str, str], str] = {}
    for one in sorted(rejected, key=lambda r: r.sample):
        examples.setdefault((one.stage, one.code), f"{one.sample}: {one.message}")
    text = template("report.html.j2", escape=True).render(
        found=found,
        recipe=recipe,
        columns=statistics.COLUMNS,
        total=statistics.total(dict(found)),
        paper={fact.name: fact.paper for fact in facts},
        examples=examples,
        charts=_charts(found),
        samples=[_shown(row, clips, pixels, recipe.export.blur) for row in chosen_samples(rows, pixels)],
        sources=facts,
        uses=uses(),
    )
    write_atomic(path, text)


def _charts(found: Mapping[str, Any]) -> dict[str, list[Chart]]:
    return {
        "classes": [_class_chart(task, record) for task, record in found["classes"].items() if record["all"]["counts"]],
        "filtering": [_filter_chart(task, record) for task, record in found["filtering"].items() if record["classes"]],
        "durations": [_duration_chart(task, record) for task, record in found["durations"].items()],
        "words": [_cloud(task, record) for task, record in found["words"].items() if record["top"]],
    }


def _class_chart(task: str, record: Mapping[str, Any]) -> Chart:
    names = list(record["all"]["counts"])[:MOST_BARS]
    series = {s: _shares(record["kind"], part, names) for s, part in sorted(record["subset"].items(), reverse=True)}
    axis = "active, % of the samples that cover the label" if record["kind"] == "multi" else "% of the labelled samples"
    alt = f"{task}: share of each class in " + " and ".join(series)
    return {"src": charts.bars(names, series, axis=axis, title=task), "alt": alt}


def _shares(kind: str, part: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    of = part.get("known", {}) if kind == "multi" else dict.fromkeys(names, part["n"])
    return [100 * part["counts"].get(name, 0) / of[name] if of.get(name) else 0.0 for name in names]


def _filter_chart(task: str, record: Mapping[str, Any]) -> Chart:
    names = list(record["classes"])[:MOST_BARS]
    series = {w: [record["classes"][name][n] for name in names] for n, w in enumerate(("before", "after"))}
    alt = f"{task}: samples of each class before and after filtering"
    return {"src": charts.bars(names, series, axis="samples", title=f"{task}, before and after filtering"), "alt": alt}


def _duration_chart(task: str, record: Mapping[str, Any]) -> Chart:
    step = statistics.DURATION_STEP
    edges = [f"{n * step:g}" for n in range(len(record["bins"]) - 1)] + [f"{(len(record['bins']) - 1) * step:g}+"]
    alt = f"{task}: durations of {record['n']:,} videos, mean {record['mean']:.2f} s"
    return {"src": charts.histogram(edges, record["bins"], axis="seconds (bin starts at)", title=task), "alt": alt}


def _cloud(task: str, record: Mapping[str, Any]) -> Chart:
    words = ", ".join(word for word, _ in record["top"][:5])
    return {
        "src": charts.word_cloud(dict(record["top"])),
        "alt": f"{task}: words of the descriptions, most often {words}",
    }


def chosen_samples(rows: Sequence[Instruction], pixels: Callable[[Sample], bool]) -> list[Instruction]:
    """A few rows of each task, those with pictures first; by digest of the id, so that nobody picked them."""
    found = []
    for own in statistics.by_task(rows).values():
        ranked = sorted(own, key=lambda r: (not pixels(r.sample), hashlib.sha256(r.sample.id.encode()).digest()))
        found += ranked[:SAMPLES_A_TASK]
    return found


def _shown(row: Instruction, clips: ClipStore, pixels: Callable[[Sample], bool], blur: bool) -> dict[str, Any]:
    sample = row.sample
    source = ""
    if pixels(sample):
        source = charts.address(jpeg(strip(clips.load(row.clip).frames, blur=blur), 85), "image/jpeg")
    return {
        "id": sample.id,
        "source": sample.source,
        "task": sample.task,
        "label": label_text(sample.label),
        "question": row.question,
        "description": row.annotation.description,
        "overall": row.rating.overall if row.rating else None,
        "src": source,
        "alt": f"{'blurred ' if blur else ''}face of sample {sample.id}",
    }


def strip(frames: NDArray[np.uint8], *, blur: bool) -> NDArray[np.uint8]:
    """First, middle and last crop side by side: uint8 (TILE, n * TILE, 3)."""
    from PIL import Image

    places = sorted({round(p) for p in np.linspace(0, len(frames) - 1, FRAMES_SHOWN)})
    tiles = []
    for place in places:
        image = Image.fromarray(frames[place])
        if blur:
            # averaged cells: what is gone cannot be sharpened back
            image = image.resize((MOSAIC, MOSAIC), Image.Resampling.BOX)
        tiles.append(np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC)))
    return np.concatenate(tiles, axis=1)


def label_text(label: LabelValue) -> str:
    """A label for people."""
    if isinstance(label, tuple):
        return ", ".join(label) or "none active"
    return "none given" if label is None else str(label)
