"""The expert head before language: from the faces of any corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from facellava import tasks, weights
from facellava.errors import FacellavaError
from facellava.model import experts
from facellava.model.expert_report import ExpertHead, HeadSpec
from facellava.runtime.report import AGES, SINGLE
from facellava.training.features import FaceInputs
from facellava.training.head import fit_head, head_report, moments
from facellava.training.samples import Samples
from facellava.training.talks import Corpus, Talk

MOST_FACES = 20_000
"""Faces that the moments and the head are fitted on."""


def expert_digests() -> list[str]:
    """SHA-256 of the face experts' files, for the names of cached features."""
    return [weights.default_register()[name].sha256 for name in experts.WEIGHTS]


def slot_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """``Talk.labels`` as the head's targets: numbers of classes, years below 100, yes and no."""
    result: dict[str, Any] = {}
    for name, value in labels.items():
        if name in SINGLE:
            result[name] = tasks.get(name).names.index(value)
        else:
            result[name] = min(int(value), AGES - 1) if name == "age" else bool(value)
    return result


def gather(talks: list[Talk], inputs: FaceInputs, split: str) -> Samples:
    """One row for each face, the mean over its frames; conversations about one face share it."""
    faces: dict[str, Talk] = {}
    labels: dict[str, dict[str, Any]] = {}
    for talk in talks:
        address = inputs.corpus.folder(talk).address(talk)
        faces.setdefault(address, talk)
        labels.setdefault(address, {}).update(slot_labels(talk.labels))
        if len(faces) >= MOST_FACES:
            break
    maps, values, points, rows = [], [], [], []
    for address, talk in faces.items():
        try:
            seen = inputs.everything(talk)
        except FacellavaError:
            continue  # training meets it again, and reports it
        maps.append(seen["vision_features"].float().mean(0))
        values.append(seen["expert_values"].float().mean(0))
        points.append(seen["landmarks"].mean(0) if "landmarks" in seen else torch.zeros(68, 2))
        subject = talk.subject or talk.digest or talk.id
        rows.append({"id": talk.id, "set": talk.source, "split": split, "subject": subject, "labels": labels[address]})
    return Samples(torch.stack(maps), torch.stack(values), torch.stack(points), rows)


def map_moments(corpus: Corpus, inputs: FaceInputs) -> dict[str, torch.Tensor]:
    """Mean and deviation of the maps' channels, for a tower without a head."""
    train = gather(corpus.talks, inputs, "train")
    return {name: value for name, value in moments(train, range(len(train))).items() if name.startswith("map")}


def fit_expert_head(
    spec: HeadSpec, corpus: Corpus, inputs: FaceInputs, *, seed: int
) -> tuple[ExpertHead, dict[str, float]]:
    """A head for the given labels, and its accuracy by label on held-out faces.

    Faces that cannot be read are left out here; training itself reports them.
    """
    head = fit_head(gather(corpus.talks, inputs, "train"), spec, seed=seed)
    if not corpus.held_out:
        return head, {}
    held_out = gather(corpus.held_out, inputs, "test")
    return head, head_report(head, held_out, range(len(held_out)))
