"""Typed results of an analysis, and their machine-readable form (``docs/output.md``, version 1).

A task that was not requested is None on the face and absent from the dictionary. A task that was requested but that the
picture does not allow to answer has ``abstained=True``, a ``reason``, and no label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facellava import showing
from facellava.errors import FacellavaError
from facellava.types import MediaKind, Quality

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = [
    "SCHEMA_VERSION",
    "ActionUnitsResult",
    "AgeResult",
    "AttributesResult",
    "DeepfakeResult",
    "ExpressionResult",
    "FaceResult",
    "MediaResult",
    "ResultError",
    "TaskResult",
]

SCHEMA_VERSION = 1
"""Version of the dictionaries; within one version fields are only added."""


def _rounded(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in probabilities.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(ABC):
    """What every task's result has.

    Attributes:
        text: the model's answer in words; empty when abstained.
        abstained: the face is too small, blurred or turned away to say something.
        reason: why abstained, for people; None otherwise.
    """

    text: str = ""
    abstained: bool = False
    reason: str | None = None

    @abstractmethod
    def _values(self) -> dict[str, Any]:
        """The fields of the task's own."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``reason`` appears only when abstained."""
        common: dict[str, Any] = {"text": self.text, "abstained": self.abstained}
        if self.abstained:
            common["reason"] = self.reason
        return {**self._values(), **common}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionResult(TaskResult):
    """The displayed expression: what the face shows, not what the person feels."""

    label: str | None
    probabilities: dict[str, float] = field(default_factory=dict)

    def _values(self) -> dict[str, Any]:
        return {"label": self.label, "probabilities": _rounded(self.probabilities)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionUnitsResult(TaskResult):
    """Facial movements in FACS codes (``AU12``), with the probability of each unit that was scored."""

    active: tuple[str, ...] = ()
    probabilities: dict[str, float] = field(default_factory=dict)

    def _values(self) -> dict[str, Any]:
        return {"active": list(self.active), "probabilities": _rounded(self.probabilities)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesResult(TaskResult):
    """Attributes under CelebA's names; ``untrained`` are those that the model was given no examples of."""

    present: tuple[str, ...] = ()
    probabilities: dict[str, float] = field(default_factory=dict)
    untrained: tuple[str, ...] = ()

    def _values(self) -> dict[str, Any]:
        return {
            "present": list(self.present),
            "probabilities": _rounded(self.probabilities),
            "untrained": list(self.untrained),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeResult(TaskResult):
    """Apparent age: an estimate in years with the range (low, high) it lies in."""

    years: int | None
    range: tuple[int, int] | None = None

    def _values(self) -> dict[str, Any]:
        return {"years": self.years, "range": None if self.range is None else list(self.range)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepfakeResult(TaskResult):
    """``real`` or ``fake``: a hint at possible manipulation, never proof."""

    label: str | None
    probabilities: dict[str, float] = field(default_factory=dict)

    def _values(self) -> dict[str, Any]:
        return {"label": self.label, "probabilities": _rounded(self.probabilities)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceResult:
    """One face of a medium.

    Attributes:
        id: number of the face, from 0, left to right at first appearance.
        box: x0, y0, x1, y1 in pixels of the representative frame.
        quality: see Quality.
        spans: [start, end] seconds in which the face is present.
        notes: remarks on how far the answers agree with the measured movement.
        region_attention: share of attention per landmark region, sums to 1; empty without a model answer.
        landmarks: float32 (68, 2), pixels of the representative frame, iBUG-68 order; not part of the dictionary.
    """

    id: int
    box: tuple[float, float, float, float]
    quality: Quality
    spans: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    expression: ExpressionResult | None = None
    action_units: ActionUnitsResult | None = None
    attributes: AttributesResult | None = None
    age: AgeResult | None = None
    deepfake: DeepfakeResult | None = None
    notes: tuple[str, ...] = ()
    region_attention: dict[str, float] = field(default_factory=dict)
    landmarks: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    TASKS: ClassVar[tuple[str, ...]] = ("expression", "action_units", "attributes", "age", "deepfake")

    @property
    def tasks(self) -> dict[str, TaskResult]:
        """The requested tasks by name, in canonical order."""
        return {name: result for name in self.TASKS if (result := getattr(self, name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        quality = self.quality
        return {
            "id": self.id,
            "box": [round(float(value), 1) for value in self.box],
            "quality": {
                name: round(float(getattr(quality, name)), 3)
                for name in ("size", "blur", "yaw", "pitch", "roll", "score")
            },
            "spans": [[round(float(start), 3), round(float(end), 3)] for start, end in self.spans],
            "tasks": {name: result.to_dict() for name, result in self.tasks.items()},
            "notes": list(self.notes),
            "region_attention": _rounded(self.region_attention),
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row, as :meth:`MediaResult.to_frame` has it for all faces."""
        return showing.data_frame([showing.face_row(self.to_dict())])

    def plot(self) -> Figure:
        """As :meth:`MediaResult.plot`."""
        return showing.plot_faces("", [self.to_dict()])

    def _repr_html_(self) -> str:
        return showing.face_html(self.to_dict())


@dataclass(frozen=True, slots=True)
class ResultError:
    """Why a medium has no result: the stable code and the one-line message of a FacellavaError."""

    code: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaResult:
    """What was found in one medium.

    Attributes:
        media: the path as it was given, or a name for media given as arrays.
        kind: ``image`` or ``video``; None when it could not be read.
        model: name of the model that answered; None when there was an error.
        error: None when all is well.
        faces: in stable order, see FaceResult.id.
        frame: uint8 (H, W, 3) RGB, the representative frame in which boxes and landmarks lie; not serialised.
        detections: float32 (n, 4) boxes in ``frame`` of all that the detector takes for a face, those too that are not
            among ``faces`` because no landmarks were found; not serialised.
    """

    media: str
    kind: MediaKind | None
    model: str | None
    error: ResultError | None = None
    faces: tuple[FaceResult, ...] = ()
    frame: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    detections: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @property
    def unread(self) -> list[tuple[float, float, float, float]]:
        """Boxes of ``detections`` whose centre lies in no face's box."""
        centres = [] if self.detections is None else [(box, (box[:2] + box[2:]) / 2) for box in self.detections]
        return [
            (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
            for box, (x, y) in centres
            if not any(f.box[0] <= x <= f.box[2] and f.box[1] <= y <= f.box[3] for f in self.faces)
        ]

    @classmethod
    def failed(cls, media: str, error: FacellavaError) -> MediaResult:
        """The result of a medium that could not be analysed."""
        return cls(media=media, kind=None, model=None, error=ResultError(error.code, str(error)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the object of ``docs/output.md``."""
        error = self.error and self.error.to_dict()
        return {
            "version": SCHEMA_VERSION,
            "media": self.media,
            "kind": self.kind,
            "model": self.model,
            "error": error,
            "faces": [face.to_dict() for face in self.faces],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row per face; a single row without a face when there was an error."""
        head: dict[str, Any] = {"media": self.media, "kind": self.kind, "model": self.model}
        if not self.faces:
            return [{**head, "error": self.error and self.error.code}]
        return [{**head, "error": None, **showing.face_row(face.to_dict())} for face in self.faces]

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a pandas data frame.

        Raises:
            MissingExtra: pandas is not installed (extra ``notebook``).
        """
        return showing.data_frame(self.to_rows())

    def to_html(self, *, picture: bool = False) -> str:
        """HTML without scripts, for notebooks and reports.

        Args:
            picture: put the representative frame with boxes into it. Left out unless asked for: notebooks are passed
                on, and a face would go with them.
        """
        return showing.media_html(self.to_dict(), self.frame if picture else None)

    def plot(self) -> Figure:
        """Probabilities of the displayed expressions and of the movements of each face.

        Raises:
            MissingExtra: matplotlib is not installed (extra ``notebook``).
        """
        return showing.plot_faces(self.media, self.to_dict()["faces"])

    def _repr_html_(self) -> str:
        return self.to_html()
