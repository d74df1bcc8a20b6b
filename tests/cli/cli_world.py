"""A small real analyzer for the command line's tests: decodes real files, says the same of every picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from facellava.errors import NoFace, UsageError
from facellava.face import read_media
from facellava.results import (
    ActionUnitsResult,
    AgeResult,
    AttributesResult,
    DeepfakeResult,
    ExpressionResult,
    FaceResult,
    MediaResult,
)
from facellava.runtime.constrained import Constraint
from facellava.types import Quality

QUALITY = Quality(size=80.0, blur=120.5, yaw=-3.0, pitch=1.25, roll=0.5, score=0.97)

EVERY_TASK = {
    "expression": ExpressionResult(
        label="happiness",
        probabilities={"happiness": 0.91234, "neutral": 0.08, "sadness": 0.00766},
        text="Happiness. …",
    ),
    "action_units": ActionUnitsResult(
        active=("AU6", "AU12"), probabilities={"AU6": 0.8, "AU12": 0.97}, text="AU6 and AU12 are active."
    ),
    "attributes": AttributesResult(
        present=("Smiling",), probabilities={"Smiling": 0.98}, untrained=("Attractive",), text="Smiling."
    ),
    "age": AgeResult(years=41, range=(36, 47), text="About 41 years."),
    "deepfake": DeepfakeResult(label="real", probabilities={"real": 0.88, "fake": 0.12}, text="Real."),
}


def landmarks(box: tuple[float, float, float, float]) -> np.ndarray:
    """68 points spread over the box on a grid; float32 (68, 2)."""
    x0, y0, x1, y1 = box
    steps = np.linspace(0.1, 0.9, 68)
    return np.stack([x0 + (x1 - x0) * steps, y0 + (y1 - y0) * (steps * 7 % 1)], axis=1).astype(np.float32)


def face(number: int = 0, box: tuple[float, float, float, float] = (20.0, 20.0, 100.0, 100.0), **tasks) -> FaceResult:
    """A face with every task, or with those given."""
    return FaceResult(
        id=number,
        box=box,
        quality=QUALITY,
        **(tasks or EVERY_TASK),
        notes=("says AU12, but the measured lip corners did not move",),
        region_attention={"lips": 0.6, "left_eye": 0.3, "nose": 0.1},
        landmarks=landmarks(box),
    )


class StandIn:
    """Sees one face in every picture that is not black; reads real files and refuses what cannot be read."""

    def __init__(self) -> None:
        self.calls: list[dict] = []

    def analyze(
        self,
        source: str | Path,
        *,
        tasks: Sequence[str] | None = None,
        policy: str = "all",
        mode: str = "full",
        explain: bool = True,
    ) -> MediaResult:
        self.calls.append({"tasks": tasks, "policy": policy, "mode": mode, "explain": explain})
        media = read_media(source)
        if not media.frames.any():
            raise NoFace("no face found: try a larger or less turned face")
        wanted = {name: EVERY_TASK[name] for name in tasks or EVERY_TASK}
        return MediaResult(
            media=str(source), kind=media.kind, model="stand-in", faces=(face(**wanted),), frame=media.frames[0]
        )

    def ask(
        self,
        source: str | Path,
        question: str,
        *,
        face: int | None = None,
        stream: bool = False,
        max_new_tokens: int = 200,
        constraint: Constraint | None = None,
    ) -> Iterator[str]:
        if face not in (None, 0):
            raise UsageError(f"there is no face {face}")
        assert stream
        if constraint is not None:
            yield f"constrained: {constraint.kind}"
            return
        yield from question.split(" ")[:max_new_tokens]
