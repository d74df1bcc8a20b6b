"""A small world to train in: a dataset of faces that can be told apart, a byte tokenizer, a tiny recipe."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from model_helpers import byte_tokenizer
from rows_world import make_row
from synthetic_clip import make_clip

from facellava import tasks
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.dataset import write_dataset
from facellava.instruct.records import Instruction

EXPRESSIONS = tasks.get("expression").names
RECIPE = """
name = "tiny"
[model]
start = "random"
tokenizer = "{tokenizer}"
[model.vision]
kind = "clip"
towers = "image"
width = 16
layers = 2
heads = 2
mlp = 32
patch = 14
image_size = 56
frames = 4
temporal = false
[model.fusion]
heads = 4
[model.text]
model_type = "llama"
hidden_size = 48
intermediate_size = 96
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 1024
tie_word_embeddings = true
[data]
paths = ["{data}"]
[[stages]]
name = "pretrain"
trains = ["frlp", "frgca"]
lr = 1e-3
batch = 4
micro_batch = 2
[[stages]]
name = "finetune"
trains = ["frlp", "frgca", "projector", "language_model"]
lr = 1e-3
batch = 4
micro_batch = 2
[watch]
log_steps = 1
save_steps = 2
samples = 1
sample_tokens = 8
[hardware]
threads = 1
"""


def faces(
    count: int, *, videos: int = 0, source: str = "mine", subset: str = "train", **more: Any
) -> list[Instruction]:
    """Rows about faces, one for each expression in turn; the last ones are videos."""
    rows = []
    for n in range(count):
        name = EXPRESSIONS[n % len(EXPRESSIONS)]
        kind = "video" if n >= count - videos else "image"
        text = f"The displayed expression is {name}." + " Look." * (n % 3)
        rows.append(
            make_row(f"{subset}{n:03}", label=name, source=source, subset=subset, kind=kind, description=text, **more)
        )
    return rows


def save_clips(rows: list[Instruction], folder: Path, **cut: Any) -> ClipStore:
    """A clip for each row, with a pattern of its own; ``cut``: its margin and crop."""
    store = ClipStore(folder)
    for row in rows:
        if row.clip in store:
            continue
        rng = np.random.default_rng(zlib.crc32(row.clip.encode()))
        clip = make_clip(6 if row.sample.kind == "video" else 1)
        blocks = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(64, 0).repeat(64, 1)
        pixels = np.broadcast_to(blocks, clip.frames.shape)
        points = np.clip(clip.landmarks + rng.normal(0, 0.1, clip.landmarks.shape), 0, 1).astype(np.float32)
        store.save(row.clip, dataclasses.replace(clip, frames=np.array(pixels), landmarks=points, **cut))
    return store


def write_world(folder: Path, rows: list[Instruction] | None = None, **cut: Any) -> Path:
    """A dataset folder; 14 pictures, 2 videos and 3 held-out pictures by default. ``cut``: margin and crop."""
    rows = [*faces(16, videos=2), *faces(3, subset="test")] if rows is None else rows
    store = save_clips(rows, folder / "clips", **cut)
    write_dataset(folder / "dataset", rows, store, shard_rows=10, pixels=lambda _: True)
    return folder / "dataset"


def write_recipe(folder: Path, data: Path, *changes: tuple[str, str]) -> Path:
    """The tiny recipe beside a tokenizer, with parts of its text replaced."""
    tokenizer = folder / "tokenizer"
    if not tokenizer.is_dir():
        byte_tokenizer().save_pretrained(tokenizer)
    text = RECIPE.format(tokenizer=tokenizer, data=data)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of a stage's log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]
