"""Whether answers rest on what they should: ``benchmarks/grounding.py exchange FACES`` and ``... guidance DATA``.

*exchange*: the pixels of one held-out face are read with the landmarks and movement coefficients of another, and the
other way round. Counted: of the pairs whose own answers differ, how often the mixed face's answer is that of the face
whose pixels, or whose points, it has.

*geometry*: on held-out portraits, how often AU12 and AU25 agree with what the landmarks alone say (mouth corners above
the middle of the lips; a gap between the lips) outside an undecided band.

*guidance*: the expert head is trained with and without landmark guidance, three seeds each. Without it the region
summaries are plain means over the crop; parameters and data are the same.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import facellava
from facellava import tasks
from facellava.errors import FacellavaError
from facellava.instruct.open_faces import read_photos
from facellava.model.expert_report import ExpertHead, region_weights
from facellava.training.build_default import default_spec
from facellava.types import FaceClip

SEEDS = 3


def exchange(faces: Path, pairs: int) -> None:
    """Print how often answers follow the pixels and the points."""
    model = facellava.load()
    photos = [face for face in read_photos(faces, tasks.get("attributes").names) if face.split == "test"]
    clips: list[FaceClip] = []
    for i in np.random.default_rng(0).permutation(len(photos)):
        try:
            clips.append(max(model.clips(photos[i].path)[1], key=lambda c: c.quality.size))
        except FacellavaError:
            continue  # no face is found in a few of them
        if len(clips) == 2 * pairs:
            break

    def findings(pixels: FaceClip, points: FaceClip) -> dict[str, object]:
        mixed = replace(pixels, landmarks=points.landmarks, blendshapes=points.blendshapes)
        stated = dict(line.split(": ", 1) for line in model.engine.see(mixed).report.splitlines())
        units, attributes = stated["Action units"].split(", "), stated["Attributes"].split(", ")
        return {
            "expression": stated["Expression"],
            "AU12": "AU12" in units,
            "AU25": "AU25" in units,
            "Male": "Male" in attributes,
            "Eyeglasses": "Eyeglasses" in attributes,
            "age, within 8 years": stated["Age"],
        }

    follows: dict[str, list[tuple[bool, bool]]] = {}
    for a, b in zip(clips[::2], clips[1::2], strict=True):
        own, other, mixed = findings(a, a), findings(b, b), findings(a, b)
        for name, value in mixed.items():
            near = _near if name.startswith("age") else lambda x, y: x == y
            if not near(own[name], other[name]):
                follows.setdefault(name, []).append((near(value, own[name]), near(value, other[name])))
    print("answer                 pairs that differ   as the pixels' face   as the points' face")
    for name, found in follows.items():
        pixels, points = np.mean(found, 0)
        print(f"{name:22s} {len(found):17d} {pixels:21.2f} {points:21.2f}")


def _near(a: object, b: object) -> bool:
    return abs(int(str(a)) - int(str(b))) <= 8


BANDS = {"AU12": (0.0, 0.1), "AU25": (0.012, 0.04)}
"""Below the first the landmarks say no, above the second yes."""


def geometry(data: Path) -> None:
    """Print agreement of two action units with lips and mouth corners."""
    from facellava.training.head import predict
    from facellava.training.samples import load_rows

    samples, head = load_rows(data, data / "faces.jsonl"), ExpertHead.load(data)
    test = [
        i for i in samples.indices("test") if samples.rows[i]["set"] == "congress" and "-" not in samples.rows[i]["id"]
    ]
    found = [head.find(p).action_units or () for p in predict(head, samples, test)]
    for unit, (low, high) in BANDS.items():
        measured = np.array([MEASURED[unit](samples.landmarks[i].numpy()) for i in test])
        decided = (measured < low) | (measured > high)
        stated = np.array([unit in units for units in found])
        agree = (stated == (measured > high))[decided]
        print(
            f"{unit}: {agree.mean():.3f} of {len(agree)} portraits outside the band ({(measured > high).sum()} say yes)"
        )


def corner_height(points: NDArray[np.float32]) -> float:
    """Mouth corners above the middle of the outer lips, in widths of the mouth."""
    corners, middle = points[[48, 54]], points[[51, 57]].mean(0)
    return float((middle[1] - corners[:, 1].mean()) / np.linalg.norm(corners[0] - corners[1]))


def lip_gap(points: NDArray[np.float32]) -> float:
    """Distance of the inner lips, in distances of nose bridge and chin."""
    gap = np.linalg.norm(points[[61, 62, 63]] - points[[67, 66, 65]], axis=1).mean()
    return float(gap / np.linalg.norm(points[27] - points[8]))


MEASURED = {"AU12": corner_height, "AU25": lip_gap}


def everywhere(landmarks: NDArray[np.float32], patches: int) -> NDArray[np.float32]:
    """Plain means over the crop in place of the nine regions."""
    return np.full_like(region_weights(landmarks, patches), 1 / patches)


def guidance(data: Path) -> None:
    """Print accuracy with and without guidance, mean and range over the seeds."""
    import torch

    from facellava.training.head import HeadNetwork, fit_network, head_targets, labelled, moments, standardised
    from facellava.training.samples import load_rows
    from facellava.training.sequences import MOVING

    samples, spec = load_rows(data, data / "faces.jsonl"), default_spec()
    train, places = labelled(samples), spec.offsets()
    scale = moments(samples, train)
    test = [
        i for i in samples.indices("test") if "-" not in samples.rows[i]["id"] and samples.rows[i]["set"] not in MOVING
    ]
    targets, weights = head_targets(samples, spec)

    def accuracy(network: HeadNetwork, look: object) -> dict[str, float]:
        with torch.no_grad():
            rows = torch.tensor(test)
            where = torch.from_numpy(look(samples.landmarks[rows].numpy(), samples.maps.shape[1]))  # type: ignore[operator]
            logits = network(*standardised(samples, rows, scale), where)
        result = {}
        for kind in ("photographs", "renders"):
            of_kind = np.array([(samples.rows[i]["set"] == "renders") == (kind == "renders") for i in test])
            known = of_kind & weights[rows, places["expression"].start].bool().numpy()
            truth = targets[rows][known, places["expression"]].argmax(-1).numpy()
            guess = logits[known, places["expression"]].argmax(-1).numpy()
            result[f"expression UAR, {kind}"] = float(
                np.mean([(guess[truth == c] == c).mean() for c in np.unique(truth)])
            )
            scores = []
            for unit in spec.labels("action_units"):
                column = places[unit].start
                known = of_kind & weights[rows, column].bool().numpy()
                truth, guess = targets[rows][known, column].numpy() > 0.5, logits[known, column].numpy() > 0
                if truth.sum() >= 5:
                    scores.append(2 * (truth & guess).sum() / (truth.sum() + guess.sum()))
            result[f"action units F1 at .5, {kind}"] = float(np.mean(scores))
        return result

    found: dict[str, list[dict[str, float]]] = {}
    for name, look in (("guided by landmarks", region_weights), ("not guided", everywhere)):
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            network = HeadNetwork(samples.values.shape[1], samples.maps.shape[2], samples.maps.shape[1], spec.n_outputs)
            fit_network(network, samples, train, scale, spec, (targets, weights), epochs=14, seed=seed, look=look)
            found.setdefault(name, []).append(accuracy(network, look))
            print(name, seed, {k: round(v, 3) for k, v in found[name][-1].items()}, flush=True)
    for measure in found["not guided"][0]:
        line = [np.array([run[measure] for run in runs]) for runs in found.values()]
        print(f"{measure:36s}" + "".join(f"  {x.mean():.3f} [{x.min():.3f}, {x.max():.3f}]" for x in line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("exchange", "geometry", "guidance"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    if args.what == "exchange":
        exchange(args.folder, args.pairs)
    else:
        {"geometry": geometry, "guidance": guidance}[args.what](args.folder)


if __name__ == "__main__":
    main()
