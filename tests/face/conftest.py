"""Fixtures of the face tests: weights, real faces, and media written on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from facellava import weights
from facellava.errors import WeightsUnavailable
from facellava.face import BlazeFaceDetector, FaceFrontEnd, MeshLandmarker

Resolve = Callable[[str], Path]


@pytest.fixture(scope="session")
def resolve() -> Resolve:
    """Weight paths, from this machine only."""

    def local(name: str) -> Path:
        try:
            return weights.resolve(name, offline=True)
        except WeightsUnavailable as error:
            pytest.skip(f"needs the weight {name}: run `facellava weights pull` first ({error})")

    return local


@pytest.fixture(scope="session")
def detector(resolve: Resolve) -> BlazeFaceDetector:
    return BlazeFaceDetector(resolve("blazeface-short-range"))


@pytest.fixture(scope="session")
def landmarker(resolve: Resolve) -> MeshLandmarker:
    return MeshLandmarker(resolve("face-mesh"), resolve("face-blendshapes"))


@pytest.fixture(scope="session")
def front_end(resolve: Resolve) -> FaceFrontEnd:
    return FaceFrontEnd(resolve)


@pytest.fixture(scope="session")
def paper_front_end(resolve: Resolve) -> FaceFrontEnd:
    return FaceFrontEnd(resolve, policy="paper")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real face that a package carries (NASA, public domain): uint8 (512, 512, 3)."""
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def recorded() -> dict[str, dict]:
    """MediaPipe's own results, see `record_mediapipe.py`."""
    return json.loads((Path(__file__).parent / "data" / "mediapipe.json").read_text())


@pytest.fixture(scope="session")
def portraits(astronaut: np.ndarray) -> list[np.ndarray]:
    """Head-and-shoulders pictures of real people: the shared portraits, or the astronaut alone in four guises."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "faces" / "congress"
    files = sorted(folder.glob("*.jpg"))[::45]
    if files:
        return [np.asarray(Image.open(f).convert("RGB")) for f in files]
    head = astronaut[0:300, 80:380]
    return [head, head[:, ::-1], np.clip(head * 0.7, 0, 255).astype(np.uint8), 255 - (255 - head) // 2]


def write_video(
    path: Path,
    frames: list[np.ndarray],
    *,
    milliseconds: list[int] | None = None,
    codec: str = "libx264",
    fmt: str | None = None,
    key_every: int = 12,
) -> Path:
    """Encode frames (H, W, 3); each is shown at its time, by default 40 ms after the one before."""
    times = milliseconds or [40 * i for i in range(len(frames))]
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format=fmt) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = av_fraction(1, 1000)
        stream.codec_context.gop_size = key_every
        for time, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = time, av_fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def av_fraction(a: int, b: int):
    from fractions import Fraction

    return Fraction(a, b)


def on_grey(picture: np.ndarray, height: int, width: int, x: int, y: int) -> np.ndarray:
    """The picture pasted at (x, y) on a grey canvas, cut at its edges."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    part = picture[: height - y, : width - x]
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    """The picture resized by a factor."""
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
