"""The expert head before language: from the faces of any corpus."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from facellava import tasks, weights
from facellava.errors import FacellavaError, UsageError
from facellava.model import experts
from facellava.model.expert_report import ExpertHead, HeadSpec
from facellava.runtime.report import AGES, SINGLE, head_spec
from facellava.training.features import FaceInputs
from facellava.training.head import fit_head, head_report, moments
from facellava.training.samples import Samples
from facellava.training.talks import Corpus, Talk

MOST_FACES = 20_000
"""Faces that the moments and the head are fitted on."""
FEWEST = 20
"""Examples of each kind that a label needs to get a place in the report."""


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


def choose(talks: list[Talk], corpus: Corpus, *, most: int = MOST_FACES) -> dict[str, list[Talk]]:
    """Address of a face -> the conversations about it, of at most so many faces: by turns from every source, those with
    the smallest hash first, so that a large source does not stand for all."""
    faces: dict[str, list[Talk]] = {}
    by_source: dict[str, dict[str, None]] = {}
    for talk in talks:
        address = corpus.folder(talk).address(talk)
        faces.setdefault(address, []).append(talk)
        by_source.setdefault(talk.source, {})[address] = None
    if len(faces) <= most:
        return faces
    drawn = [sorted(own, key=lambda a: hashlib.sha256(a.encode()).digest()) for own in by_source.values()]
    turns = (address for group in itertools.zip_longest(*drawn) for address in group if address is not None)
    chosen = set(itertools.islice(dict.fromkeys(turns), most))
    return {address: own for address, own in faces.items() if address in chosen}


def gather(faces: Mapping[str, list[Talk]], inputs: FaceInputs, split: str) -> Samples:
    """One row for each face, the mean over its frames; conversations about one face share it."""
    maps, values, points, rows = [], [], [], []
    for talks in faces.values():
        talk = talks[0]
        try:
            seen = inputs.everything(talk)
        except FacellavaError:
            continue  # training meets it again, and reports it
        labels: dict[str, Any] = {}
        for own in talks:
            labels.update(slot_labels(own.labels))
        maps.append(seen["vision_features"].float().mean(0))
        values.append(seen["expert_values"].float().mean(0))
        points.append(seen["landmarks"].mean(0) if "landmarks" in seen else torch.zeros(68, 2))
        subject = talk.subject or talk.digest or talk.id
        rows.append({"id": talk.id, "set": talk.source, "split": split, "subject": subject, "labels": labels})
    return Samples(torch.stack(maps), torch.stack(values), torch.stack(points), rows)


def map_moments(corpus: Corpus, inputs: FaceInputs) -> dict[str, torch.Tensor]:
    """Mean and deviation of the maps' channels, for a tower without a head."""
    train = gather(choose(corpus.talks, corpus), inputs, "train")
    return {name: value for name, value in moments(train, range(len(train))).items() if name.startswith("map")}


def fit_expert_head(corpus: Corpus, inputs: FaceInputs, *, seed: int) -> tuple[ExpertHead, dict[str, float]]:
    """A head for the labels that the chosen faces support, and its accuracy by label on held-out faces.

    Faces that cannot be read are left out here; training itself reports them.

    Raises:
        UsageError: they support no label.
    """
    faces = choose(corpus.talks, corpus)
    spec = report_spec([talk for talks in faces.values() for talk in talks])
    head = fit_head(gather(faces, inputs, "train"), spec, seed=seed)
    if not corpus.held_out:
        return head, {}
    held_out = gather(choose(corpus.held_out, corpus), inputs, "test")
    return head, head_report(head, held_out, range(len(held_out)))


def report_spec(talks: Sequence[Talk]) -> HeadSpec:
    """A head for all labels that the data supports.

    Raises:
        UsageError: it supports none.
    """
    labels = supported_labels(talks)
    if not labels:
        raise UsageError(
            f"the data has {FEWEST} examples of no label, so that the expert head has nothing to report: "
            "set model.report = false, or add data"
        )
    return head_spec(labels)


def supported_labels(talks: Sequence[Talk]) -> set[str]:
    """Labels of which the data has enough examples to be learned: ``FEWEST`` of each kind."""
    seen: Counter[tuple[str, Any]] = Counter()
    for talk in talks:
        seen.update((name, value if isinstance(value, bool) else None) for name, value in talk.labels.items())
    names = {name for name, _ in seen}
    multi = {name for task in tasks.all_tasks().values() if task.kind == "multi" for name in task.names}
    enough = {name for name in names & multi if min(seen[name, True], seen[name, False]) >= FEWEST}
    return enough | {name for name in names - multi if seen[name, None] >= FEWEST}
