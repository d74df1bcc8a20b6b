"""Small real things to evaluate: benchmarks over a folder of faces, and somebody who answers by a rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facellava.errors import FacellavaError, ProviderFailed
from facellava.evaluation.benchmark import Benchmark
from facellava.evaluation.records import Record
from facellava.evaluation.respondents import Ask, Prediction, Reply
from facellava.instruct.recipe import SourceConfig
from facellava.types import Crop, FaceClip


def benchmark(faces: Path, task: str = "expression", **changes: Any) -> Benchmark:
    """All pictures and videos of ``make_faces`` as a test set."""
    metrics = {"expression": ("uar", "war"), "age": ("mae",), "deepfake": ("accuracy",)}.get(task, ("mean_f1",))
    source = SourceConfig("folder", root=str(faces))
    settings = {"name": f"small_{task}", "title": f"Small {task}", "split": "train", "train": "train"}
    return Benchmark(**{**settings, "task": task, "metrics": metrics, "sources": (source,), **changes})


class Rule:
    """Answers by a rule, from the sample's id; counts what it was asked.

    Args:
        say: id -> (text, prediction). stop_after: raise KeyboardInterrupt at so many answers, as a user who has enough.
    """

    needs_media, combined, concurrency, margin = True, True, 1, 0.0
    crop: Crop = "centred"

    def __init__(
        self,
        say: Callable[[Ask], tuple[str | None, Prediction | None]],
        *,
        name: str = "rule",
        identity: str = "1",
        stop_after: int = 0,
        failing: frozenset[str] = frozenset(),
    ) -> None:
        self.name, self.identity = name, identity
        self.asked: list[str] = []
        self._say, self._stop_after, self._failing = say, stop_after, failing

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        assert clip is not None
        if self._stop_after and len(self.asked) == self._stop_after:
            raise KeyboardInterrupt
        self.asked.append(ask.id)
        if ask.id in self._failing:
            error: FacellavaError = ProviderFailed("busy")
            raise error
        text, prediction = self._say(ask)
        return Reply(text, prediction)


def pick(ask: Ask) -> str:
    """One of the task's labels, by the id alone."""
    return ask.names[int(hashlib.sha256(ask.id.encode()).hexdigest(), 16) % len(ask.names)]


def record(name: str, truth: Any, text: Any = None, typed: Any = None, **more: Any) -> Record:
    """An answered sample; ``text`` is what was parsed."""
    said = None if text is None and "outcome" not in more else "words"
    known = more.pop("known", truth if isinstance(truth, tuple) else ())
    return Record(
        id=name, fold=more.pop("fold", 0), media="image", subject=more.pop("subject", None), truth=truth, known=known,
        text=said, parsed=text, outcome=more.pop("outcome", "found" if said else ""), typed=typed, **more,
    )  # fmt: skip
