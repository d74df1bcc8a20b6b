"""From a conversation's face to model inputs, and the cache of what the frozen vision tower computes.

A cache entry is named after the clip, the tower and its weights, the frames that are sampled and what is drawn: equal
names, equal contents, so that runs, recipes and machines can share a folder. An entry appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from facellava.errors import DamagedFile, DamagedMedia, FacellavaError, FileMissing
from facellava.files import reading, write_atomic
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig
from facellava.model.frames import frame_indices
from facellava.model.processing import FaceLlavaProcessor
from facellava.training.samples import fold_of
from facellava.training.talks import Corpus, Talk
from facellava.types import FaceClip

FORMAT = 2
"""Raised whenever entries change."""
Inputs = dict[str, Tensor]
Progress = Callable[[int, int], None]


def needed_inputs(config: FaceLlavaConfig) -> tuple[str, ...]:
    """Names of the visual inputs that a model reads when features are cached."""
    names = ["vision_features"]
    if config.fusion.uses_landmarks:
        names.append("landmarks")
    if config.fusion.uses_parsing:
        names.append("parsing_values")
    return tuple(names)


class FeatureCache:
    """Features by name below a folder.

    Args:
        folder: created on first use.
        identity: of everything but the clip that decides an entry, see ``identity``.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def path(self, address: str) -> Path:
        """Where the entry of a clip is or would be."""
        name = hashlib.sha256(f"{self.identity}|{address}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def get(self, address: str) -> Inputs | None:
        """The entry, None if there is none that can be read."""
        path = self.path(address)
        if not path.is_file():
            return None
        try:
            with reading(path):
                return {name: value.float() for name, value in load_file(path).items()}
        except DamagedFile:
            return None  # it is computed and written again

    def put(self, address: str, inputs: Inputs) -> None:
        """Keep an entry; maps in half precision, everything else as it is."""
        halved = {
            name: (value.half() if name in ("vision_features", "parsing_values") else value).contiguous()
            for name, value in inputs.items()
        }
        write_atomic(self.path(address), save(halved))


def identity(config: FaceLlavaConfig, tower: nn.Module, experts: Iterable[str] = ()) -> str:
    """Names the frozen tower: its configuration and weights, or the digests of the face experts."""
    total = hashlib.sha256(json.dumps([FORMAT, config.to_dict()["vision"], config.fusion.uses_parsing]).encode())
    if isinstance(config.vision, ExpertVisionConfig):
        # what the experts compute depends on neither the head nor the report
        total = hashlib.sha256(
            json.dumps([FORMAT, "experts", config.vision.frames, config.fusion.uses_parsing]).encode()
        )
        for digest in experts:
            total.update(digest.encode())
        return total.hexdigest()
    for name, tensor in sorted(tower.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().float().cpu().numpy().tobytes())
    return total.hexdigest()


class FaceInputs:
    """What the model reads of a conversation's face: from the folder, the cache, or computed now.

    Args:
        corpus: where clips come from.
        processor: the same as at inference.
        cache: None computes features every time (CLIP type: in the model, from pixels).
        tower: the frozen tower, needed with a cache where it reads pixels.
    """

    def __init__(
        self,
        corpus: Corpus,
        processor: FaceLlavaProcessor,
        cache: FeatureCache | None = None,
        tower: nn.Module | None = None,
    ) -> None:
        self.corpus, self.processor, self.cache, self._tower = corpus, processor, cache, tower
        self._reports: dict[tuple[str, str], str] = {}

    @property
    def config(self) -> FaceLlavaConfig:
        """Of the model."""
        return self.processor.config

    def frames(self, talk: Talk) -> int:
        """Frames that the model looks at."""
        return self.config.vision.sampled_frames(talk.frames)

    def __call__(self, talk: Talk) -> Inputs:
        """Tensors by name, each with a leading axis of frames.

        Raises:
            FacellavaError: the clip cannot be read, or lacks what the model needs.
        """
        found = self.everything(talk)
        if "pixel_values" in found:
            return found
        names = needed_inputs(self.config)
        if missing := [name for name in names if name not in found]:
            raise FileMissing(f"{talk.id}: the folder has no {missing[0]}, which this model needs")
        return {name: found[name] for name in names}

    def everything(self, talk: Talk) -> Inputs:
        """What is known of the face: more than the model reads, ``expert_values`` among them.

        Raises:
            FacellavaError: the clip cannot be read.
        """
        folder = self.corpus.folder(talk)
        stored = folder.stored(talk)
        if stored is not None:
            return stored
        if self.cache is None:
            return self._look(self._clip(talk))
        address = folder.address(talk)
        found = self.cache.get(address)
        if found is None:
            found = self._compute(talk)
            self.cache.put(address, found)
        return found

    def report(self, talk: Talk) -> str:
        """What opens a conversation about the face: its labels, and for the rest what the expert head finds.

        The network of the head that never saw the person is asked; a face that cannot be read has no report.
        """
        head = self.processor.head
        if head is None:
            return ""
        if talk.report is not None:
            return talk.report
        key = (self.corpus.folder(talk).address(talk), json.dumps(dict(talk.labels), sort_keys=True))
        if key not in self._reports:
            try:
                seen = self.everything(talk)
            except FacellavaError:
                return ""
            fold = fold_of(talk.subject or talk.digest or talk.id, head.folds)
            inputs = (seen[name].numpy() for name in ("vision_features", "expert_values", "landmarks"))
            self._reports[key] = head.read(*inputs, fold=fold, labels=talk.labels)[1].report()
        return self._reports[key]

    def fill(self, talks: Iterable[Talk], progress: Progress) -> dict[str, FacellavaError]:
        """Compute what the cache lacks; id -> error of the conversations whose face cannot be read."""
        failed: dict[str, FacellavaError] = {}
        listed = list(talks)
        for number, talk in enumerate(listed):
            try:
                self(talk)
            except FacellavaError as error:
                failed[talk.id] = error
            progress(number + 1, len(listed))
        return failed

    def _clip(self, talk: Talk) -> FaceClip:
        experts = isinstance(self.config.vision, ExpertVisionConfig)
        clip = self.corpus.folder(talk).clip(talk, blendshapes=experts)
        if len(clip.frames) != talk.frames:
            raise DamagedMedia(f"{talk.id}: {len(clip.frames)} crops, but the index says {talk.frames}: build it again")
        return clip

    @torch.no_grad()
    def _compute(self, talk: Talk) -> Inputs:
        clip = self._clip(talk)
        inputs = self._look(clip)
        if isinstance(self.config.vision, ExpertVisionConfig):
            return inputs
        # in every entry, so that models with and without landmarks share it
        inputs["landmarks"] = _points(clip, self.frames(talk))
        assert self._tower is not None and "parsing_values" not in inputs
        device = next(self._tower.parameters()).device
        pixels = inputs.pop("pixel_values")
        return {"vision_features": self._tower(pixels[None].to(device))[0].float().cpu(), **inputs}

    def _look(self, clip: FaceClip) -> Inputs:
        """What the processor makes of a clip; of experts' faces all that a head reads, too."""
        seen = self.processor.look(clip)
        if seen.values is None:
            return seen.inputs
        return {**seen.inputs, "expert_values": seen.values, "landmarks": _points(clip, seen.frames)}


def _points(clip: FaceClip, frames: int) -> Tensor:
    """Landmarks of the frames that the model looks at."""
    return torch.from_numpy(clip.landmarks[frame_indices(len(clip.frames), frames)])


def is_finite(inputs: Inputs) -> bool:
    """Whether every number is one."""
    return all(bool(torch.isfinite(value).all()) for value in inputs.values())
