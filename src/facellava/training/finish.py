"""What a run leaves: a folder to start from, a card filled from the run, a manifest of what it was trained on."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import facellava
from facellava.files import write_atomic, writing_tensors
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.training import modules, report
from facellava.training.assemble import DELTA
from facellava.training.recipe import LoraConfig, TrainRecipe
from facellava.training.talks import Corpus

FINAL = "final"


@functools.cache
def code_version() -> str:
    """The package's version and a digest of its code."""
    root = Path(facellava.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"{facellava.__version__}+{total.hexdigest()[:12]}"


def describe_data(corpus: Corpus) -> dict[str, Any]:
    """Counts of what a run was trained on."""
    return {
        "conversations": len(corpus.talks),
        "by_source": dict(sorted(Counter(talk.source for talk in corpus.talks).items())),
        "by_task": dict(sorted(Counter(talk.task for talk in corpus.talks).items())),
        "left_out": dict(corpus.left_out),
        "folders": [{"name": folder.path.name, "sha256": folder.digest} for folder in corpus.folders],
    }


def write(
    model: FaceLlavaForConditionalGeneration,
    processor: FaceLlavaProcessor,
    recipe: TrainRecipe,
    corpus: Corpus,
    out: Path,
) -> Path:
    """Write ``out/final`` anew, and the page about the run; returns the folder.

    In it: ``model.safetensors`` with low-rank factors added to their layers, ``config.json``, the processor, the
    recipe, the manifest and ``README.md``; of the small default also ``delta.safetensors``, which
    ``facellava.training.package`` turns into what ships.
    """
    target, partial = out / FINAL, out / f".{FINAL}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    lora = recipe.lora or LoraConfig()
    state = modules.merged_state(model, lora.alpha / lora.rank)
    model.save_pretrained(partial, state_dict={name: value.contiguous() for name, value in state.items()})
    processor.save_pretrained(partial)
    if recipe.model.start == "default":
        _write_delta(model, partial)
    for name in ("recipe.json", "manifest.json"):
        shutil.copyfile(out / name, partial / name)
    (partial / "README.md").write_text(card(model, recipe, out), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    write_atomic(out / "report.html", report.page(recipe, out))
    return target


def _write_delta(model: FaceLlavaForConditionalGeneration, folder: Path) -> None:
    """Everything that differs from the pulled language model: tower, projector, FRLP, FRGCA, low-rank factors."""
    own = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
        if not name.startswith("language_model") or modules.FACTORS in name
    }
    with writing_tensors(folder / DELTA):
        save_file(own, folder / DELTA)


def card(model: torch.nn.Module, recipe: TrainRecipe, out: Path) -> str:
    """The model's card, from the run alone."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    counts = "\n".join(f"| {row.name} | {row.total:,} |" for row in modules.count(model))
    stages = "\n".join(_stage_row(recipe, out, number) for number in range(len(recipe.stages)))
    sources = "\n".join(f"| {name} | {count:,} |" for name, count in manifest["by_source"].items())
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in manifest["left_out"].items()) or "nothing"
    setting = recipe.setting.kind + (f" ({', '.join(recipe.setting.sources)})" if recipe.setting.sources else "")
    return f"""---
library_name: facellava
tags: [face analysis, facial expression recognition, action units, multimodal]
---

# {recipe.name}

{recipe.description or "A Face-LLaVA model: describes the face in a picture or video and says why."}

Trained with facellava {manifest["code"]}, recipe `{manifest["recipe"]}`, data `{manifest["data"]}`, seed {recipe.seed},
setting: {setting}. `recipe.json` and `manifest.json` are beside this file.

## Parameters

| part | parameters |
|---|---|
{counts}

## Training

| stage | trains | peak rate | conversations a step | steps | last loss |
|---|---|---|---|---|---|
{stages}

Loss on answers only (equation 7). The vision tower is frozen.

## Data

{manifest["conversations"]:,} conversations; left out: {left_out}.

| source | conversations |
|---|---|
{sources}

Each source has a licence of its own, and weights trained on research-only data are for research only.

## Intended use

Describing displayed expressions, facial movements, visible attributes, apparent age and signs of manipulation, with
abstention where the picture does not allow it; research on faces.

## Out of scope and prohibited

Identifying people; inferring feelings, health, character, origin or beliefs; decisions about people (hiring, policing,
credit, insurance, border control); covert use. A displayed expression is not a feeling, an apparent age is no proof of
age, and a score for manipulation proves nothing.

## Known limits

No accuracy was measured by this run: test the model on a benchmark before relying on it. Expect classes that are
rare in the data above, and groups that it lacks, to be described worse.
"""


def _stage_row(recipe: TrainRecipe, out: Path, number: int) -> str:
    stage = recipe.stages[number]
    lines = report.read_log(out / stage.name)
    last = lines[-1] if lines else {"step": 0, "loss": math.nan}
    trains = ", ".join(stage.trains)
    return f"| {stage.name} | {trains} | {stage.lr:g} | {stage.batch} | {last['step']} | {last['loss']:.4f} |"
