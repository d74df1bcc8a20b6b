"""Decision thresholds of the multi-label tasks: ``python -m facellava.training.calibrate DATA MODEL_FOLDER``.

A language model answers yes less readily than the labels occur. Labels of a sample of *training* faces are scored
under the packaged model, and for each task the one threshold with the best mean F1 (action units, as their benchmark
counts) or balanced accuracy (attributes) over its labels is written into ``model.json``. One number a task, so that
rare labels cannot overfit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellava import analyzer, tasks
from facellava.runtime.engine import OnnxEngine
from facellava.training.samples import Samples, load_samples

GRID = np.arange(0.05, 0.96, 0.025)
Scores = dict[str, list[tuple[bool, float]]]
"""Label -> (present, probability) of every face for which it is known."""


def best_threshold(scores: Scores, *, f1: bool = False, grid: NDArray[np.float64] = GRID) -> float:
    """The threshold with the highest mean over labels that have five of each kind.

    Args:
        f1: of the F1 score; else of balanced accuracy.
    """
    curves = []
    for pairs in scores.values():
        truth, p = np.array([t for t, _ in pairs]), np.array([q for _, q in pairs])
        if min(truth.sum(), (~truth).sum()) < 5:
            continue
        above = p[None] >= grid[:, None]
        hit, wrong = above[:, truth].sum(1), (above != truth).sum(1)
        balanced = (above[:, truth].mean(1) + 1 - above[:, ~truth].mean(1)) / 2
        curves.append(2 * hit / (2 * hit + wrong) if f1 else balanced)
    assert curves, "no label has five faces with it and five without it"
    return float(grid[np.mean(curves, 0).argmax()])


def score_sample(engine: OnnxEngine, samples: Samples, rows: list[int]) -> dict[str, Scores]:
    """Task -> scores of the given rows, from their stored features."""
    result: dict[str, Scores] = {}
    for i in rows:
        seen = engine.read(
            engine.fuse(*(a[i : i + 1].numpy() for a in (samples.maps, samples.values, samples.landmarks)))
        )
        labels = samples.rows[i]["labels"]
        for task in tasks.all_tasks().values():
            names = [n for n in task.names if n in labels] if task.kind == "multi" else []
            if not names:
                continue
            items = [task.item(n) for n in names]
            odds = engine.score_yes(seen, task.closed.question, items, task.closed.yes, task.closed.no)
            for name, p in zip(names, 1 / (1 + np.exp(-odds)), strict=True):
                result.setdefault(task.name, {}).setdefault(name, []).append((bool(labels[name]), float(p)))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    samples = load_samples(args.data)
    rows = np.random.default_rng(0).permutation(
        [i for i in samples.indices("train") if "-" not in samples.rows[i]["id"]]
    )
    engine = analyzer.load(str(args.model), threads=args.threads).engine
    assert isinstance(engine, OnnxEngine), "what ships is calibrated in its own runtime"
    scores = score_sample(engine, samples, [int(i) for i in rows[: args.rows]])
    path = args.model / "model.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    for name, by_label in scores.items():
        threshold = round(best_threshold(by_label, f1="f1" in tasks.get(name).metric), 3)
        print(f"{name}: {threshold}")
        card["thresholds"] |= {n: threshold for n in tasks.get(name).names if n not in card["untrained"][name]}
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
