"""Respondents without a language model of ours: files of answers, package experts, and trivial guesses."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from facellava import tasks, weights
from facellava.errors import FileMissing, UsageError
from facellava.evaluation.respondents.base import Ask, Prediction, Reply, RespondentConfig, identity_of
from facellava.evaluation.respondents.service import FRAMES
from facellava.face import blendshape_names
from facellava.model.experts import FACEX_LABELS, ExpertEncoder, Opinions, opinions
from facellava.model.frames import frame_indices
from facellava.runtime.build import CROP_MARGIN
from facellava.types import FaceClip, LabelValue


class RecordedRespondent:
    """Answers given elsewhere: JSON lines with ``id`` and ``text``, and ``purpose`` where both were asked."""

    needs_media, combined, concurrency, margin = False, False, 1, 0.0

    def __init__(self, config: RespondentConfig) -> None:
        path = Path(config.model)
        if not path.is_file():
            raise FileMissing(f"{path} is missing: give a file of JSON lines with 'id' and 'text'")
        self.name = config.name
        data = path.read_bytes()
        self.identity = identity_of("answers", hashlib.sha256(data).hexdigest())
        self._texts: dict[tuple[str, str], str] = {}
        for number, line in enumerate(data.decode().splitlines(), 1):
            row = _row(path, number, line)
            self._texts[row["id"], row.get("purpose", "metric")] = row["text"]

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``. A sample that the file lacks is recorded as unanswered."""
        text = self._texts.get((ask.id, ask.purpose))
        if text is None:
            raise UsageError(f"the file of answers has no {ask.purpose} answer to {ask.id}")
        return Reply(text)


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {number}: no JSON ({error.msg})") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("text"), str):
        raise UsageError(f"{path}, line {number}: expected an object with the texts 'id' and 'text'")
    return row


class ExpertRespondent:
    """A network of a package by itself: ``facex``, ``fer`` (expression), ``age`` (age), ``blendshapes`` (action units).

    Nothing is trained or tuned: the expression networks' own seven classes, the age network's own expectation, and
    blendshapes from ``blendshape_units.toml`` against one threshold.
    """

    needs_media, combined, concurrency, margin = True, True, 1, CROP_MARGIN

    def __init__(self, config: RespondentConfig) -> None:
        readers: dict[str, tuple[str, Callable[[FaceClip, Ask], Prediction]]] = {
            "facex": ("expression", lambda clip, _: _expression(self._opinions(clip).facex)),
            "fer": ("expression", lambda clip, _: _expression(self._opinions(clip).fer)),
            "age": ("age", lambda clip, _: Prediction(round(self._opinions(clip).years))),
            "blendshapes": ("action_units", lambda clip, ask: _units(clip.blendshapes, ask)),
        }
        if config.model not in readers:
            raise UsageError(f"unknown expert {config.model!r}; known: {', '.join(readers)}")
        self.name = config.name
        self._task, self._read = readers[config.model]
        self._encoder = ExpertEncoder(weights.resolve)
        self.identity = identity_of("expert", config.model, [w.sha256 for w in weights.default_register()], 1)

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``; of a video the mean over up to eight frames."""
        assert clip is not None
        if ask.task.name != self._task:
            raise UsageError(f"{self.name} answers {self._task}, not {ask.task.name}")
        return Reply(prediction=self._read(clip, ask))

    def _opinions(self, clip: FaceClip) -> Opinions:
        chosen = frame_indices(len(clip.frames), min(len(clip.frames), FRAMES))
        return opinions(
            self._encoder.encode(clip.frames[chosen], clip.landmarks[chosen], clip.blendshapes[chosen]).values
        )


def _expression(p: np.ndarray) -> Prediction:
    probabilities: dict[str, float] = dict(zip(FACEX_LABELS, map(float, p), strict=True))
    return Prediction(FACEX_LABELS[int(p.argmax())], probabilities)


def _units(shapes: np.ndarray, ask: Ask) -> Prediction:
    table = tomllib.loads((resources.files("facellava.evaluation") / "blendshape_units.toml").read_text("utf-8"))
    names = blendshape_names()
    strength = {
        unit: float(max(shapes[:, [names.index(part) for part in parts]].mean(1)))
        for unit, parts in table["units"].items()
        if unit in ask.names
    }
    active = tasks.get("action_units").sort(u for u, value in strength.items() if value >= table["threshold"])
    return Prediction(active, strength)


class TrivialRespondent:
    """What is guessed without looking: the most frequent class, every label that most training samples have, the mean.

    Args:
        labels: fold -> (label, known labels) of its training samples.
    """

    needs_media, combined, concurrency, margin = False, True, 1, 0.0

    def __init__(
        self,
        config: RespondentConfig,
        labels: Callable[[int], Sequence[tuple[LabelValue, tuple[str, ...]]]],
        benchmark: str,
    ) -> None:
        self.name = config.name
        self.identity = identity_of("trivial", 1, benchmark)
        self._labels = labels
        self._guesses: dict[int, Prediction] = {}

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``."""
        if ask.fold not in self._guesses:
            self._guesses[ask.fold] = _guess(ask, self._labels(ask.fold))
        return Reply(prediction=self._guesses[ask.fold])


def _guess(ask: Ask, labels: Sequence[tuple[LabelValue, tuple[str, ...]]]) -> Prediction:
    if not labels:
        raise UsageError("there are no training samples that a trivial guess could come from")
    if ask.task.kind == "number":
        years = [label for label, _ in labels if isinstance(label, int)]
        return Prediction(round(float(np.mean(years))))
    if ask.task.kind == "single":
        counts = Counter(str(label) for label, _ in labels)
        total = sum(counts.values())
        best = max(ask.task.names, key=lambda name: counts[name])
        return Prediction(best, {name: counts[name] / total for name in ask.task.names})
    active, seen = Counter[str](), Counter[str]()
    for label, known in labels:
        seen.update(known)
        active.update(label if isinstance(label, tuple) else ())
    shares = {name: active[name] / seen[name] for name in ask.names if seen[name]}
    return Prediction(ask.task.sort(name for name, share in shares.items() if share >= 0.5), shares)
