"""Models of ours in either runtime: labels scored under the model, and a free answer to the task's own question."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from facellava import weights
from facellava.analyzer import Analyzer, load
from facellava.answers import answer_task, reason_to_abstain
from facellava.evaluation.respondents.base import (
    DEFAULT,
    Ask,
    Prediction,
    Reply,
    RespondentConfig,
    digest_of_folder,
    identity_of,
)
from facellava.model import experts
from facellava.results import AgeResult, TaskResult
from facellava.runtime.build import DEFAULT_MODEL, ModelCard
from facellava.runtime.engine import Seen, Tally
from facellava.tasks.task import all_tasks, fill_media
from facellava.types import Crop, FaceClip

LONGER = 4
"""These models explain with the label, so that an answer needs more tokens than a word."""


class OwnRespondent:
    """See ``Respondent``; the same functions answer that the command line calls.

    Args:
        config: whose model is ``default`` or a folder.
        typed, text: leave out the free answer or the scored labels, for speed.
        threads: of the model.
    """

    needs_media, combined, concurrency = True, True, 1

    def __init__(self, config: RespondentConfig, *, typed: bool = True, text: bool = True, threads: int = 1) -> None:
        folder = DEFAULT_MODEL if config.model == DEFAULT else Path(config.model)
        source = None if config.model == DEFAULT else config.model
        self.model: Analyzer = load(source, threads=threads, precision=config.precision or None, progress=False)
        self.name, self.margin = config.name, self.model.engine.margin
        self.crop: Crop = self.model.engine.crop
        self._typed, self._text, self._tokens = typed, text, LONGER * config.max_tokens
        self.identity = identity_of(
            digest_of_folder(folder), _base(folder), _words(), self.model.name, typed, text, self._tokens
        )
        self._last: tuple[FaceClip, bool, Seen] | None = None

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """See ``Respondent``. A face that the program would not judge is abstained from."""
        assert clip is not None
        if (reason := reason_to_abstain(clip)) is not None:
            return Reply(text="" if self._text else None, prediction=Prediction(None, abstained=reason))
        engine, seen = self.model.engine, self._look(clip, ask.task.name)
        prediction = text = None
        tally = Tally(finish="stop")
        if self._typed:
            prediction = _restricted(_prediction(answer_task(engine, seen, ask.task, ask.media, explain=False)), ask)
        if self._text:
            question = fill_media(ask.task.questions[0], ask.media)
            tally = Tally()
            text = "".join(engine.ask(seen, question, max_new_tokens=self._tokens, tally=tally)).strip()
        return Reply(text, prediction, cut=tally.finish == "length")

    def _look(self, clip: FaceClip, task: str) -> Seen:
        """The face, seen once for questions that follow each other; read only where that is needed."""
        engine = self.model.engine
        labels = not self._text and engine.scores_by_head(task)
        if self._last is None or self._last[0] is not clip or self._last[1] != labels:
            self._last = clip, labels, engine.glance(clip) if labels else engine.look(clip)
        return self._last[2]


def _prediction(result: TaskResult) -> Prediction:
    if isinstance(result, AgeResult):
        low_high = None if result.range is None else (float(result.range[0]), float(result.range[1]))
        return Prediction(result.years, {}, low_high)
    values = result.to_dict()
    label = values["label"] if "label" in values else tuple(values.get("active", values.get("present", ())))
    return Prediction(label, dict(getattr(result, "probabilities", {})))


def _restricted(prediction: Prediction, ask: Ask) -> Prediction:
    """The prediction among the labels that were asked for, as somebody who is shown the list would choose."""
    if ask.task.kind == "number" or set(ask.names) >= set(prediction.probabilities):
        return prediction
    kept = {name: p for name, p in prediction.probabilities.items() if name in ask.names}
    if ask.task.kind == "multi":
        label = prediction.label if isinstance(prediction.label, tuple) else ()
        return Prediction(tuple(name for name in label if name in ask.names), kept)
    total = sum(kept.values()) or 1.0
    return Prediction(max(kept, key=lambda name: kept[name]), {name: p / total for name, p in kept.items()})


def _words() -> list[str]:
    """Hashes of everything else that determines an answer: questions and templates, face experts, kind of processor."""
    texts = [dataclasses.asdict(task.closed) | {"first": task.questions[0]} for task in all_tasks().values()]
    networks = [weights.default_register()[name].sha256 for name in experts.WEIGHTS]
    gpu = "torch" in sys.modules and sys.modules["torch"].cuda.is_available()
    return [identity_of(texts), identity_of(networks), "gpu" if gpu else "cpu"]


def _base(folder: Path) -> str:
    """Hash of the language model that the small default's difference is added to."""
    if not (folder / "model.json").is_file():
        return ""
    wanted = ModelCard.read(folder).base
    return next(item.sha256 for item in weights.default_register() if item.name == wanted)
