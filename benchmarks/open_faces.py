"""Measures a model on the test split of the open faces: the numbers of the model card.

    python benchmarks/open_faces.py FACES_FOLDER [--model DIR] [--per-set N] [--json OUT]

Every picture goes through ``Analyzer.analyze`` (typed results only). Expression: UAR over classes with examples.
Action units: F1 per unit. Attributes: balanced accuracy. Age: MAE in years, share of true ages inside the range.
Authenticity: accuracy on genuine portraits and manipulated copies made from them, one kind unseen in training.
Intervals: 95 %, bootstrap over pictures.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

import facellava
from facellava import tasks
from facellava.errors import FacellavaError
from facellava.instruct.build_default import trained_attributes
from facellava.instruct.fakes import KINDS, make_fake, recompress
from facellava.instruct.open_faces import OpenFace, read_photos, read_renders
from facellava.results import FaceResult

Pairs = list[tuple[object, object]]


def interval(pairs: Pairs, metric: Callable[[Pairs], float], draws: int = 500) -> tuple[float, float, float]:
    """The metric and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    values = [metric([pairs[i] for i in rng.integers(len(pairs), size=len(pairs))]) for _ in range(draws)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return metric(pairs), float(low), float(high)


def uar(pairs: Pairs) -> float:
    """Mean recall over the classes that occur."""
    recalls = defaultdict(list)
    for truth, guess in pairs:
        recalls[truth].append(truth == guess)
    return float(np.mean([np.mean(v) for v in recalls.values()]))


def accuracy(pairs: Pairs) -> float:
    return float(np.mean([t == g for t, g in pairs]))


def f1(pairs: Pairs) -> float:
    hit = sum(bool(t and g) for t, g in pairs)
    wrong = sum(t != g for t, g in pairs)
    return 2 * hit / (2 * hit + wrong) if hit + wrong else float("nan")


def mae(pairs: Pairs) -> float:
    return float(np.mean([abs(t - g) for t, g in pairs]))


def largest(result: facellava.MediaResult) -> FaceResult:
    return max(result.faces, key=lambda face: face.quality.size)


class Tally:
    """(truth, prediction) pairs by measure."""

    def __init__(self) -> None:
        self.pairs: dict[str, Pairs] = defaultdict(list)
        self.failed = 0
        self.n = 0

    def add(self, face: OpenFace, result: FaceResult) -> None:
        """Compare one result with what is known about the face."""
        kind = "render" if face.set == "renders" else "photo"
        self.n += 1
        if result.expression.abstained:
            self.failed += 1
            return
        if face.expression is not None:
            self.pairs[f"{kind} expression"].append((face.expression, result.expression.label))
        if face.age is not None:
            low, high = result.age.range
            which = "exact" if face.set == "congress" else "apparent"
            self.pairs[f"age {which}"].append((face.age, result.age.years))
            self.pairs[f"age in range {which}"].append((True, low - 0.5 <= face.age <= high + 0.5))
        for unit, active in face.action_units.items():
            self.pairs[f"{kind} {unit}"].append((active, unit in result.action_units.active))
        for name in trained_attributes():
            if name in face.attributes:
                self.pairs[f"attribute {name}"].append((face.attributes[name], name in result.attributes.present))


def fakes_of(model: facellava.Analyzer, face: OpenFace, donor: object, rng: np.random.Generator):
    """The face's crop, untouched and manipulated, as pictures: (kind, pixels)."""
    _, clips = model.clips(face.path)
    clip = clips[0]
    yield "genuine", recompress(clip.frames[0], rng)
    for kind in KINDS:
        yield kind, recompress(make_fake(clip.frames[0], clip.landmarks[0], kind, rng, donor), rng)


def measure(model: facellava.Analyzer, root: Path, per_set: int) -> tuple[Tally, float]:
    """Run the whole test; returns the tally and the median seconds a picture."""
    attributes = tuple(label.name for label in tasks.get("attributes").labels)
    by_set: dict[str, list[OpenFace]] = defaultdict(list)
    for face in (*read_photos(root, attributes), *read_renders(root)):
        if face.split == "test":
            by_set[face.set].append(face)
    tally, seconds, donor = Tally(), [], None
    for faces in by_set.values():
        for n, face in enumerate(faces[:: max(1, len(faces) // per_set)]):
            start = time.perf_counter()
            try:
                tally.add(face, largest(model.analyze(face.path, explain=False)))
            except FacellavaError:
                tally.failed += 1
                continue
            seconds.append(time.perf_counter() - start)
            if face.genuine:
                rng = np.random.default_rng(zlib.crc32(face.id.encode()))
                clip = model.clips(face.path)[1][0]
                if donor is not None and n % 3 == 0:
                    deepfakes(model, face, donor, rng, tally)
                donor = (clip.frames[0], clip.landmarks[0])
    return tally, float(np.median(seconds))


def deepfakes(model, face, donor, rng, tally: Tally) -> None:
    """Add the authenticity answers on one genuine face and its manipulated copies."""
    for kind, pixels in fakes_of(model, face, donor, rng):
        try:
            result = largest(model.analyze(pixels, tasks=["deepfake"], explain=False)).deepfake
        except FacellavaError:
            tally.failed += 1
            continue
        tally.pairs[f"authenticity {kind}"].append((kind == "genuine", result.label == "real"))


def summary(tally: Tally) -> dict[str, tuple[float, float, float, int]]:
    """Measure -> value, low, high, n."""
    rows = {}
    for name, pairs in sorted(tally.pairs.items()):
        metric: Callable[[Pairs], float] = uar
        if name.startswith(("age in range", "authenticity")):
            metric = accuracy
        elif name.startswith("age"):
            metric = mae
        elif " AU" in name:
            metric = f1
        rows[name] = (*interval(pairs, metric), len(pairs))
    for group, chosen in {
        "photo action units, mean F1": [r for k, r in rows.items() if k.startswith("photo AU")],
        "render action units, mean F1": [r for k, r in rows.items() if k.startswith("render AU")],
        "attributes, mean balanced accuracy": [r for k, r in rows.items() if k.startswith("attribute ")],
    }.items():
        if chosen:
            values = [r[0] for r in chosen if not np.isnan(r[0])]
            rows[group] = (float(np.mean(values)), min(values), max(values), len(values))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--per-set", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = facellava.load(args.model, threads=args.threads)
    tally, seconds = measure(model, args.faces, args.per_set)
    rows = summary(tally)
    print(f"{model.name}: {tally.n} pictures, {tally.failed} without an answer, {seconds:.2f} s a picture (typed only)")
    for name, (value, low, high, n) in rows.items():
        print(f"{name:40s} {value:6.3f}  [{low:.3f}, {high:.3f}]  n={n}")
    if args.json:
        args.json.write_text(json.dumps({"model": model.name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
