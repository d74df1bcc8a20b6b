"""Turns a finished run into a folder that ships: ``python -m facellava.training.package RUN DATA OUT``.

Half precision halves the size; both runtimes read the same halves, so they still agree with each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from facellava import tasks
from facellava.model.expert_spec import ExpertSpec
from facellava.model.experts import GRID
from facellava.runtime.build import BASE, CROP_MARGIN, ModelCard
from facellava.training.default_model import ALPHA, HEADS, PLACEHOLDER, RANK
from facellava.training.two_stage import DERIVED, STOP


def package(run: Path, data: Path, out: Path, name: str, by_head: Sequence[str] = ()) -> None:
    """Write ``delta.safetensors`` (float16), ``expert.json`` and ``model.json``."""
    spec = ExpertSpec.from_dict(json.loads((data / "expert.json").read_text(encoding="utf-8")))
    trained = {slot.name for slot in spec.slots}
    delta = {k: v.astype(np.float16) for k, v in load_file(run / "delta.safetensors").items() if k != DERIVED}
    out.mkdir(parents=True, exist_ok=True)
    save_file(delta, out / "delta.safetensors", metadata={"format": "facellava-delta-1"})
    spec.save(out / "expert.json")
    multi = [task for task in tasks.all_tasks().values() if task.kind == "multi"]
    card = ModelCard(
        name=name,
        base=BASE,
        crop_margin=CROP_MARGIN,
        heads=HEADS,
        grid=GRID,
        lora_scale=ALPHA / RANK,
        placeholder=PLACEHOLDER,
        stop=STOP,
        untrained={task.name: [n for n in task.names if n not in trained] for task in multi},
        thresholds={},
        temperature={},
        scored_by=dict.fromkeys(by_head, "head"),
    )
    (out / "model.json").write_text(json.dumps(card._asdict(), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="facellava-135m")
    parser.add_argument("--scored-by-head", nargs="*", default=[], metavar="TASK")
    args = parser.parse_args()
    package(args.run, args.data, args.out, args.name, args.scored_by_head)


if __name__ == "__main__":
    main()
