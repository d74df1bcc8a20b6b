"""How cost grows: with faces in a picture, with the length of a clip, with the size of a data set, with workers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from common import Row, alone, moving_portrait, spent
from PIL import Image
from preprocess import everything

from facellava import analyzer, weights
from facellava.face import FaceFrontEnd
from facellava.instruct import preprocess as stage
from facellava.instruct.executor import LocalEngine
from facellava.instruct.recipe import PreprocessConfig
from facellava.types import Sample

FACES, SECONDS, PICTURES, WORKERS = (1, 2, 4, 8), (2, 4, 8), (50, 100, 200), (1, 2)


def curve(name: str, unit: str, sizes: Sequence[int], run: Callable[[int], object], rounds: int) -> list[Row]:
    """A row for each size, with the time of one unit of it."""
    found = []
    for size in sizes:
        times = [spent(lambda size=size: run(size)) for _ in range(rounds)]
        made = alone(f"{name}: {size} {unit}", times, 1)
        made["accuracy"] = f"{made['ours_s'] / size * 1000:.3g} ms for one of them"
        found.append(made)
    return found


def crowd(number: int) -> np.ndarray:
    """So many portraits side by side, two rows from four on."""
    from skimage.data import astronaut

    portrait = astronaut()[0:330, 60:390]
    rows = 2 if number >= 4 else 1
    return np.tile(portrait, (rows, number // rows, 1))


def in_pictures(rounds: int) -> list[Row]:
    """Typed results of everybody in a picture, without texts."""
    model = analyzer.load(threads=1, progress=False)
    found = {number: len(model.clips(crowd(number))[1]) for number in FACES}
    assert all(number == seen for number, seen in found.items()), found
    return curve("labels of a picture", "faces", FACES, lambda n: model.analyze(crowd(n), explain=False), rounds)


def in_clips(folder: Path, rounds: int) -> list[Row]:
    """Crops and landmarks of every frame, at 25 frames a second."""
    front = FaceFrontEnd(weights.resolve, policy="paper")
    for seconds in SECONDS:
        moving_portrait(folder / f"{seconds}.mp4", seed=0, frames=25 * seconds, size=(640, 480))
    front.clips(everything(folder / f"{SECONDS[0]}.mp4"))
    return curve(
        "crops and landmarks of a clip",
        "seconds",
        SECONDS,
        lambda seconds: front.clips(everything(folder / f"{seconds}.mp4")),
        rounds,
    )


def in_data(folder: Path, rounds: int) -> list[Row]:
    """Preprocessing of pictures, by one worker and by two; starting the workers is counted."""
    samples = []
    for n in range(max(PICTURES)):
        path = folder / f"{n}.png"
        Image.fromarray(np.roll(crowd(1), n % 20, axis=1)).save(path)
        samples.append(Sample(f"bench/{n}", "bench", "train", "expression", path, "image", "neutral"))
    keys = {sample.id: stage.unit_key(sample, "bench") for sample in samples}
    stores = (folder / f"store{n}" for n in count())

    def make(size: int, workers: int = 1) -> None:
        work = list(stage.jobs(samples[:size], keys, ()))
        for _ in LocalEngine(workers).run(stage.Preprocessor(next(stores), PreprocessConfig()), work):
            pass

    by_workers = [
        alone(f"preprocessing {max(PICTURES)} pictures: {n} workers", [spent(lambda n=n: make(max(PICTURES), n))], n)
        for n in WORKERS
    ]
    return [*curve("preprocessing a data set", "pictures", PICTURES, make, rounds), *by_workers]


def rows(rounds: int) -> list[Row]:
    """Every curve; up to three rounds a point."""
    rounds = min(rounds, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*in_pictures(rounds), *in_clips(folder, rounds), *in_data(folder, rounds)]
