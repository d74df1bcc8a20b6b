"""Everything that a run needs to go on, as safetensors and JSON: no pickle, and each folder whole or not there."""

from __future__ import annotations

import json
import random
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from facellava.errors import DamagedCheckpoint
from facellava.files import atomic_path, reading, write_atomic, writing_tensors

WEIGHTS, OPTIMIZER, SCHEDULER = "weights.safetensors", "optimizer.safetensors", "scheduler.json"
STAGING = ".saving"
_NAME = re.compile(r"checkpoint-(\d+)")


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: Any = None) -> None:
    """Write tensors, and facts as JSON in the file's metadata, atomically."""
    with atomic_path(path) as temporary:
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        with writing_tensors(temporary):
            save_file(whole, temporary, {"facts": json.dumps(facts)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """What :func:`save_tensors` wrote.

    Raises:
        DamagedCheckpoint: the file is not what was written.
    """
    with _whole(path), safe_open(path, "pt") as file:
        facts = json.loads((file.metadata() or {}).get("facts", "null"))
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a mapping


def save_optimizer(path: Path, state: dict[str, Any]) -> None:
    """An optimizer's ``state_dict``: tensors by parameter and name, groups as JSON."""
    tensors = {
        f"{number}.{name}": torch.as_tensor(value)
        for number, moments in state["state"].items()
        for name, value in moments.items()
    }
    save_tensors(path, tensors, state["param_groups"])


def load_optimizer(path: Path) -> dict[str, Any]:
    """The other way round."""
    tensors, groups = load_tensors(path)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": groups}


def save_random(path: Path) -> None:
    """The states of all random number generators of this process."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    for number, state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []):
        tensors[f"cuda.{number}"] = state
    save_tensors(path, tensors, {"python": [version, list(words), gauss], "numpy": [kind, *rest]})


def load_random(path: Path) -> None:
    """Put the states back; without the file nothing happens, as after a change of the number of processes."""
    if not path.is_file():
        return
    tensors, facts = load_tensors(path)
    version, words, gauss = facts["python"]
    random.setstate((version, tuple(words), gauss))
    kind, *rest = facts["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(tensors["torch"])
    for name, state in tensors.items():
        if name.startswith("cuda.") and torch.cuda.is_available():
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda.")))


def save_json(path: Path, record: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, json.dumps(record, indent=1) + "\n")


def load_json(path: Path) -> Any:
    """What :func:`save_json` wrote into a checkpoint.

    Raises:
        DamagedCheckpoint: the file is not what was written.
    """
    with _whole(path):
        return json.loads(path.read_bytes())


def _whole(path: Path) -> AbstractContextManager[None]:
    advice = f"delete {path.parent}, and the run goes on from the checkpoint before it"
    return reading(path, advice, DamagedCheckpoint)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a stage, oldest first."""
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def publish(folder: Path, keep: int) -> None:
    """Give what was saved in the staging folder its final name, and drop checkpoints that are older than ``keep``."""
    for path in (folder / STAGING).glob("checkpoint-*"):
        target = folder / path.name
        shutil.rmtree(target, ignore_errors=True)
        path.rename(target)
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    for old in checkpoints(folder)[: -keep or None]:
        # renamed first: a folder that is half deleted must not look like a checkpoint
        doomed = old.rename(old.with_name(f".{old.name}"))
        shutil.rmtree(doomed, ignore_errors=True)


def clean(folder: Path) -> None:
    """Remove what a killed process left half done."""
    for path in (folder / STAGING, *folder.glob(".checkpoint-*")):
        shutil.rmtree(path, ignore_errors=True)
