"""The calibrated head over the face experts, and the report that states what it found. No torch.

A small language model copies what stands in its context well and learns new codes slowly, so what the experts see is
written into the prompt in the very words that answers use. The same findings are the typed results, so that text and
types cannot part. A head is data (``head.safetensors``): other labels need no code, only a task of its own kind needs a
line in ``Findings``.

The head looks where the landmarks say: besides the whole map it reads nine region summaries, means over patches that
weigh by closeness to the regions' centroids, which is the mask of equation 5 with a temperature.

Shapes: t frames, n patches, c map width, e expert values, r regions, o head outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from facellava.errors import DamagedCheckpoint, FileMissing
from facellava.files import reading, write_atomic
from facellava.model.regions import patch_centroids, region_centroids

FILE = "head.safetensors"
REACH = 0.03
"""Temperature of the regions' weights, in widths of the crop."""
SURE = 0.5
"""Probability from which an expression counts as a stretch of a clip's course."""
OUTLIER = 4.0
"""Inputs are clipped at so many standard deviations."""

SlotKind = Literal["single", "binary", "number"]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Slot:
    """One group of head outputs.

    Attributes:
        name: task or label name, unique. task: that it belongs to.
        kind: ``single`` (softmax over ``words``), ``number`` (softmax over 0, 1, ...), ``binary``.
        size: number of outputs. words: names of a single slot's outputs.
    """

    name: str
    task: str
    kind: SlotKind
    size: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeadSpec:
    """What a head predicts, in order.

    Attributes:
        slots: groups of outputs. thresholds: label -> probability from which it counts as present, .5 by default.
    """

    slots: tuple[Slot, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_outputs(self) -> int:
        """Outputs in all."""
        return sum(slot.size for slot in self.slots)

    def offsets(self) -> dict[str, slice]:
        """Where each slot's outputs lie."""
        result, start = {}, 0
        for slot in self.slots:
            result[slot.name] = slice(start, start + slot.size)
            start += slot.size
        return result

    def labels(self, task: str) -> tuple[str, ...]:
        """Names of a multi-label task that have a slot."""
        return tuple(slot.name for slot in self.slots if slot.task == task and slot.kind == "binary")

    def answers(self, task: str) -> bool:
        """Whether the head answers a task."""
        return any(slot.task == task for slot in self.slots)

    def to_json(self) -> str:
        """One line."""
        return json.dumps({"slots": [asdict(slot) for slot in self.slots], "thresholds": dict(self.thresholds)})

    @classmethod
    def from_json(cls, text: str) -> HeadSpec:
        """What ``to_json`` wrote."""
        data: dict[str, Any] = json.loads(text)
        slots = [Slot(**{**slot, "words": tuple(slot["words"])}) for slot in data["slots"]]
        return cls(tuple(slots), data["thresholds"])


class Findings(NamedTuple):
    """What is stated about a face; None where nothing is known of a task.

    Attributes:
        expression, deepfake: names of labels. age: whole years. action_units, attributes: names of what is present.
        course: expressions that follow each other in a clip, a single one where it stays; None of a still.
    """

    expression: str | None = None
    age: int | None = None
    deepfake: str | None = None
    action_units: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    course: tuple[str, ...] | None = None

    def report(self) -> str:
        """In the words of answers, a line a task; what is not stated has no line."""
        lines = []
        for name, value in self._asdict().items():
            if value is not None:
                said = ", ".join(value) or "none" if isinstance(value, tuple) else value
                lines.append(f"{_TITLES[name]}: {said}")
        return "\n".join(lines)


_TITLES = {
    "expression": "Expression",
    "age": "Age",
    "deepfake": "Authenticity",
    "action_units": "Action units",
    "attributes": "Attributes",
    "course": "Course",
}


class Years(NamedTuple):
    """Median and bounds of a distribution over whole years."""

    years: int
    low: int
    high: int


RANGE_MASS = 0.8
"""Share of an age distribution that the reported range covers."""


def read_years(distribution: NDArray[np.floating]) -> Years:
    """Median and the central range that holds ``RANGE_MASS`` of a distribution (n,) over whole years."""
    mass = np.cumsum(distribution.astype(np.float64))
    tail = (1 - RANGE_MASS) / 2
    low, middle, high = (int(np.searchsorted(mass, q)) for q in (tail, 0.5, 1 - tail))
    last = len(distribution) - 1
    return Years(min(middle, last), low, min(high, last))


class ExpertHead:
    """An ensemble of small networks over the experts' outputs, averaged.

    Args:
        spec: which outputs.
        arrays: float32: ``{map,value}_{mean,std}`` and ``heads.F.{patches,regions,hidden,out,skip}.{weight,bias}``.
    """

    def __init__(self, spec: HeadSpec, arrays: Mapping[str, Array]) -> None:
        self.spec, self.arrays = spec, dict(arrays)
        self.folds = len({name.split(".")[1] for name in arrays if name.startswith("heads.")})

    @classmethod
    def load(cls, path: Path) -> ExpertHead:
        """Read ``head.safetensors`` (or a folder that holds one).

        Raises:
            FileMissing: no such file. DamagedCheckpoint: it is no head.
        """
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise FileMissing(
                f"{path} is missing: the head lies beside the weights of a model that looks through experts"
            )
        with reading(path, "get the model again", DamagedCheckpoint):
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                # widened once: products with half precision would widen it for every face
                arrays = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
            if "spec" not in metadata:
                raise DamagedCheckpoint(f"{path} states no spec: it is not the head of a model")
            return cls(HeadSpec.from_json(metadata["spec"]), arrays)

    def save(self, path: Path) -> None:
        """Write ``head.safetensors`` in half precision; what is read back is what runs everywhere."""
        halves = {name: value.astype(np.float16) for name, value in self.arrays.items()}
        write_atomic(path, save(halves, metadata={"spec": self.spec.to_json()}))

    def with_thresholds(self, thresholds: Mapping[str, float]) -> ExpertHead:
        """The same networks with other thresholds."""
        return ExpertHead(replace(self.spec, thresholds=dict(thresholds)), self.arrays)

    def __call__(self, maps: Array, values: Array, landmarks: Array, fold: int | None = None) -> Array:
        """Probabilities (o,) of a clip, the mean over its frames; arguments as :meth:`frames`."""
        return self.frames(maps, values, landmarks, fold).mean(0)

    def read(
        self,
        maps: Array,
        values: Array,
        landmarks: Array,
        fold: int | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> tuple[Array, Findings]:
        """Probabilities (o,) of a clip and what they amount to, its course included; arguments as :meth:`frames`.

        Args:
            labels: what is known of the face, see :meth:`stated`.
        """
        p = self.frames(maps, values, landmarks, fold)
        return p.mean(0), self.find_in(p, labels)

    def find_in(self, probabilities: NDArray[np.floating], labels: Mapping[str, Any] | None = None) -> Findings:
        """What frames (t, o) amount to: :meth:`find` of their mean, where ``labels`` lead, and their course."""
        found = self.find(self.stated(probabilities.mean(0), labels or {}))
        return found._replace(course=self.course(probabilities))

    def course(self, probabilities: NDArray[np.floating]) -> tuple[str, ...] | None:
        """Expressions that follow each other in frames (t, o): those likelier than not. None of one frame, or of none
        that is sure."""
        where = self.spec.offsets().get("expression")
        if len(probabilities) < 2 or where is None:
            return None
        words = next(slot.words for slot in self.spec.slots if slot.name == "expression")
        sure = (words[int(p.argmax())] for p in probabilities[:, where] if p.max() >= SURE)
        return tuple(word for word, _ in groupby(sure)) or None

    def frames(self, maps: Array, values: Array, landmarks: Array, fold: int | None = None) -> Array:
        """Probabilities (t, o) of each frame of maps (t, n, c), values (t, e), landmarks (t, 68, 2).

        Args:
            fold: one head alone: that which never saw the person of a training face.
        """
        a = self.arrays
        maps = np.clip((maps - a["map_mean"]) / a["map_std"], -OUTLIER, OUTLIER)
        values = np.clip((values - a["value_mean"]) / a["value_std"], -OUTLIER, OUTLIER)
        weights = region_weights(landmarks, maps.shape[1])
        chosen = range(self.folds) if fold is None else [fold]
        return np.stack([self._one(f, maps, weights @ maps, values) for f in chosen]).mean(0).astype(np.float32)

    def _one(self, fold: int, maps: Array, pooled: Array, values: Array) -> Array:
        def linear(name: str, x: Array) -> Array:
            return x @ self.arrays[f"heads.{fold}.{name}.weight"].T + self.arrays[f"heads.{fold}.{name}.bias"]

        squeezed = [np.tanh(linear(*part)).reshape(len(maps), -1) for part in (("patches", maps), ("regions", pooled))]
        hidden = _gelu(linear("hidden", np.concatenate([values, *squeezed], -1)))
        logits = linear("out", hidden) + linear("skip", values)
        parts = []
        for slot, where in zip(self.spec.slots, self.spec.offsets().values(), strict=True):
            part = logits[:, where].astype(np.float64)
            parts.append(1 / (1 + np.exp(-part)) if slot.kind == "binary" else _softmax(part))
        return np.concatenate(parts, -1)

    def stated(self, probabilities: NDArray[np.floating], labels: Mapping[str, Any]) -> NDArray[np.floating]:
        """Probabilities (o,) with certainty where labels are known: names, years, yes and no by slot name."""
        p = probabilities.copy()
        for slot, where in zip(self.spec.slots, self.spec.offsets().values(), strict=True):
            if slot.name not in labels:
                continue
            value = labels[slot.name]
            if slot.kind == "binary":
                p[where] = float(value)
            else:
                index = slot.words.index(value) if slot.kind == "single" else min(value, slot.size - 1)
                p[where] = np.arange(slot.size) == index
        return p

    def find(self, probabilities: NDArray[np.floating]) -> Findings:
        """What probabilities (o,) amount to: the likeliest label, the median year, labels above their thresholds."""
        found: dict[str, Any] = {}
        for slot, where in zip(self.spec.slots, self.spec.offsets().values(), strict=True):
            p = probabilities[where]
            if slot.kind == "single":
                found[slot.task] = slot.words[int(p.argmax())]
            elif slot.kind == "number":
                found[slot.task] = read_years(p).years
            else:
                present = (slot.name,) if p[0] >= self.spec.thresholds.get(slot.name, 0.5) else ()
                found[slot.task] = found.get(slot.task, ()) + present
        return Findings(**found)


def region_weights(landmarks: Array, patches: int) -> Array:
    """How much each patch counts for each region (t, r, n): softmax of minus the distances over ``REACH``."""
    centres = patch_centroids(int(patches**0.5))
    distances = np.linalg.norm(region_centroids(landmarks)[:, :, None] - centres[None, None], axis=-1)
    return _softmax(-distances / REACH).astype(np.float32)


def _softmax(x: NDArray[np.floating]) -> NDArray[np.floating]:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _gelu(x: Array) -> Array:
    """The tanh form."""
    return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))
