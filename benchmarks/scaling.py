"""Preprocessing with two Ray workers beside one, on a real local cluster: ``make bench``.

Clips are made from scikit-image's astronaut, moved about in H.264 video. Both sides take turns; results are compared
row for row and file for file. Starting the cluster is not counted, starting the workers is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from facellava import weights
from facellava.instruct import preprocess
from facellava.instruct.executor import RayEngine
from facellava.instruct.recipe import PreprocessConfig
from facellava.types import Sample


def moving_portrait(path: Path, seed: int, frames: int = 50) -> None:
    """A 640 x 480 clip at 25 frames a second in which the astronaut drifts and grows a little."""
    import cv2
    from skimage.data import astronaut

    rng = np.random.default_rng(seed)
    picture, drift, grow = astronaut(), rng.uniform(-1.0, 1.0, 2), rng.uniform(0.98, 1.06)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for t in range(frames):
            scale = 1.1 * grow ** (t / frames)
            shift = np.array([60.0, 20.0]) + drift * t + rng.normal(0, 0.3, 2)
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            pixels = cv2.warpAffine(picture, matrix, (640, 480), borderMode=cv2.BORDER_REFLECT)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def run(jobs: list[preprocess.Job], store: Path, workers: int) -> tuple[float, str]:
    """Seconds, and a digest of all outcomes and all files."""
    start = time.perf_counter()
    found = RayEngine(workers).run(preprocess.Preprocessor(store, PreprocessConfig()), jobs)
    rows = [(o.key, o.clip, o.code, o.sha256) for _, outcomes in found if isinstance(outcomes, list) for o in outcomes]
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(json.dumps(sorted(rows)).encode())
    for file in sorted(store.rglob("*.safetensors")):
        digest.update(file.name.encode() + file.read_bytes())
    return seconds, digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in preprocess.NETWORKS:
        weights.resolve(name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = []
        for n in range(args.clips):
            moving_portrait(folder / f"{n}.mp4", n)
            samples.append(
                Sample(f"bench/{n}", "bench", "train", "expression", folder / f"{n}.mp4", "video", "neutral")
            )
        keys = {sample.id: preprocess.unit_key(sample, "bench") for sample in samples}
        jobs = list(preprocess.jobs(samples, keys, ()))
        RayEngine(2).warm()
        pairs, digests = [], set()
        for round_ in range(args.rounds):
            times = {}
            for workers in (1, 2):
                times[workers], digest = run(jobs, folder / f"store-{round_}-{workers}", workers)
                digests.add(digest)
            pairs.append(times[1] / times[2])
            print(f"one worker {times[1]:.1f} s, two {times[2]:.1f} s, ratio {pairs[-1]:.2f}", flush=True)
    ratio = float(np.median(pairs))
    same = "same rows and bytes" if len(digests) == 1 else f"{len(digests)} DIFFERENT results"
    row = {
        "name": f"data preprocessing, {args.clips} clips of 2 s, two Ray workers",
        "peer": "one Ray worker",
        "ours_s": round(times[2], 2),
        "peer_s": round(times[1], 2),
        "ratio": round(ratio, 2),
        "goal": 1.8,
        "met": ratio >= 1.8,
        "threads": 1,
        "accuracy": same,
    }
    print(json.dumps(row))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([row], indent=1) + "\n")


if __name__ == "__main__":
    main()
