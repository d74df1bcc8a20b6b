"""Turns a finished run into a folder that ships: ``python -m facellava.training.package RUN OUT``.

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
from facellava.runtime.build import ModelCard
from facellava.training.assemble import HEADS, PLACEHOLDER, STOP


def package(run: Path, out: Path, name: str = "", by_head: Sequence[str] = ()) -> None:
    """Write ``delta.safetensors`` (float16), ``expert.json`` and ``model.json`` of a finished run of the default.

    Args:
        run: folder that ``facellava train default`` wrote. name: of the model; the recipe's by default.
        by_head: tasks whose labels are read off the expert head.
    """
    final = run / "final"
    recipe = json.loads((final / "recipe.json").read_text(encoding="utf-8"))
    lora = recipe["lora"]
    spec = ExpertSpec.from_dict(json.loads((final / "expert.json").read_text(encoding="utf-8")))
    trained = {slot.name for slot in spec.slots}
    delta = {k: v.astype(np.float16) for k, v in load_file(final / "delta.safetensors").items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(delta, out / "delta.safetensors", metadata={"format": "facellava-delta-1"})
    spec.save(out / "expert.json")
    multi = [task for task in tasks.all_tasks().values() if task.kind == "multi"]
    card = ModelCard(
        name=name or recipe["name"],
        base=recipe["model"]["base"],
        crop_margin=recipe["model"]["crop_margin"],
        heads=HEADS,
        grid=GRID,
        lora_scale=lora["alpha"] / lora["rank"],
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
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="", help="of the model; the recipe's by default")
    parser.add_argument("--scored-by-head", nargs="*", default=[], metavar="TASK")
    args = parser.parse_args()
    package(args.run, args.out, args.name, args.scored_by_head)


if __name__ == "__main__":
    main()
