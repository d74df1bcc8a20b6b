"""What the benchmarks share: turns, medians, rows of the table, and a video with a moving face."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Row = dict[str, object]


def medians(ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Seconds of ours and of the peer, and the median of the pairwise ratios, measured in turn."""
    pairs = []
    for _ in range(rounds):
        times = []
        for run in (ours, peer):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        pairs.append(times)
    a = np.array(pairs)
    return float(np.median(a[:, 0])), float(np.median(a[:, 1])), float(np.median(a[:, 1] / a[:, 0]))


def row(name: str, peer: str, numbers: tuple[float, float, float], goal: float, accuracy: str, threads: int) -> Row:
    """One comparison; ``numbers`` as :func:`medians` gives them, ``goal`` is a ratio."""
    ours, other, ratio = numbers
    return {
        "name": name,
        "peer": peer,
        "ours_s": round(ours, 4),
        "peer_s": round(other, 4),
        "ratio": round(ratio, 2),
        "goal": goal,
        "met": ratio >= goal,
        "threads": threads,
        "accuracy": accuracy,
    }


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
