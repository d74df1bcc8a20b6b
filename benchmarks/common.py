"""What the benchmarks share: turns, medians, rows of the table, and a video with a moving face."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]


class Spent(NamedTuple):
    """Seconds by the clock, and of processor time, which other work on the machine lengthens less."""

    clock: float
    cpu: float


class Turns(NamedTuple):
    """What both sides took in each turn: ``ours[i]`` and ``peer[i]`` were measured one after the other."""

    ours: list[Spent]
    peer: list[Spent]


def spent(run: Callable[[], object], calls: int = 1) -> Spent:
    """What a call took, in this process and in children that ended; the mean of several where one is very short."""
    start, before = time.perf_counter(), _cpu()
    for _ in range(calls):
        run()
    return Spent((time.perf_counter() - start) / calls, (_cpu() - before) / calls)


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def medians(ours: Callable[[], object], peer: Callable[[], object], rounds: int, calls: int = 1) -> Turns:
    """Both sides measured in turn: A B A B; ``calls`` of ours a turn."""
    turns = Turns([], [])
    for _ in range(rounds):
        turns.ours.append(spent(ours, calls))
        turns.peer.append(spent(peer))
    return turns


def row(name: str, peer: str, turns: Turns, goal: float | None, accuracy: str, threads: int) -> Row:
    """One comparison: medians, the ratio of every pair and their median; ``goal`` is a ratio, None for none."""
    ours, other = (np.array(side) for side in turns)
    pairs = other / ours
    ratio, by_cpu = np.median(pairs, axis=0).tolist()
    found = {
        "name": name,
        "peer": peer,
        "ours_s": round(float(np.median(ours[:, 0])), 4),
        "peer_s": round(float(np.median(other[:, 0])), 4),
        "ours_cpu_s": round(float(np.median(ours[:, 1])), 4),
        "peer_cpu_s": round(float(np.median(other[:, 1])), 4),
        "ratio": round(ratio, 2),
        "cpu_ratio": round(by_cpu, 2),
        "pairs": [round(pair, 2) for pair in pairs[:, 0].tolist()],
        "threads": threads,
        "accuracy": accuracy,
        "load": round(os.getloadavg()[0], 1),
    }
    return found if goal is None else {**found, "goal": goal, "met": ratio >= goal}


def alone(name: str, spents: Sequence[Spent], threads: int, *, at_most: float | None = None, accuracy: str = "") -> Row:
    """A time without a peer; ``at_most`` is the goal in seconds."""
    clock, cpu = np.median(np.array(spents), axis=0).tolist()
    found: Row = {
        "name": name,
        "peer": "",
        "ours_s": round(clock, 4),
        "ours_cpu_s": round(cpu, 4),
        "threads": threads,
        "accuracy": accuracy,
        "load": round(os.getloadavg()[0], 1),
    }
    return found if at_most is None else {**found, "at_most_s": at_most, "met": clock < at_most}


def moving_portrait(path: Path, seed: int, frames: int, size: tuple[int, int]) -> None:
    """A clip at 25 frames a second: scikit-image's astronaut from the shoulders up, drifting, nodding and growing.

    Args:
        seed: of the movement and of the sensor's noise.
        size: width and height in pixels.
    """
    import cv2
    from skimage.data import astronaut

    width, height = size
    rng = np.random.default_rng(seed)
    picture = astronaut()[0:330, 60:390]
    phases = rng.uniform(0, 2 * np.pi, 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20", "preset": "fast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            pose = _pose(t / 25, phases, picture, width, height)
            pixels = cv2.warpAffine(picture, pose, size, borderMode=cv2.BORDER_REPLICATE)
            noisy = pixels + rng.normal(0, 2, (height, width, 1))
            frame = np.clip(noisy, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _pose(
    seconds: float, phases: NDArray[np.float64], picture: NDArray[np.uint8], width: int, height: int
) -> NDArray[np.float64]:
    """(2, 3) matrix from the portrait to the frame at one moment: periods of 4 to 10 s, as heads move."""
    import cv2

    x, y, grow, turn = np.sin(2 * np.pi * seconds / np.array([8.0, 5.0, 10.0, 4.0]) + phases)
    centre = picture.shape[1] / 2, picture.shape[0] / 2
    scale = (0.92 + 0.08 * grow) * height / picture.shape[0]
    matrix = cv2.getRotationMatrix2D(centre, 5 * turn, scale)
    matrix[:, 2] += np.array([width / 2 - centre[0] + 0.1 * width * x, height / 2 - centre[1] + 0.05 * height * y])
    return np.asarray(matrix)
