"""A table of ablations: every row trained with several seeds by one recipe, and tested on the same faces.

A row's result is a file, so that a table that was stopped goes on where it was. The score is the label that the model
finds most probable; intervals are over seeds (Student's t) for the mean, and the paper's numbers stand beside ours.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facellava import settings, tasks
from facellava.errors import FacellavaError, FileMissing, UsageError
from facellava.files import write_atomic
from facellava.model.config import TABLE_6
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.tasks.task import Task
from facellava.training.assemble import assemble
from facellava.training.experts import expert_digests
from facellava.training.features import FaceInputs, FeatureCache, Inputs, identity
from facellava.training.recipe import DataConfig, TrainRecipe, load_recipe
from facellava.training.run import train
from facellava.training.talks import Corpus, load_corpus, open_folder

_T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Two-sided 95 % quantiles of Student's t for a mean of so many values."""


@dataclass(frozen=True)
class RowConfig:
    """A row of a table.

    Attributes:
        name, label: for programs and people. paper: published UAR and WAR, empty where there are none.
        fusion: a name of ``TABLE_6``. set: further changes of the recipe.
    """

    name: str
    label: str
    paper: tuple[float, ...] = ()
    fusion: str = ""
    set: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class TableConfig:
    """A table of the paper.

    Attributes:
        number, title: the paper's. recipe: of every row. task: that is tested. published: what its numbers are of.
    """

    number: int
    title: str
    recipe: str
    task: str
    published: str
    rows: tuple[RowConfig, ...]


def load_table(name: str) -> TableConfig:
    """A shipped table.

    Raises:
        FileMissing: there is no such table.
    """
    folder = resources.files("facellava.training") / "tables"
    names = sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    if name not in names:
        raise FileMissing(f"there is no table {name}; shipped: {', '.join(names)}")
    raw = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    return settings.build(TableConfig, raw, name)


def run_table(
    table: TableConfig,
    data: Mapping[str, Path],
    test: Path,
    out: Path,
    *,
    seeds: int = 3,
    rows: Sequence[str] = (),
    changes: Mapping[str, str] | None = None,
    show: Callable[[str], None] = print,
) -> str:
    """Train and test every row; the table as Markdown, also written to ``OUT/table.md`` and ``table.json``.

    Args:
        data: row -> dataset; the key "" serves every row without one of its own.
        test: a dataset whose held-out part is tested; its people must not be in the training data.
        rows: some of the table's; all by default. changes: of the recipe, as for ``load_recipe``.

    Raises:
        UsageError: unknown rows, or a row without data.
    """
    chosen = [row for row in table.rows if not rows or row.name in rows]
    if unknown := set(rows) - {row.name for row in table.rows}:
        raise UsageError(f"there is no row {min(unknown)}; rows: {', '.join(row.name for row in table.rows)}")
    if lacking := [row.name for row in chosen if row.name not in data and "" not in data]:
        raise UsageError(f"row {lacking[0]} has no data: give --data {lacking[0]}=DIR, or --data DIR for all")
    results: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for row in chosen:
            recipe = row_recipe(table, row, seed, data.get(row.name, data.get("", Path())), out, changes or {})
            results.setdefault(row.name, []).append(run_row(table, recipe, row, seed, test, out, show))
    text = markdown(table, chosen, results)
    write_atomic(out / "table.md", text)
    write_atomic(out / "table.json", json.dumps(results, indent=1) + "\n")
    return text


def row_recipe(
    table: TableConfig, row: RowConfig, seed: int, data: Path, out: Path, changes: Mapping[str, str]
) -> TrainRecipe:
    """The table's recipe with a row's changes, the user's own last."""
    merged = {"seed": str(seed), "data.paths": json.dumps([str(data.resolve())]), "name": f"{row.name}-{seed}"}
    merged["data.cache"] = str((out / "features").resolve())
    merged |= {key: json.dumps(value) for key, value in row.set.items()}
    if row.fusion:
        fusion = dataclasses.asdict(TABLE_6[row.fusion])
        merged |= {f"model.fusion.{key}": json.dumps(value) for key, value in fusion.items() if key != "heads"}
    return load_recipe(table.recipe, merged | dict(changes))


def run_row(
    table: TableConfig,
    recipe: TrainRecipe,
    row: RowConfig,
    seed: int,
    test: Path,
    out: Path,
    show: Callable[[str], None],
) -> dict[str, float]:
    """One row with one seed: from its file, or trained and tested now."""
    path = out / "results" / f"{row.name}-{seed}.json"
    folders = [str(folder) for folder in (*recipe.data.paths, test)]
    same = {"recipe": recipe.hash, "data": [open_folder(Path(folder)).digest for folder in folders]}
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if {key: known.get(key) for key in same} == same:
            return known["scores"]
    folder = out / "runs" / f"{row.name}-{seed}"
    final = train(recipe, folder, show=lambda _line: None)
    scores = score_model(final, recipe, table.task, test, out / "features")
    write_atomic(path, json.dumps({**same, "scores": scores}, indent=1) + "\n")
    shutil.rmtree(folder)  # a table is kept, not its thirty models
    show(f"{row.name}, seed {seed}: UAR {scores['uar']:.3f}, WAR {scores['war']:.3f}, n={scores['n']:.0f}")
    return scores


# --- testing ---


def score_model(final: Path, recipe: TrainRecipe, task: str, test: Path, cache: Path) -> dict[str, float]:
    """UAR and WAR on the held-out part of a dataset, with its size."""
    corpus = load_corpus(DataConfig((str(test),), tasks=(task,)))
    found = assemble(dataclasses.replace(recipe.model, start=str(final)), corpus)
    inputs = make_inputs(corpus, found.model, found.processor, cache)
    truth, guesses = [], []
    for talk in corpus.held_out:
        if talk.task != task:
            continue
        try:
            seen = inputs(talk)
        except FacellavaError:
            continue
        truth.append(talk.labels[task])
        guesses.append(most_probable(found.model.eval(), found.processor, seen, inputs.frames(talk), tasks.get(task)))
    return recalls(np.array(truth), np.array(guesses))


def make_inputs(
    corpus: Corpus, model: FaceLlavaForConditionalGeneration, processor: FaceLlavaProcessor, cache: Path
) -> FaceInputs:
    """Inputs with the table's cache of features."""
    found = FeatureCache(cache, identity(processor.config, model.vision_tower, expert_digests()))
    return FaceInputs(corpus, processor, found, model.vision_tower)


@torch.no_grad()
def most_probable(
    model: FaceLlavaForConditionalGeneration, processor: FaceLlavaProcessor, seen: Inputs, frames: int, task: Task
) -> str:
    """The label whose words, after the task's own question and prefix, the model finds most probable."""
    closed = task.closed
    visual = {name: value[None].float() for name, value in seen.items()}
    opening = processor.render([{"role": "user", "content": closed.question}], frames, False).ids
    opening += processor.tokenizer.encode(closed.prefix, add_special_tokens=False)
    words = [processor.tokenizer.encode(f" {name}", add_special_tokens=False) for name in task.names]
    width = max(map(len, words))
    # one row a label; what pads a row comes after what is scored, so that causal attention never sees it
    ids = torch.tensor([opening + w + [w[-1]] * (width - len(w)) for w in words])
    rows = {name: value.expand(len(words), *value.shape[1:]) for name, value in visual.items()}
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=width + 1, **rows).logits
    scores = logits[:, :-1].float().log_softmax(-1)
    totals = [float(scores[n, torch.arange(len(w)), w].sum()) for n, w in enumerate(words)]
    return task.names[int(np.argmax(totals))]


def recalls(truth: NDArray[np.str_], guesses: NDArray[np.str_]) -> dict[str, float]:
    """Unweighted and weighted average recall (appendix F.3), and the number of faces."""
    by_class = [float((guesses[truth == name] == name).mean()) for name in np.unique(truth)]
    return {"uar": float(np.mean(by_class)), "war": float((truth == guesses).mean()), "n": float(len(truth))}


# --- the table ---


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval; the latter is nan for a single value."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, math.nan
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return mean, _T_95.get(count, 1.96) * spread


def markdown(table: TableConfig, rows: Sequence[RowConfig], results: Mapping[str, list[dict[str, float]]]) -> str:
    """The table for people: ours with intervals over seeds, the paper's beside it."""
    first = results[rows[0].name]
    lines = [
        f"Table {table.number}: {table.title}. Ours: {len(first)} seeds, {first[0]['n']:.0f} held-out faces, mean and "
        f"95 % interval over seeds. Paper: {table.published}. Data and size differ: compare down, not across.",
        "",
        "| row | UAR | WAR | paper UAR | paper WAR |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = []
        for metric in ("uar", "war"):
            mean, half = interval([scores[metric] for scores in results[row.name]])
            cells.append(f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}"))
        paper = [f"{value:.3f}" for value in row.paper] or ["–", "–"]
        lines.append(f"| {row.label} | {' | '.join([*cells, *paper])} |")
    return "\n".join(lines) + "\n"
