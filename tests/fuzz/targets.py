"""Readers that are given damaged files: each writes good files once and reads them; what it may raise is ours.

A target is ``make(folder) -> files that are damaged`` and ``read(folder)``. Reading a damaged file gives a result or a
FacellavaError of one line; anything else is a finding.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("instruct", "llm", "model", "runtime")]


class Target(NamedTuple):
    """See the module."""

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]


# --- settings ---


def _recipe(package: str, folder: str, name: str) -> Callable[[Path], list[Path]]:
    def make(place: Path) -> list[Path]:
        from importlib import resources

        text = (resources.files(package) / folder / f"{name}.toml").read_bytes()
        (place / "recipe.toml").write_bytes(text)
        return [place / "recipe.toml"]

    return make


def _read_data_recipe(place: Path) -> object:
    from facellava.instruct.recipe import load_recipe

    return load_recipe(str(place / "recipe.toml"))


def _read_train_recipe(place: Path) -> object:
    from facellava.training.recipe import load_recipe

    return load_recipe(str(place / "recipe.toml"))


def _read_benchmark(place: Path) -> object:
    from facellava.evaluation.benchmark import load_benchmark

    return load_benchmark(str(place / "recipe.toml"))


def _read_baseline(place: Path) -> object:
    from facellava.evaluation.respondents import read_config

    return read_config(str(place / "recipe.toml"))


# --- datasets of others ---


def _source(name: str) -> Target:
    def make(place: Path) -> list[Path]:
        from source_fixtures import fixtures

        fixtures()[name].build(place)
        listed = [place / file for group in fixtures()[name].annotations for file in group]
        texts = [path for path in listed if path.is_file()]
        texts += [path for folder in listed if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
        known = {".csv", ".txt", ".json", ".jsonl", ".tsv", ".xlsx", ""}
        return sorted({path for path in texts if path.suffix.lower() in known})

    def read(place: Path) -> object:
        from facellava.instruct import sources

        source = sources.get(name)
        return [sum(1 for _ in source.read(place, split)) for split in source.INFO.splits]

    return Target(make, read)


# --- what we write ---


def _make_journal(place: Path) -> list[Path]:
    from facellava.instruct.journal import Journal

    with Journal(place / "rows.jsonl") as journal:
        for n in range(12):
            journal.append(f"key {n}", {"result": {"text": "Ä" * n, "marks": [n, None]}})
    return [place / "rows.jsonl"]


def _read_journal(place: Path) -> object:
    """A damaged journal opens, is appended to, and opens again with what it held and the new row."""
    from facellava.instruct.journal import Journal

    with Journal(place / "rows.jsonl") as journal:
        kept = dict(journal.rows)
        journal.append("new", {"result": 1})
    with Journal(place / "rows.jsonl") as journal:
        assert journal.rows == {**kept, "new": {"key": "new", "result": 1}}
    return len(kept)


def _make_answers(place: Path) -> list[Path]:
    from facellava.llm import CallCache, ChatReply, ChatRequest

    cache = CallCache(place / "calls")
    for n in range(8):
        cache.put("service", ChatRequest("m", f"question {n}", ()), ChatReply(f"answer {n}", "m", 1, 1))
    return sorted((place / "calls").glob("*.jsonl"))


def _read_answers(place: Path) -> object:
    """An answer that is found is the one that was given, or its text was what was damaged; never another's."""
    from facellava.llm import CallCache, ChatRequest

    cache = CallCache(place / "calls")
    return [cache.get("service", ChatRequest("m", f"question {n}", ())) for n in range(8)]


def _make_clip(place: Path) -> list[Path]:
    from synthetic_clip import make_clip

    from facellava.instruct.clipstore import ClipStore

    store = ClipStore(place)
    store.save("picture", make_clip(1))
    store.save("moving", make_clip(4))
    return [store.path("picture"), store.path("moving")]


def _read_clip(place: Path) -> object:
    from facellava.instruct.clipstore import ClipStore

    return [ClipStore(place).load(key).frames.shape for key in ("picture", "moving")]


def _make_head(place: Path) -> list[Path]:
    import tiny

    tiny.head().save(place / "head.safetensors")
    return [place / "head.safetensors"]


def _read_head(place: Path) -> object:
    from facellava.model.expert_report import ExpertHead

    return ExpertHead.load(place).folds


def _make_gguf(place: Path) -> list[Path]:
    import tiny

    return [tiny.write_gguf(place / "tiny.gguf", tiny.language_weights())]


def _read_gguf(place: Path) -> object:
    from facellava.model.gguf_weights import read_gguf

    return len(read_gguf(place / "tiny.gguf").weights)


def _make_checkpoint(place: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    state = {f"layer.{n}.weight": torch.full((4, 4), float(n)) for n in range(6)}
    save_file(state, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 4}))
    return [place / "model.safetensors", place / "config.json"]


def _make_pickle(place: Path) -> list[Path]:
    import torch

    torch.save({f"layer.{n}.weight": torch.full((4, 4), float(n)) for n in range(6)}, place / "pytorch_model.bin")
    return [place / "pytorch_model.bin"]


def _read_checkpoint(place: Path) -> object:
    from facellava.model.layouts.source import open_source

    source = open_source(place)
    return {name: entry.read().shape for name, entry in source.entries.items()}


def _make_training_state(place: Path) -> list[Path]:
    import torch

    from facellava.training import checkpoints

    checkpoints.save_tensors(place / "weights.safetensors", {"a": torch.ones(3, 3)}, {"step": 3})
    checkpoints.save_json(place / "scheduler.json", {"last_epoch": 3, "lrs": [0.1, 0.2]})
    return [place / "weights.safetensors", place / "scheduler.json"]


def _read_training_state(place: Path) -> object:
    from facellava.training import checkpoints

    return checkpoints.load_tensors(place / "weights.safetensors"), checkpoints.load_json(place / "scheduler.json")


def _make_dataset(place: Path) -> list[Path]:
    from rows_world import make_row
    from synthetic_clip import make_clip

    from facellava.instruct.clipstore import ClipStore
    from facellava.instruct.dataset import write_dataset

    rows = [make_row(f"row{n}") for n in range(4)]
    store = ClipStore(place / "clips")
    for row in rows:
        store.save(row.clip, make_clip(1))
    write_dataset(place / "dataset", rows, store, pixels=lambda _: True)
    return sorted((place / "dataset" / "data").glob("*.parquet"))


def _read_dataset(place: Path) -> object:
    from facellava.instruct.dataset import read_dataset

    return [row.id for row in read_dataset(place / "dataset")]


def _make_records(place: Path) -> list[Path]:
    from facellava.evaluation.records import RECORDS, Record, write_records

    rows = [Record(f"r{n}", 0, "image", None, "happiness", text="Happiness.", parsed="happiness") for n in range(6)]
    write_records(place / RECORDS, rows)
    return [place / RECORDS]


def _read_records(place: Path) -> object:
    from facellava.evaluation.records import read_records

    return len(read_records(place))


def _make_llava(place: Path) -> list[Path]:
    said = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Happiness."}]
    entries = [{"id": f"e{n}", "image": f"{n}.jpg", "conversations": said} for n in range(3)]
    (place / "train.json").write_text(json.dumps(entries))
    return [place / "train.json"]


def _read_llava(place: Path) -> object:
    from facellava.instruct.importer import import_llava

    return import_llava(place / "train.json", place / "imported")


def _make_lines(place: Path) -> list[Path]:
    texts = ["Happiness. The lip corners are raised.", "AU12 and AU6 are active.", "Between 30 and 40 years.", "real"]
    (place / "lines.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return [place / "lines.jsonl"]


def _read_lines(place: Path) -> object:
    from facellava import tasks
    from facellava.tasks import parse_lines

    text = (place / "lines.jsonl").read_bytes().decode("utf-8", "replace")
    return [list(parse_lines(tasks.get(name), text.splitlines())) for name in tasks.all_tasks()]


@cache
def targets() -> Mapping[str, Target]:
    """All of them by name; those of datasets are found like the readers are."""
    from facellava.instruct import sources

    found = {
        "recipe of data": Target(_recipe("facellava.instruct", "recipes", "open-faces"), _read_data_recipe),
        "recipe of training": Target(_recipe("facellava.training", "recipes", "paper-7b"), _read_train_recipe),
        "benchmark": Target(_recipe("facellava.evaluation", "benchmarks", "raf_db"), _read_benchmark),
        "preset of a model": Target(_recipe("facellava.evaluation", "baselines", "gpt-4o-mini"), _read_baseline),
        "journal": Target(_make_journal, _read_journal),
        "paid answers": Target(_make_answers, _read_answers),
        "clip store": Target(_make_clip, _read_clip),
        "expert head": Target(_make_head, _read_head),
        "GGUF": Target(_make_gguf, _read_gguf),
        "safetensors checkpoint": Target(_make_checkpoint, _read_checkpoint),
        "PyTorch checkpoint": Target(_make_pickle, _read_checkpoint),
        "training checkpoint": Target(_make_training_state, _read_training_state),
        "Parquet dataset": Target(_make_dataset, _read_dataset),
        "records of a run": Target(_make_records, _read_records),
        "LLaVA JSON": Target(_make_llava, _read_llava),
        "answers in free text": Target(_make_lines, _read_lines),
    }
    unwritten = {"utkface"}  # its annotations are the files' names
    return found | {f"dataset {name}": _source(name) for name in sources.all_sources() if name not in unwritten}


class World(NamedTuple):
    """A target's good files, kept in memory, and a folder in which one of them is damaged at a time."""

    target: Target
    folder: Path
    files: list[Path]
    good: list[bytes]

    @classmethod
    def of(cls, name: str, folder: Path) -> World:
        target = targets()[name]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = [path for path in target.make(folder) if path.stat().st_size]
        return cls(target, folder, files, [path.read_bytes() for path in files])

    def read(self, number: int, data: bytes) -> object:
        """Read with file ``number`` holding ``data``; the good bytes are put back."""
        path = self.files[number]
        path.write_bytes(data)
        try:
            return self.target.read(self.folder)
        finally:
            path.write_bytes(self.good[number])
