"""A training recipe: TOML in, frozen dataclasses out. The docstrings of the fields are their documentation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from facellava import settings
from facellava.errors import UsageError

PACKAGE = "facellava.training"
"""Its folder ``recipes`` holds the shipped ones."""

SHIPPED = "shipped"
"""``model.delta``: what this package holds."""
PARTS = ("projector", "frlp", "frgca", "language_model")
"""What a stage can train. The vision tower itself stays frozen in every stage, as in the paper."""


@dataclass(frozen=True)
class ModelConfig:
    """What is trained.

    Attributes:
        start: ``random`` (weights drawn from the seed), ``default`` (frozen experts and a registered language model,
            the small default before training) or a folder: of a finished run, or written by ``save_pretrained``.
        base: the registered language model of ``default``.
        tokenizer: a folder with a tokenizer of transformers, or a registered language model whose tokenizer is taken;
            empty for the one of ``start``.
        style: strings around turns.
        quantize: ``nf4`` loads the language model in 4 bits (bitsandbytes, needs a GPU); all else stays whole.
        report: ``default`` only: the calibrated head's report opens the visual tokens (docs/default-model.md).
        delta: ``default`` only: a folder with what was trained before (``model.json``, ``delta.safetensors``,
            ``head.safetensors``) to go on from, ``shipped`` for what this package holds; empty to start anew.
        layers: ``default`` only: keep so many blocks of the language model, 0 for all.
        vision, fusion, text: fields of ``ClipVisionConfig``, ``FusionConfig`` and of a transformers configuration with
            ``model_type``; for ``random``. ``fusion`` also changes ``default``.
        crop_margin: of the crops that the model is trained on.
    """

    start: str
    base: str = "smollm2-135m-instruct"
    tokenizer: str = ""
    style: Literal["chatml", "vicuna"] = "chatml"
    quantize: Literal["", "nf4"] = ""
    report: bool = True
    delta: str = ""
    layers: int = 0
    vision: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    crop_margin: float = 0.0


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank factors in the language model instead of its own weights.

    Attributes:
        rank, alpha: size of the factors and scale (alpha / rank). targets: names of the linear layers.
    """

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class DataConfig:
    """What it is trained on.

    Attributes:
        paths: folders: ``facellava data build`` (OUT/dataset), LLaVA JSON, or ``facellava.training.build_default``.
            Relative to the recipe.
        tasks: keep conversations of these tasks only; empty for all.
        exclude: leave these sources out, by the names of their readers or in the build.
        limit: at most so many conversations of each source, 0 for all; which ones is fixed by their ids.
        multi_turn: all rows about a face become one conversation.
        cache: folder for what the frozen vision tower computes, empty for none. Content-addressed; shared by runs.
        max_broken: conversations that may fail to load before the run stops.
        window: conversations are shuffled and sorted by length within so many batches.
        workers: processes that load data beside each training process.
        shares: source -> share of its conversations in each pass.
        stated: a conversation's label is what its answer states, not what was recorded; conversations whose answer
            states none are left out. For data that was annotated without labels (Table 12).
    """

    paths: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int = 0
    multi_turn: bool = False
    cache: str = ""
    max_broken: int = 0
    window: int = 32
    workers: int = 0
    shares: Mapping[str, Any] = field(default_factory=dict)
    stated: bool = False


@dataclass(frozen=True)
class SettingConfig:
    """Section 5.1: what a benchmark's data may be used for.

    Attributes:
        kind: ``all``: no benchmark is meant. ``zero-shot``: training refuses data of the benchmark's sources.
            ``fine-tuned``: only the training split of the benchmark's sources.
        sources: readers of the benchmark's data.
        fold: ``fine-tuned``: the official fold that the data must be of, 0 for any.
    """

    kind: Literal["all", "zero-shot", "fine-tuned"] = "all"
    sources: tuple[str, ...] = ()
    fold: int = 0


@dataclass(frozen=True)
class StageConfig:
    """One stage of training.

    Attributes:
        name: of its folder.
        trains: out of ``frlp``, ``frgca``, ``projector``, ``language_model``; the rest is frozen.
        lr: peak learning rate; cosine to zero. warmup: share of the steps with a linearly rising rate.
        batch: conversations of an optimizer step, over all processes. micro_batch: those of one forward pass.
        epochs: passes over the data. conversations: instead, so many of them; 0 for whole passes.
        last_layers: of the language model, train so many last blocks only; 0 for all.
        weight_decay, max_grad_norm, betas: of AdamW.
        label_weight, label_tokens: the first so many tokens of an answer, which state its label, weigh so much.
        polar_weight: what the first word of an answer weighs where it is Yes or No.
        checklists: beside three turns, long yes/no checklists of what is known of the face.
        closed: instead of its turns, a conversation about one single-label task asks the task's closed question, which
            labels are scored by, and answers with the label alone.
        blank: share of conversations whose expert report is blank.
        context: the longest conversation in tokens, visual ones included; longer ones are left out and listed.
    """

    name: str
    trains: tuple[str, ...]
    lr: float
    batch: int = 8
    micro_batch: int = 8
    epochs: int = 1
    conversations: int = 0
    warmup: float = 0.03
    last_layers: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    betas: tuple[float, ...] = (0.9, 0.999)
    label_weight: float = 1.0
    label_tokens: int = 8
    polar_weight: float = 1.0
    checklists: bool = False
    closed: bool = False
    blank: float = 0.0
    context: int = 2048


@dataclass(frozen=True)
class WatchConfig:
    """What can be seen while it runs.

    Attributes:
        log_steps, save_steps: optimizer steps between two log lines, and between two checkpoints.
        keep: checkpoints of a stage that are kept.
        samples: held-out faces that are described at every checkpoint. sample_tokens: length of these answers.
        report_to: trackers of transformers beside the log: ``tensorboard``, ``trackio``, ``wandb``.
    """

    log_steps: int = 10
    save_steps: int = 200
    keep: int = 2
    samples: int = 4
    sample_tokens: int = 48
    report_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class HardwareConfig:
    """How it runs.

    Attributes:
        precision: ``auto`` takes bf16 where the processor or card computes in it, else fp32.
        checkpointing: recompute activations in the backward pass.
        shard: ``fsdp2``, ``zero2`` or ``zero3`` over the processes that ``torchrun`` or ``accelerate`` started.
        threads: of the processor, 0 for all cores.
    """

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    checkpointing: bool = False
    shard: Literal["", "fsdp2", "zero2", "zero3"] = ""
    threads: int = 0


@dataclass(frozen=True)
class TrainRecipe:
    """A whole training run.

    Attributes:
        name: of the model. seed: fixes weights, order and everything else that is drawn.
        lora: None trains the language model's own weights.
    """

    name: str
    model: ModelConfig
    data: DataConfig
    stages: tuple[StageConfig, ...]
    description: str = ""
    seed: int = 0
    lora: LoraConfig | None = None
    setting: SettingConfig = SettingConfig()
    watch: WatchConfig = WatchConfig()
    hardware: HardwareConfig = HardwareConfig()

    def to_json(self) -> dict[str, Any]:
        """The recipe with every default filled in."""
        return dataclasses.asdict(self)

    @property
    def hash(self) -> str:
        """Of what decides the weights: not of watching, nor of folders and hardware that hold or compute the same."""
        record = self.to_json()
        del record["watch"], record["description"]
        record["hardware"] = {"precision": self.hardware.precision}
        record["data"] |= {"paths": len(self.data.paths), "cache": "", "workers": 0, "max_broken": 0}
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def load_recipe(name: str, changes: Mapping[str, str] | None = None) -> TrainRecipe:
    """A recipe from a file, or one of the shipped ones by name.

    Args:
        changes: ``--set``: dotted key -> value, as TOML reads it; a stage is named by its name or number.

    Raises:
        FileMissing: neither a file nor a shipped recipe. UsageError: whatever else is wrong with it.
    """
    raw, base = settings.read_recipe(name, PACKAGE)
    settings.override(raw, changes or {})
    recipe = settings.build(TrainRecipe, raw, name)
    _check(recipe, name)
    data = dataclasses.replace(
        recipe.data,
        paths=tuple(_place(base, path) for path in recipe.data.paths),
        cache=_place(base, recipe.data.cache) if recipe.data.cache else "",
    )
    model = recipe.model
    if model.start not in ("random", "default"):
        model = dataclasses.replace(model, start=_place(base, model.start))
    if model.delta not in ("", SHIPPED):
        model = dataclasses.replace(model, delta=_place(base, model.delta))
    return dataclasses.replace(recipe, data=data, model=model)


def _place(base: Path, path: str) -> str:
    return str((base / Path(path).expanduser()).resolve())


def _check(recipe: TrainRecipe, name: str) -> None:
    if not recipe.stages:
        raise UsageError(f"{name}: there is no stage: add [[stages]]")
    if recipe.model.delta and (recipe.model.start != "default" or recipe.lora is None):
        raise UsageError(f"{name}: model.delta goes on from a trained default: it needs start = 'default' and [lora]")
    if not recipe.data.paths:
        raise UsageError(f"{name}: data.paths is empty: name a folder that 'facellava data build' wrote")
    names = [stage.name for stage in recipe.stages]
    if repeated := {n for n in names if names.count(n) > 1}:
        raise UsageError(f"{name}: stage '{min(repeated)}' occurs twice: give one of them another name")
    for stage in recipe.stages:
        _check_stage(stage, f"{name}: stage '{stage.name}'")
    if recipe.setting.kind != "all" and not recipe.setting.sources:
        raise UsageError(f"{name}: setting '{recipe.setting.kind}' needs sources: name the benchmark's readers")


def _check_stage(stage: StageConfig, where: str) -> None:
    if not stage.name or not stage.name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{where}: the name of a stage is the name of a folder: use letters, digits, - and _")
    if not stage.trains:
        raise UsageError(f"{where} trains nothing: name some of {', '.join(PARTS)} in 'trains'")
    if unknown := set(stage.trains) - set(PARTS):
        raise UsageError(f"{where} cannot train '{min(unknown)}'; known: {', '.join(PARTS)}")
    if stage.batch < 1 or stage.micro_batch < 1 or stage.batch % stage.micro_batch:
        raise UsageError(f"{where}: batch={stage.batch} is no multiple of micro_batch={stage.micro_batch}")
    if stage.lr <= 0 or not 0 <= stage.warmup < 1 or stage.epochs < 1 or stage.conversations < 0:
        raise UsageError(f"{where}: lr and epochs must be positive, warmup in [0, 1), conversations not negative")
    if len(stage.betas) != 2:
        raise UsageError(f"{where}: betas are two numbers")
