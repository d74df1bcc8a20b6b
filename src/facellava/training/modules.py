"""What a stage trains: freezing, low-rank factors, and the table of parameters that is shown before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facellava.errors import MissingExtra, UsageError
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.training.recipe import LoraConfig, StageConfig

FACTORS = "lora_"
SHOWN = ("vision_tower", "projector", "frlp", "frgca", "language_model")
"""Rows of the table of parameters."""


def add_factors(model: FaceLlavaForConditionalGeneration, config: LoraConfig) -> None:
    """Put low-rank factors beside linear layers of the language model; they start at zero.

    Raises:
        MissingExtra: no ``peft``. UsageError: a target is no layer of this language model.
    """
    try:
        from peft import LoraConfig as Peft
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise MissingExtra("train", "low-rank factors") from error
    layers = (name for name, part in model.language_model.named_modules() if isinstance(part, nn.Linear))
    there = {name.rpartition(".")[2] for name in layers}
    if unknown := set(config.targets) - there:
        names = ", ".join(sorted(there))
        raise UsageError(f"lora.targets names '{min(unknown)}', no linear layer of the language model; it has {names}")
    peft = Peft(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), lora_dropout=0.0)
    inject_adapter_in_model(peft, model.language_model)


def choose(model: FaceLlavaForConditionalGeneration, stage: StageConfig) -> dict[str, nn.Parameter]:
    """Freeze everything but what the stage trains; the trained parameters by name.

    Raises:
        UsageError: the model lacks a part that the stage names, or nothing is left to train.
    """
    has_factors = any(FACTORS in name for name, _ in model.named_parameters())
    blocks = _last_blocks(model, stage)
    chosen: dict[str, nn.Parameter] = {}
    found: set[str] = set()
    for name, parameter in model.named_parameters():
        part = next((p for p in stage.trains if name.startswith(f"{p}.")), None)
        wanted = part is not None
        if part == "language_model":
            wanted = (FACTORS in name) == has_factors and (not blocks or name.startswith(blocks))
        wanted = wanted and parameter.is_floating_point()
        parameter.requires_grad_(wanted)
        if wanted:
            chosen[name] = parameter
            found.add(str(part))
    if missing := [part for part in stage.trains if part not in found]:
        raise UsageError(
            f"stage '{stage.name}' trains {missing[0]}, which this model does not have: leave it out of 'trains', "
            "or change [model]"
        )
    return chosen


def _last_blocks(model: FaceLlavaForConditionalGeneration, stage: StageConfig) -> tuple[str, ...]:
    if not stage.last_layers:
        return ()
    count = len(model.language_model.get_decoder().layers)
    if stage.last_layers > count:
        raise UsageError(f"stage '{stage.name}': last_layers={stage.last_layers}, but there are {count} blocks")
    decoder = next(name for name, part in model.named_modules() if part is model.language_model.get_decoder())
    return tuple(f"{decoder}.layers.{i}." for i in range(count - stage.last_layers, count))


class PartCount(NamedTuple):
    """A part of the model: its parameters, and how many of them train."""

    name: str
    total: int
    trained: int


def count(model: nn.Module) -> list[PartCount]:
    """Parameters by part, and their sum."""
    parts = {name: [0, 0] for name in SHOWN if getattr(model, name, None) is not None}
    for name, parameter in model.named_parameters():
        part = parts[name.partition(".")[0]]
        part[0] += parameter.numel()
        part[1] += parameter.numel() * parameter.requires_grad
    rows = [PartCount(name, total, trained) for name, (total, trained) in parts.items()]
    return [*rows, PartCount("all", sum(r.total for r in rows), sum(r.trained for r in rows))]


def table(model: nn.Module, stage: StageConfig) -> str:
    """The parameters of a stage, for people."""
    lines = [f"stage {stage.name}: trains {', '.join(stage.trains)}", f"{'':<16}{'parameters':>16}{'trained':>16}"]
    lines += [f"{row.name:<16}{row.total:>16,}{row.trained:>16,}" for row in count(model)]
    return "\n".join(lines)


def merged_state(model: nn.Module, scale: float) -> dict[str, Tensor]:
    """The state dictionary without low-rank factors: each added to the layer that it stands beside.

    Args:
        scale: alpha / rank.
    """
    state = model.state_dict()
    result = {name.replace(".base_layer.", "."): value for name, value in state.items() if FACTORS not in name}
    for name, down in state.items():
        if ".lora_A." in name:
            layer = name.split(".lora_A.")[0] + ".weight"
            up = state[name.replace(".lora_A.", ".lora_B.")]
            result[layer] = result[layer] + (scale * (up.float() @ down.float())).to(result[layer].dtype)
    return result


def load_part(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put named tensors into a model.

    Raises:
        UsageError: a name that the model does not have, or another shape.
    """
    own = model.state_dict()
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape:
            shape = tuple(own[name].shape) if name in own else None
            raise UsageError(
                f"{what} holds {name} {tuple(value.shape)}, the model has {shape}: it is of another recipe"
            )
    with torch.no_grad():
        model.load_state_dict(dict(tensors), strict=False)
