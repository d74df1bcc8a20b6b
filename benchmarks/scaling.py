"""Preprocessing with two Ray workers beside one, on a real local cluster.

Results are compared row for row and file for file. Starting the cluster is not counted, starting the workers is (about
six seconds each time, so that a short job scales less well than a long one).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from itertools import count
from pathlib import Path

from common import Row, medians, moving_portrait, row

from facellava import weights
from facellava.instruct import preprocess
from facellava.instruct.executor import RayEngine
from facellava.instruct.recipe import PreprocessConfig
from facellava.types import Sample


def run(jobs: list[preprocess.Job], store: Path, workers: int) -> str:
    """A digest of all outcomes and all files."""
    found = RayEngine(workers).run(preprocess.Preprocessor(store, PreprocessConfig()), jobs)
    rows = [(o.key, o.clip, o.code, o.sha256) for _, outcomes in found if isinstance(outcomes, list) for o in outcomes]
    digest = hashlib.sha256(json.dumps(sorted(rows)).encode())
    for file in sorted(store.rglob("*.safetensors")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def rows(rounds: int, clips: int = 120) -> list[Row]:
    """One comparison, on `clips` clips of 2 s, 640 x 480."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in preprocess.NETWORKS:
        weights.resolve(name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = []
        for n in range(clips):
            path = folder / f"{n}.mp4"
            moving_portrait(path, seed=n, frames=50, size=(640, 480))
            samples.append(Sample(f"bench/{n}", "bench", "train", "expression", path, "video", "neutral"))
        keys = {sample.id: preprocess.unit_key(sample, "bench") for sample in samples}
        jobs = list(preprocess.jobs(samples, keys, ()))
        RayEngine(2).warm()
        digests = set()
        stores = (folder / f"store{n}" for n in count())
        times = medians(
            lambda: digests.add(run(jobs, next(stores), 2)), lambda: digests.add(run(jobs, next(stores), 1)), rounds
        )
    same = "same rows and bytes" if len(digests) == 1 else f"{len(digests)} DIFFERENT results"
    return [row(f"preprocessing of {clips} clips of 2 s, two Ray workers", "one Ray worker", times, 1.8, same, 1)]
