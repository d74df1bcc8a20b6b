"""Respondents without a language model of ours: files of answers, package experts, and trivial guesses."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from facellava import tasks, weights
from facellava.errors import FileMissing, UsageError
from facellava.evaluation.respondents.base import Ask, Prediction, Reply, RespondentConfig, identity_of
from facellava.evaluation.respondents.service import FRAMES
from facellava.face import blendshape_names
from facellava.files import from_json
from facellava.model.experts import FACEX_LABELS, ExpertEncoder, Opinions, opinions
from facellava.model.frames import frame_indices
from facellava.runtime.build import CROP_MARGIN
from facellava.types import Crop, FaceClip, LabelValue


class RecordedRespondent:
    """Answers given elsewhere: JSON lines with ``id`` and ``text``, and ``purpose`` where both were asked.

    Faces are cropped all the same, so that what the benchmark's policy leaves out is left out here, too, and a judge
    can look at the rest.
    """

    needs_media, combined, concurrency = True, False, 1

    def __init__(self, config: RespondentConfig) -> None:
        path = Path(config.model)
        if not path.is_file():
            raise FileMissing(f"{path} is missing: give a file of JSON lines with 'id' and 'text'")
        self.name, self.margin = config.name, config.margin
        self.crop: Crop = config.crop
        data = path.read_bytes()
        self.identity = identity_of("answers", hashlib.sha256(data).hexdigest())
        self._texts: dict[tuple[str, str], str] = {}
        for number, line in enumerate(_text(path, data).split("\n"), 1):  # splitlines() would also split at U+2028
            if not line.strip():
                continue
            row = _row(path, number, line)
            self._texts[row["id"], row.get("purpose", "metric")] = row["text"]

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``. A sample that the file lacks is recorded as unanswered."""
        text = self._texts.get((ask.id, ask.purpose))
        if text is None:
            raise UsageError(f"the file of answers has no {ask.purpose} answer to {ask.id}")
        return Reply(text)


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start})") from error


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = from_json(line)
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
    crop: Crop = "centred"

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
    return Prediction(active)  # strengths are no probabilities


class TrivialRespondent:
    """What is guessed without looking: the most frequent class, every label that most training samples have, the mean.

    Args:
        labels: fold -> (label, known labels) of its training samples; other ones are another respondent.
    """

    needs_media, combined, concurrency, margin = False, True, 1, 0.0
    crop: Crop = "centred"

    def __init__(
        self,
        config: RespondentConfig,
        labels: Mapping[int, Sequence[tuple[LabelValue, tuple[str, ...]]]],
        benchmark: str,
    ) -> None:
        self.name = config.name
        self.identity = identity_of("trivial", 2, benchmark, sorted(labels.items()))
        self._labels = labels
        self._learned: dict[int, dict[str, float]] = {}

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``."""
        if ask.fold not in self._learned:
            self._learned[ask.fold] = _learned(ask, self._labels[ask.fold])
        learned = self._learned[ask.fold]
        if ask.task.kind == "number":
            return Reply(prediction=Prediction(round(learned["mean"])))
        shares = {name: learned[name] for name in ask.names if name in learned}
        if ask.task.kind == "single":
            return Reply(prediction=Prediction(max(shares, key=lambda name: shares[name]), shares))
        active = ask.task.sort(name for name, share in shares.items() if share >= 0.5)
        return Reply(prediction=Prediction(active, shares))


def _learned(ask: Ask, labels: Sequence[tuple[LabelValue, tuple[str, ...]]]) -> dict[str, float]:
    """The share of training samples with each label, of those that are known in it; of a number the ``mean``."""
    if not labels:
        raise UsageError("there are no training samples that a trivial guess could come from")
    if ask.task.kind == "number":
        return {"mean": float(np.mean([label for label, _ in labels if isinstance(label, int)]))}
    active, seen = Counter[str](), Counter[str]()
    for label, known in labels:
        seen.update(known if ask.task.kind == "multi" else ask.task.names)
        active.update(label if isinstance(label, tuple) else [str(label)])
    return {name: active[name] / seen[name] for name in ask.task.names if seen[name]}
