"""Builds the default model's training folder from the open faces: ``python -m facellava.instruct.build_default``.

Every picture goes through the front end and the frozen experts once; what fails is written to ``rejections.jsonl``
with its reason. Two steps, so that wording can change without decoding a picture again: ``features`` writes
``features.safetensors`` and ``faces.jsonl``; ``conversations`` writes ``samples.jsonl`` and ``expert.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from facellava import tasks, weights
from facellava.errors import FacellavaError
from facellava.face import FaceFrontEnd, blendshape_names, read_media
from facellava.instruct.evidence import FaceEvidence, conversation, measures_from_blendshapes
from facellava.instruct.fakes import KINDS, make_fake, recompress
from facellava.instruct.open_faces import (
    NOISY_ATTRIBUTES,
    NOT_ASKED,
    PHOTO_UNITS,
    RENDER_UNITS,
    OpenFace,
    read_photos,
    read_renders,
)
from facellava.model.expert_spec import ExpertSpec
from facellava.model.experts import ExpertEncoder
from facellava.model.gguf_weights import read_gguf
from facellava.runtime.build import BASE, CROP_MARGIN
from facellava.runtime.report import AGES, report_spec
from facellava.types import FaceClip

HELD_OUT_KIND = "warp"
"""A manipulation that training never sees."""


def attribute_names() -> tuple[str, ...]:
    return tuple(label.name for label in tasks.get("attributes").labels)


def trained_units() -> tuple[str, ...]:
    known = {*PHOTO_UNITS, *RENDER_UNITS}
    return tuple(label.name for label in tasks.get("action_units").labels if label.name in known)


def trained_attributes() -> tuple[str, ...]:
    return tuple(a for a in attribute_names() if a not in NOISY_ATTRIBUTES | NOT_ASKED)


def default_spec(tokenizer: Tokenizer) -> ExpertSpec:
    """The expert head's outputs: every label that the open faces support."""
    return report_spec(tokenizer, {"expression", "deepfake", "age", *trained_units(), *trained_attributes()})


def labels_of(face: OpenFace, authenticity: str | None) -> dict[str, Any]:
    """Slot name -> target; labels that are unknown are absent."""
    labels: dict[str, Any] = {**face.action_units}
    labels.update({k: v for k, v in face.attributes.items() if k in trained_attributes()})
    if face.expression is not None:
        labels["expression"] = [label.name for label in tasks.get("expression").labels].index(face.expression)
    if face.age is not None:
        labels["age"] = min(round(face.age), AGES - 1)
    if authenticity is not None:
        labels["deepfake"] = [label.name for label in tasks.get("deepfake").labels].index(authenticity)
    return labels


def _clip_of(front: FaceFrontEnd, face: OpenFace) -> FaceClip:
    """The clip of the annotated face: the one whose box is nearest to the annotated box."""
    clips = front.clips(read_media(face.path))
    if face.box is None:
        return max(clips, key=lambda c: c.quality.size)
    x, y, w, h = face.box
    centre = np.array([x + w / 2, y + h / 2])
    return min(clips, key=lambda c: float(np.linalg.norm(c.boxes[0].reshape(2, 2).mean(0) - centre)))


def _variants(face: OpenFace, clip: FaceClip, donors: list[FaceClip]) -> Iterator[tuple[str, np.ndarray, str | None]]:
    """(suffix, pixels, authenticity): the picture itself and, for genuine photographs, manipulated copies."""
    yield "", clip.frames[0], "real" if face.genuine else None
    if not face.genuine:
        return
    rng = np.random.default_rng(zlib.crc32(face.id.encode()))

    def treated(image: np.ndarray) -> np.ndarray:
        return recompress(image, rng) if rng.random() < 0.7 else image

    yield "-real", treated(clip.frames[0]), "real"
    for kind in KINDS:
        if kind == HELD_OUT_KIND and face.split == "train":
            continue
        donor = donors[int(rng.integers(len(donors)))] if donors else clip
        fake = make_fake(clip.frames[0], clip.landmarks[0], kind, rng, donor=(donor.frames[0], donor.landmarks[0]))
        yield f"-{kind}", treated(fake), "fake"


def build_features(root: Path, out: Path, *, renders: int, threads: int) -> None:
    """Decode, find, crop, landmark and encode every face; ``renders`` limits the rendered ones per split."""
    front = FaceFrontEnd(weights.resolve, margin=CROP_MARGIN, threads=threads)
    encoder = ExpertEncoder(weights.resolve, threads=threads)
    by_split: dict[str, list[OpenFace]] = {"train": [], "test": []}
    for face in read_renders(root):
        by_split[face.split].append(face)
    # Every k-th render, so that all prototypes and random mixtures stay represented.
    kept = [f[:: max(1, len(f) // n)] for f, n in ((by_split["train"], renders), (by_split["test"], renders // 5))]
    donors: dict[str, list[FaceClip]] = {"train": [], "test": []}
    arrays: dict[str, list[np.ndarray]] = {"maps": [], "values": [], "landmarks": [], "blendshapes": []}
    out.mkdir(parents=True, exist_ok=True)
    with (out / "faces.jsonl").open("w") as rows, (out / "rejections.jsonl").open("w") as rejected:
        for n, face in enumerate(itertools.chain(read_photos(root, attribute_names()), *kept)):
            try:
                clip = _clip_of(front, face)
            except FacellavaError as error:
                rejected.write(json.dumps({"id": face.id, "reason": error.code}) + "\n")
                continue
            for suffix, pixels, authenticity in _variants(face, clip, donors[face.split]):
                features = encoder.encode(pixels[None], clip.landmarks[:1], clip.blendshapes[:1])
                arrays["maps"].append(features.maps[0].astype(np.float16))
                arrays["values"].append(features.values[0])
                arrays["landmarks"].append(clip.landmarks[0])
                arrays["blendshapes"].append(clip.blendshapes[0])
                rows.write(json.dumps(_row(face, suffix, authenticity)) + "\n")
            if face.genuine:
                donors[face.split] = [*donors[face.split][-30:], clip]
            if n % 200 == 0:
                print(f"{n} faces, {len(arrays['maps'])} rows", flush=True)
    save_file({k: np.stack(v) for k, v in arrays.items()}, out / "features.safetensors")


def _row(face: OpenFace, suffix: str, authenticity: str | None) -> dict[str, Any]:
    return {
        "id": face.id + suffix,
        "set": face.set,
        "split": face.split,
        "subject": face.subject,
        "authenticity": authenticity,
        "labels": labels_of(face, authenticity),
        "face": {k: v for k, v in asdict(face).items() if k in ("expression", "age", "description")},
    }


def _evidence(row: dict[str, Any], blendshapes: np.ndarray) -> FaceEvidence:
    units = {u: row["labels"][u] for u in trained_units() if u in row["labels"]}
    attributes = {a: row["labels"][a] for a in trained_attributes() if a in row["labels"]}
    return FaceEvidence(
        expression=row["face"]["expression"],
        action_units=units or None,
        attributes=attributes or None,
        age=row["labels"].get("age"),
        authenticity=row["authenticity"],
        measures=measures_from_blendshapes(blendshapes, blendshape_names()),
        description=row["face"]["description"],
        manipulation=next((kind for kind in KINDS if row["id"].endswith(f"-{kind}")), None),
    )


def build_conversations(out: Path, *, variants: int, seed: int = 0) -> None:
    """Write ``samples.jsonl`` (labels and ``variants`` conversations a row) and ``expert.json``."""
    blendshapes = load_file(out / "features.safetensors")["blendshapes"]
    rows = [json.loads(line) for line in (out / "faces.jsonl").read_text(encoding="utf-8").splitlines()]
    with (out / "samples.jsonl").open("w", encoding="utf-8") as samples:
        for row, shapes in zip(rows, blendshapes, strict=True):
            rng = random.Random(f"{seed}-{row['id']}")
            evidence = _evidence(row, shapes)
            talks = [conversation(evidence, rng) for _ in range(variants)]
            record = {k: row[k] for k in ("id", "set", "split", "subject", "labels")}
            record["conversations"] = [[[t.question, t.answer] for t in talk] for talk in talks]
            samples.write(json.dumps(record) + "\n")
    tokenizer = read_gguf(weights.resolve(BASE)).tokenizer
    default_spec(tokenizer).save(out / "expert.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("features", "conversations"))
    parser.add_argument("--faces", type=Path, help="folder with congress.jsonl, sfhq.jsonl, renders.jsonl, ...")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--renders", type=int, default=2400, help="rendered training faces (a fifth of it for test)")
    parser.add_argument("--variants", type=int, default=3, help="conversations a face")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.step == "features":
        build_features(args.faces, args.out, renders=args.renders, threads=args.threads)
    else:
        build_conversations(args.out, variants=args.variants)


if __name__ == "__main__":
    main()
