"""Pictures and videos of a request as the tensors that the model reads, landmarks among them.

A field of vLLM belongs to one modality, so that what a video gives has names of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facellava import _autoclasses
from facellava.errors import UsageError
from facellava.model.chat_inputs import FaceReader
from facellava.model.config import ClipVisionConfig, FaceLlavaConfig
from facellava.model.processing import FaceLlavaProcessor
from facellava.types import CROP_SIZE, N_BLENDSHAPES, N_LANDMARKS, FaceClip, Quality, Source

__all__ = ["SUFFIX", "FaceItems", "Modality", "field_modalities", "frames_of", "given_clip", "placeholder_inputs"]

Modality = Literal["image", "video"]
SUFFIX: Mapping[Modality, str] = {"image": "", "video": "_videos"}
"""Behind a model input's name, for the fields of each modality."""
LANDMARKS = "landmarks"
"""Key of ``mm_processor_kwargs``: modality -> points (68, 2) or (t, 68, 2) of what is a crop already."""


def input_names(config: FaceLlavaConfig) -> tuple[str, ...]:
    """Model inputs of one face, in the order of ``encode_visual``.

    Raises:
        UsageError: the model looks through face experts, whose networks vLLM does not run.
    """
    if not isinstance(config.vision, ClipVisionConfig):
        raise UsageError("this model looks through face experts: it is small, and served without vLLM")
    names = ["pixel_values"]
    if config.fusion.uses_landmarks:
        names.append("landmarks")
    if config.fusion.uses_parsing:
        names.append("parsing_values")
    return tuple(names)


def field_modalities(config: FaceLlavaConfig) -> dict[str, Modality]:
    """Field -> the modality that it belongs to; each has one entry an item, (t, 3, s, s) or (t, 68, 2)."""
    return {name + suffix: modality for modality, suffix in SUFFIX.items() for name in input_names(config)}


def frames_of(config: FaceLlavaConfig, modality: Modality) -> int:
    """Most frames that the model looks at."""
    return 1 if modality == "image" else config.vision.sampled_frames(10**6)


class FaceItems:
    """Finds the face in pictures and videos, as everywhere else, and computes what the model reads.

    Args:
        processor: of the served folder.
        faces: finds faces; the package's own front end when None. It serves one thread at a time.
    """

    def __init__(self, processor: FaceLlavaProcessor, faces: FaceReader | None = None) -> None:
        self.processor, self._faces, self._lock = processor, faces, threading.Lock()

    def __call__(
        self, images: Sequence[Any], videos: Sequence[Any], landmarks: Mapping[str, Any] | None = None
    ) -> dict[str, list[Tensor]]:
        """Fields of a request's items.

        Args:
            images: Pillow pictures or uint8 (h, w, 3). videos: uint8 (t, h, w, 3) each.
            landmarks: see ``LANDMARKS``; without it the face is looked for.

        Raises:
            NoFace: there is none. UsageError: landmarks that do not fit.
        """
        found: dict[str, list[Tensor]] = {}
        given: dict[Modality, Sequence[Any]] = {"image": images, "video": videos}
        for modality, items in given.items():
            for item in items:
                seen = self.processor.look(self._clip(item, (landmarks or {}).get(modality)))
                for name in input_names(self.processor.config):
                    found.setdefault(name + SUFFIX[modality], []).append(seen.inputs[name])
        return found

    def _clip(self, item: Any, landmarks: Any) -> FaceClip:
        config = self.processor.config
        if landmarks is not None:
            return given_clip(item, landmarks, config)
        with self._lock:
            if self._faces is None:
                self._faces = _autoclasses.face_reader(config.crop_margin, config.crop)
            return self._faces(item)


def given_clip(item: Any, landmarks: Any, config: FaceLlavaConfig) -> FaceClip:
    """A clip of crops that were cut and landmarked elsewhere.

    Raises:
        UsageError: crops of another size, or points that are not (68, 2) for each.
    """
    frames = np.asarray(item.convert("RGB") if hasattr(item, "convert") else item)
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.dtype != np.uint8 or frames.shape[1:] != (CROP_SIZE, CROP_SIZE, 3):
        raise UsageError(f"with landmarks, give crops of {CROP_SIZE} x {CROP_SIZE} pixels; got {frames.shape[1:]}")
    points = _points(landmarks, len(frames))
    zeros = np.zeros((len(frames), N_BLENDSHAPES), np.float32)
    return FaceClip(
        frames=frames,
        landmarks=points,
        blendshapes=zeros,
        boxes=zeros[:, :4],
        times=np.arange(len(frames), dtype=np.float64),
        face_id=0,
        quality=Quality(float(CROP_SIZE), 0.0, 0.0, 0.0, 0.0, 1.0),
        source=Source("", 0.0, 0.0),
        margin=config.crop_margin,
        crop=config.crop,
    )


def _points(landmarks: Any, frames: int) -> NDArray[np.float32]:
    try:
        points = np.asarray(landmarks, np.float32)
    except (ValueError, TypeError) as error:
        raise UsageError(f"landmarks are no table of numbers: {error}") from error
    points = points[None] if points.ndim == 2 else points
    if points.shape != (frames, N_LANDMARKS, 2) or not np.isfinite(points).all():
        raise UsageError(f"landmarks have shape {points.shape}; {frames} crops need ({frames}, {N_LANDMARKS}, 2)")
    return points


def placeholder_inputs(config: FaceLlavaConfig, modality: Modality) -> tuple[Any, list[Any]]:
    """A grey item of the largest kind and its landmarks, for measuring memory: there is no face to look for."""
    frames = frames_of(config, modality)
    pixels = np.full((frames, CROP_SIZE, CROP_SIZE, 3), 127, np.uint8)
    points = np.full((frames, N_LANDMARKS, 2), 0.5).tolist()
    return (pixels[0], points[0]) if modality == "image" else (pixels, points)
