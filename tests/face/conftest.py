"""Fixtures of the face tests: weights and real faces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
