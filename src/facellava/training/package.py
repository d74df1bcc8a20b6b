"""Turns a finished run into a folder that ships: ``python -m facellava.training.package RUN OUT``.

Half precision halves the size; both runtimes read the same halves, so they still agree with each other.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from facellava.errors import UsageError
from facellava.files import write_atomic
from facellava.model.expert_report import FILE as HEAD_FILE
from facellava.model.experts import GRID
from facellava.runtime.build import ModelCard
from facellava.training.assemble import HEADS, PLACEHOLDER, STOP


def package(run: Path, out: Path, name: str = "", mean_with: Path | None = None) -> None:
    """Write ``delta.safetensors`` (float16), ``head.safetensors`` and ``model.json`` of a finished run of the default.

    Args:
        run: folder that ``facellava train default`` wrote. name: of the model; the recipe's by default.
        mean_with: an earlier package that the run went on from: what ships is the mean of both differences, which
            keeps more of what the earlier one knew.

    Raises:
        UsageError: the language model was trained whole, which is no small difference; or the other package is of
            another shape.
    """
    final = run / "final"
    recipe = json.loads((final / "recipe.json").read_text(encoding="utf-8"))
    lora = recipe["lora"]
    if lora is None:
        raise UsageError(
            f"{run} has no [lora]: only differences to the default's language model are packaged; use {final}"
        )
    delta = {k: v.astype(np.float16) for k, v in load_file(final / "delta.safetensors").items()}
    if mean_with is not None:
        delta = _mean(delta, load_file(mean_with / "delta.safetensors"))
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "delta.safetensors", save(delta, metadata={"format": "facellava-delta-2"}))
    shutil.copyfile(final / HEAD_FILE, out / HEAD_FILE)
    card = ModelCard(
        name=name or recipe["name"],
        base=recipe["model"]["base"],
        crop_margin=recipe["model"]["crop_margin"],
        heads=HEADS,
        grid=GRID,
        lora_scale=lora["alpha"] / lora["rank"],
        placeholder=PLACEHOLDER,
        stop=STOP,
    )
    write_atomic(out / "model.json", json.dumps(card._asdict(), indent=1) + "\n")


def _mean(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if {k: v.shape for k, v in one.items()} != {k: v.shape for k, v in other.items()}:
        raise UsageError("the two differences have other parts or shapes: take a package that the run went on from")
    mean = {k: (v.astype(np.float32) + other[k].astype(np.float32)) / 2 for k, v in one.items()}
    return {k: v.astype(np.float16) for k, v in mean.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="", help="of the model; the recipe's by default")
    parser.add_argument("--mean-with", type=Path, help="an earlier package; ships the mean of both differences")
    args = parser.parse_args()
    try:
        package(args.run, args.out, args.name, args.mean_with)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
