"""What it is to be tested: a question about a face goes in, an answer comes out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

from facellava import settings
from facellava.errors import FileMissing
from facellava.files import read_object
from facellava.tasks.task import Task
from facellava.types import Crop, FaceClip, LabelValue, MediaKind, Precision

PACKAGE = "facellava.evaluation"
Purpose = Literal["metric", "reasoning"]
Kind = Literal["own", "openai", "gemini", "facellava", "transformers", "answers", "expert", "trivial"]
DEFAULT = "default"
TITLES = {
    "transformers": "{}",
    "answers": "{}",
    "expert": "{} (a package's network alone)",
    "trivial": "majority class, mean age (does not look)",
}
"""Kinds that need no more than a model's name, and how they stand in tables."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about one face.

    Attributes:
        id: of the sample. task: what is asked. names: labels to choose from, empty for a number.
        media: what the face is shown in.
        purpose: ``metric`` wants words that can be counted, ``reasoning`` explanations.
        fold: of the benchmark, 0 without folds.
    """

    id: str
    task: Task
    names: tuple[str, ...]
    media: MediaKind
    purpose: Purpose = "metric"
    fold: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """A typed answer, from those who give one beside their words.

    Attributes:
        label: as in a sample: a name, active names, years; None where the respondent abstained.
        probabilities: label -> probability, empty where it has none.
        range: low and high of a number, where one is stated.
        abstained: why nothing was predicted, "" otherwise.
    """

    label: LabelValue
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)
    range: tuple[float, float] | None = None
    abstained: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: words, a typed prediction, or both; tokens where somebody charges for them; whether it was cut off at
    the limit of tokens."""

    text: str | None = None
    prediction: Prediction | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False


@runtime_checkable
class TakesBatches(Protocol):
    """A respondent whose service answers many questions in one job, as the paper asked closed-source models."""

    batch: bool

    def ask_together(self, asks: Iterable[tuple[Ask, FaceClip]]) -> Iterator[None]:
        """Send the questions as batch jobs and keep the answers, so that ``answer`` finds them; one step an answer."""
        ...


class Respondent(Protocol):
    """Somebody who answers. ``answer`` is called from one thread at a time, or from several if ``concurrency`` says so.

    Attributes:
        name: in folders and reports. identity: hash of whatever determines the answers: weights, prompts, settings.
        margin, crop: of the crops that it wants. needs_media: False where it looks at no face.
        combined: one answer serves both purposes, so that only ``metric`` is asked.
        concurrency: answers under way at once.
    """

    name: str
    identity: str
    margin: float
    crop: Crop
    needs_media: bool
    combined: bool
    concurrency: int

    def answer(self, ask: Ask, clip: FaceClip | None) -> Reply:
        """Answer one question.

        Raises:
            FacellavaError: it cannot; ``ProviderFailed`` may pass at another time.
        """
        ...


@dataclass(frozen=True)
class RespondentConfig:
    """Who is tested; a TOML of these is a preset.

    Attributes:
        name: short, for folders. title: as it stands in tables.
        kind: ``own`` (a model of ours, in either runtime), ``openai`` (any compatible endpoint), ``gemini``,
            ``facellava`` (our own server), ``transformers`` (an image-text-to-text model), ``answers`` (a file of
            answers given elsewhere), ``expert`` (a network of a package alone), ``trivial`` (majority class, mean age).
        model: folder, pinned model id, file, or the expert's name.
        base_url, key_env, requests_per_minute, tokens_per_minute, timeout_s, max_retries, first_wait, price_input,
            price_output: of a service, as for annotators.
        concurrency: calls under way at once, of services.
        max_tokens: of an answer for metrics; four times as many for reasoning, and for models that always explain.
        margin: how much wider than the detector's box the crop is that it sees; 0 as in the paper.
        crop: where it lies, see ``types.Crop``. Models of ours use the margin and crop that they were trained with.
        batch: ask through the service's batch interface.
        precision: of a model of ours, see ``facellava.load``; empty as it runs.
        note: where its weights or its access come from, for people.
    """

    name: str
    kind: Kind
    title: str = ""
    model: str = ""
    base_url: str = ""
    key_env: str = ""
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    timeout_s: float = 120.0
    max_retries: int = 6
    first_wait: float = 1.0
    price_input: float = 0.0
    price_output: float = 0.0
    concurrency: int = 8
    max_tokens: int = 64
    margin: float = 0.0
    crop: Crop = "centred"
    batch: bool = False
    precision: Literal["", "fp32", "bf16", "int8", "int4"] = ""
    note: str = ""

    @property
    def is_service(self) -> bool:
        """Whether faces are sent to somebody."""
        return self.kind in ("openai", "gemini", "facellava")

    @property
    def heading(self) -> str:
        """The name in tables."""
        return self.title or self.name


def read_config(text: str) -> RespondentConfig:
    """Who is meant by ``--model``.

    Args:
        text: ``default`` or the folder of a trained model, either with a precision behind it (``default:fp32``,
            ``runs/x/final:int8``); a preset's name or TOML file; or
            ``KIND:MODEL``, such as ``transformers:DIR``, ``answers:FILE``, ``expert:facex``, ``trivial:``.

    Raises:
        FileMissing: none of these. UsageError: a preset with unknown keys.
    """
    place, colon, precision = text.rpartition(":")
    if colon and precision in get_args(Precision) and (place == DEFAULT or Path(place).is_dir()):
        return _own(place, cast(Precision, precision))
    if text == DEFAULT or Path(text).is_dir():
        return _own(text, "")
    kind, colon, rest = text.partition(":")
    if colon and kind in TITLES:
        name = _short(f"{kind}-{Path(rest).stem}" if rest else kind)
        return RespondentConfig(name, cast(Kind, kind), TITLES[kind].format(Path(rest).stem), rest)
    try:
        raw, _ = settings.read_recipe(text, PACKAGE, "baselines")
    except FileMissing as error:
        raise FileMissing(
            f"{error}. A model can also be 'default', a folder, or KIND:MODEL with "
            "transformers, answers, expert or trivial"
        ) from error
    return settings.build(RespondentConfig, raw, text)


def _own(model: str, precision: Precision | Literal[""]) -> RespondentConfig:
    """A model of ours; its precision is part of its name, so that runs do not mix."""
    name = f"facellava-{DEFAULT}" if model == DEFAULT else _folder_name(Path(model))
    name = f"{name}-{precision}" if precision else name
    title = f"facellava default{precision and f', {precision}'}" if model == DEFAULT else ""
    return RespondentConfig(name, "own", title, model, precision=precision)


def _folder_name(folder: Path) -> str:
    """The run's own name for what training wrote, else the folder's."""
    for name in ("model.json", "recipe.json"):
        path = folder / name
        if path.is_file():
            return _short(read_object(path).get("name", folder.resolve().name))
    return _short(folder.resolve().name)


def _short(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip("-") or "model"


def identity_of(*parts: Any) -> str:
    """A short hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def digest_of_folder(folder: Path) -> str:
    """A hash of the weights and settings in a folder, by name and content."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".gguf", ".onnx"):
            total.update(path.name.encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
