"""Builds the default model's training folder from the open faces: ``python -m facellava.training.build_default``.

Every picture goes through the front end and the frozen experts once; what fails is written to ``rejections.jsonl``
with its reason. Three steps, so that wording can change without decoding a picture again: ``features`` writes
``features.safetensors`` and ``faces.jsonl``; ``head`` fits the expert head on them and writes ``head.safetensors``;
``conversations`` writes ``samples.jsonl``. What a conversation says is what its report states: known labels, and for
the rest what the head finds that never saw the person.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save, save_file

from facellava import tasks, weights
from facellava.errors import FacellavaError
from facellava.face import FaceFrontEnd, read_media
from facellava.files import write_atomic
from facellava.instruct.evidence import FaceEvidence, conversation
from facellava.instruct.fakes import KINDS, degrade, make_fake, recompress
from facellava.instruct.open_faces import (
    NOISY_ATTRIBUTES,
    NOT_ASKED,
    PHOTO_UNITS,
    RENDER_UNITS,
    OpenFace,
    read_clips,
    read_photos,
    read_renders,
)
from facellava.model.expert_report import FILE as HEAD_FILE
from facellava.model.expert_report import ExpertHead, Findings, HeadSpec
from facellava.model.experts import ExpertEncoder
from facellava.runtime.build import CROP_MARGIN
from facellava.runtime.report import head_spec
from facellava.training.experts import slot_labels
from facellava.training.head import fit_head, head_report, predict
from facellava.training.mirror import MIRROR, Look, mirrored
from facellava.training.samples import load_rows, named_labels
from facellava.training.sequences import FRAMES, MOVING, sequences
from facellava.types import FaceClip

HELD_OUT_KIND = "warp"
"""A manipulation that training never sees."""
MEDIA, MOVING_MEDIA = ("image", "image", "photo", "picture"), ("video", "video", "clip")
"""What users call what they show: stills, and what moves."""
EPOCHS = 10
"""Of the head's networks: an epoch has every face and its mirror image."""
PART = 100
"""Faces that are encoded and written together."""


def trained_units() -> tuple[str, ...]:
    known = {*PHOTO_UNITS, *RENDER_UNITS}
    return tuple(name for name in tasks.get("action_units").names if name in known)


def trained_attributes() -> tuple[str, ...]:
    return tuple(a for a in tasks.get("attributes").names if a not in NOISY_ATTRIBUTES | NOT_ASKED)


def default_spec() -> HeadSpec:
    """The expert head's outputs: every label that the open faces support."""
    return head_spec({"expression", "deepfake", "age", *trained_units(), *trained_attributes()})


def labels_of(face: OpenFace, authenticity: str | None) -> dict[str, Any]:
    """Slot name -> target; labels that are unknown are absent."""
    labels: dict[str, Any] = {**face.action_units}
    labels.update({k: v for k, v in face.attributes.items() if k in trained_attributes()})
    if face.expression is not None:
        labels["expression"] = face.expression
    if face.age is not None:
        labels["age"] = round(face.age)
    if authenticity is not None:
        labels["deepfake"] = authenticity
    return slot_labels(labels)


class _Worker:
    """A process of its own: front end and experts, each on one thread. Used through the functions below."""

    def __init__(self, root: Path) -> None:
        self.front = FaceFrontEnd(weights.resolve, margin=CROP_MARGIN, threads=1)
        self.encoder = ExpertEncoder(weights.resolve, threads=1)
        self.donors: dict[str, list[OpenFace]] = {"train": [], "test": []}
        for face in read_photos(root, tasks.get("attributes").names):
            if face.genuine:
                self.donors[face.split].append(face)
        self._donor = lru_cache(maxsize=64)(self._clip)
        self._own = lru_cache(maxsize=1)(self._clip)  # frames of a clip follow each other

    def _clip(self, path: Path, box: tuple[float, float, float, float] | None) -> FaceClip:
        """The clip of the annotated face: the one whose box is nearest to the annotated box."""
        clips = self.front.clips(read_media(path))
        if box is None:
            return max(clips, key=lambda c: c.quality.size)
        x, y, w, h = box
        centre = np.array([x + w / 2, y + h / 2])
        return min(clips, key=lambda c: float(np.linalg.norm(c.boxes[0].reshape(2, 2).mean(0) - centre)))

    def part(self, faces: list[OpenFace], target: Path) -> None:
        """Features of some faces: arrays, with their rows and what failed as text beside them."""
        arrays: dict[str, list[np.ndarray]] = {"maps": [], "values": [], "landmarks": [], "blendshapes": []}
        rows, rejected = [], []
        for face in faces:
            try:
                clip = self._own(face.path, face.box)
            except FacellavaError as error:
                rejected.append({"id": face.id, "reason": error.code})
                continue
            for suffix, look, authenticity in self._variants(face, clip):
                features = self.encoder.encode(look.pixels[None], look.landmarks[None], look.blendshapes[None])
                arrays["maps"].append(features.maps[0].astype(np.float16))
                arrays["values"].append(features.values[0])
                arrays["landmarks"].append(look.landmarks)
                arrays["blendshapes"].append(look.blendshapes)
                rows.append(_row(face, suffix, authenticity))
        texts = {"rows": json.dumps(rows), "rejected": json.dumps(rejected)}
        write_atomic(target, save({name: np.stack(value) for name, value in arrays.items()}, metadata=texts))

    def _variants(self, face: OpenFace, clip: FaceClip) -> Iterator[tuple[str, Look, str | None]]:
        """(suffix, look, authenticity): the picture; for training its mirror image, a photograph's through a worse
        camera; and manipulated copies."""
        rng = np.random.default_rng(zlib.crc32(face.id.encode()))
        k = int(np.abs(clip.times - face.time).argmin())
        own = Look(clip.frames[k], clip.landmarks[k], clip.blendshapes[k])
        yield "", own, "real" if face.genuine else None
        if face.split == "train" and face.set == "renders":
            yield MIRROR, mirrored(own), None
        elif face.split == "train" and face.set != "clips":
            # no statement on authenticity: what a bad camera does is neither here nor there
            other = mirrored(own)
            yield "-worn", other._replace(pixels=degrade(other.pixels, rng)), None
        if not face.genuine:
            return

        def treated(image: np.ndarray) -> np.ndarray:
            return recompress(image, rng) if rng.random() < 0.7 else image

        yield "-real", own._replace(pixels=treated(own.pixels)), "real"
        others = [other for other in self.donors[face.split] if other.subject != face.subject]
        for kind in KINDS:
            if kind == HELD_OUT_KIND and face.split == "train":
                continue
            other = others[int(rng.integers(len(others)))]
            donor = self._donor(other.path, other.box)
            fake = make_fake(own.pixels, own.landmarks, kind, rng, donor=(donor.frames[0], donor.landmarks[0]))
            yield f"-{kind}", own._replace(pixels=treated(fake)), "fake"


_workers: list[_Worker] = []
"""The one of this process."""


def _start(root: Path) -> None:
    _workers.append(_Worker(root))


def _make_part(faces: list[OpenFace], target: Path) -> Path:
    _workers[0].part(faces, target)
    return target


def build_features(root: Path, out: Path, *, renders: int, processes: int) -> None:
    """Decode, find, crop, landmark and encode every face; ``renders`` limits the rendered ones for training.

    Works part by part below ``out/parts``: started again, it goes on with those that are missing.
    """
    rendered = list(read_renders(root))
    by_split = {split: [face for face in rendered if face.split == split] for split in ("train", "test")}
    # Every k-th render, so that all prototypes and random mixtures stay represented.
    kept = [f[:: max(1, len(f) // n)] for f, n in ((by_split["train"], renders), (by_split["test"], renders // 6))]
    pictures = [*read_photos(root, tasks.get("attributes").names), *itertools.chain(*kept)]
    frames = list(itertools.chain(*read_clips(root, FRAMES)))
    parts = {
        out / "parts" / f"{name}{start:06d}.safetensors": faces[start : start + PART]
        for name, faces in (("", pictures), ("clips-", frames))
        for start in range(0, len(faces), PART)
    }
    with ProcessPoolExecutor(processes, get_context("spawn"), _start, (root,)) as pool:
        todo = [pool.submit(_make_part, group, path) for path, group in parts.items() if not path.is_file()]
        for done, future in enumerate(as_completed(todo), 1):
            future.result()
            print(f"{done} of {len(todo)} parts", flush=True)
    _join(list(parts), out)


def _join(parts: list[Path], out: Path) -> None:
    """``features.safetensors``, ``faces.jsonl`` and ``rejections.jsonl`` out of the parts, with sequences of stills."""
    arrays: dict[str, list[np.ndarray]] = {}
    lines: dict[str, list[dict[str, Any]]] = {"rows": [], "rejected": []}
    for path in parts:
        with safe_open(path, framework="numpy") as part:
            for name in part.keys():  # noqa: SIM118  # no mapping
                arrays.setdefault(name, []).append(part.get_tensor(name))
            for name, found in lines.items():
                found += json.loads(part.metadata()[name])
    rows, again = sequences(lines["rows"])
    joint = {name: np.concatenate(value) for name, value in arrays.items()}
    save_file({name: np.concatenate([v, v[again]]) for name, v in joint.items()}, out / "features.safetensors")
    for name, found in (("faces", rows), ("rejections", lines["rejected"])):
        write_atomic(out / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in found))


def _row(face: OpenFace, suffix: str, authenticity: str | None) -> dict[str, Any]:
    return {
        "id": face.id + suffix,
        "set": face.set,
        "split": face.split,
        "subject": face.subject,
        "authenticity": authenticity,
        "labels": labels_of(face, authenticity),
    }


def build_head(out: Path, *, seed: int = 0) -> None:
    """Fit the expert head on the features of ``out``, and print how it does on the held-out faces."""
    samples = load_rows(out, out / "faces.jsonl")
    fit_head(samples, default_spec(), epochs=EPOCHS, seed=seed).save(out / HEAD_FILE)
    head = ExpertHead.load(out)  # in half precision, as it ships
    for name in ("congress", "sfhq", "renders", "clips"):
        rows = [i for i in samples.indices("test") if samples.rows[i]["set"] == name]
        found = head_report(head, samples, rows)
        print(f"{name}, {len(rows)} held-out rows: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)


def _evidence(row: dict[str, Any], found: Findings, spec: HeadSpec) -> FaceEvidence:
    """What may be said about a face: what its report states, and of rendered faces only what they can show."""
    rendered = row["set"] in ("renders", *MOVING)
    return FaceEvidence(
        expression=found.expression,
        action_units={name: name in (found.action_units or ()) for name in spec.labels("action_units")},
        attributes=None if rendered else {name: name in (found.attributes or ()) for name in trained_attributes()},
        age=None if rendered else found.age,
        authenticity=None if rendered else found.deepfake,  # pyright: ignore[reportArgumentType]
        measures={},
        course=found.course or (),
    )


def build_conversations(out: Path, *, variants: int, seed: int = 0) -> None:
    """Write ``samples.jsonl``: labels, report and ``variants`` conversations a row."""
    data, head = load_rows(out, out / "faces.jsonl"), ExpertHead.load(out)
    judged = {split: (data.indices(split), split == "train") for split in ("train", "test")}
    p = {
        i: own
        for rows, unseen in judged.values()
        for i, own in zip(rows, predict(head, data, rows, unseen=unseen), strict=True)
    }
    lines = []
    for i, row in enumerate(data.rows):
        rng = random.Random(f"{seed}-{row['id']}")
        frames = row.get("frames", 1)
        record = {k: row[k] for k in ("id", "set", "split", "subject", "labels")} | {"frames": frames}
        record |= {"report": "", "conversations": []}
        if frames:
            # labels of a still lead; those of a clip's first frame are not the clip's
            known = named_labels(row["labels"]) if row["split"] == "train" and frames == 1 else {}
            found = head.find_in(np.stack([p[k] for k in range(i, i + frames)]), known)
            evidence = _evidence(row, found, head.spec)
            media = MEDIA if frames == 1 else MOVING_MEDIA
            talks = [conversation(evidence, rng, media=rng.choice(media)) for _ in range(variants)]
            record["report"] = found.report()
            record["conversations"] = [[[t.question, t.answer] for t in talk] for talk in talks]
        lines.append(json.dumps(record) + "\n")
    write_atomic(out / "samples.jsonl", "".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("features", "head", "conversations"))
    parser.add_argument("--faces", type=Path, help="folder with congress.jsonl, sfhq.jsonl, renders.jsonl, ...")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--renders", type=int, default=6000, help="rendered training faces (a sixth of it for test)")
    parser.add_argument("--variants", type=int, default=3, help="conversations a face")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.step == "features":
        build_features(args.faces, args.out, renders=args.renders, processes=args.processes)
    elif args.step == "head":
        build_head(args.out)
    else:
        build_conversations(args.out, variants=args.variants)


if __name__ == "__main__":
    main()
