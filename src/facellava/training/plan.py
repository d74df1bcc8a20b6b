"""What a run needs before anything is loaded: parameters, optimizer, activations, steps.

Nothing is estimated by formula that can be counted: the model is built of fake tensors, which have shapes and no
memory, one forward pass is run, and what autograd keeps for the backward pass is added up. Two depths are measured, and
the real one follows from their difference.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from facellava.errors import UsageError
from facellava.model.answer_loss import decode
from facellava.model.config import FaceLlavaConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.zero_inputs import zero_inputs
from facellava.training import hardware, modules
from facellava.training.assemble import model_config
from facellava.training.recipe import StageConfig, TrainRecipe
from facellava.training.talks import Corpus, load_corpus

FP32, BF16, NF4 = 4.0, 2.0, 0.5625
"""Bytes of a parameter; 4 bits with one half-precision scale for 64 of them, themselves quantised."""
ANSWER_SHARE = 4
"""Without data a quarter of a conversation is taken to be answers."""


@dataclass(frozen=True)
class StagePlan:
    """Memory of one process in one stage, in bytes, at the longest micro-batch.

    Attributes:
        parameters, trained: numbers of them. weights, gradients, optimizer: of the parameters, after sharding.
        activations: kept between forward and backward pass. logits: of the answers, with their softmax and gradient.
        tokens, rows: of the micro-batch. steps: optimizer steps, 0 where the data is not there.
    """

    name: str
    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    tokens: int
    rows: int
    steps: int

    @property
    def peak(self) -> int:
        """Weights and optimizer stay; activations are highest when the backward pass starts, gradients when it ends."""
        return self.weights + self.optimizer + max(self.activations + self.logits, self.gradients)


@dataclass(frozen=True)
class Plan:
    """A run's plan: one entry a stage."""

    name: str
    processes: int
    precision: str
    stages: tuple[StagePlan, ...]

    def json(self) -> str:
        """For programs; bytes."""
        stages = [asdict(stage) | {"peak": stage.peak} for stage in self.stages]
        return json.dumps(asdict(self) | {"stages": stages}, indent=2)

    def text(self) -> str:
        """For people; GB are 10^9 bytes."""
        lines = [f"{self.name}: {self.processes} process(es), {self.precision}; memory of each process"]
        for s in self.stages:
            steps = f", {s.steps:,} steps" if s.steps else ""
            lines += [
                f"stage {s.name}: {s.parameters:,} parameters, {s.trained:,} trained; "
                f"micro-batches of {s.rows} x {s.tokens:,} tokens{steps}",
                *(
                    f"  {label:<12}{getattr(s, label) / 1e9:>10.2f} GB"
                    for label in ("weights", "gradients", "optimizer", "activations", "logits", "peak")
                ),
            ]
        return "\n".join(lines)


def plan_run(recipe: TrainRecipe) -> Plan:
    """Plan a recipe's run. Without its data the longest conversations that the recipe allows are assumed.

    Raises:
        UsageError: a stage trains nothing, or the model is neither there nor described by the recipe.
    """
    corpus = _corpus(recipe)
    config = _config(recipe, corpus)
    bf16 = hardware.uses_bf16(recipe.hardware)
    stages = tuple(_plan_stage(recipe, stage, config, corpus, bf16) for stage in recipe.stages)
    return Plan(recipe.name, hardware.process_count(), "bf16" if bf16 else "fp32", stages)


def _corpus(recipe: TrainRecipe) -> Corpus | None:
    if not all(Path(path).is_dir() for path in recipe.data.paths):
        return None
    return load_corpus(recipe.data)


def _config(recipe: TrainRecipe, corpus: Corpus | None) -> FaceLlavaConfig:
    """Of the start's folder where it is there; else as the recipe describes it."""
    model = recipe.model
    known = model.start in ("random", "default") or Path(model.start).is_dir()
    if known:
        return model_config(model, corpus or Corpus([]))
    if not (model.vision or model.text):
        raise UsageError(
            f"model.start is {model.start}, which is not there: for a plan without it give model.vision and model.text"
        )
    try:
        text = {"model_type": "llama", **model.text}
        return FaceLlavaConfig(vision=dict(model.vision), fusion=dict(model.fusion), text_config=text)
    except (ValueError, TypeError) as error:
        raise UsageError(f"[model]: {error}") from error


def _plan_stage(
    recipe: TrainRecipe, stage: StageConfig, config: FaceLlavaConfig, corpus: Corpus | None, bf16: bool
) -> StagePlan:
    with FakeTensorMode():
        model = _fake(recipe, config)
    modules.choose(model, stage)
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frames = 8 if corpus is None else max(config.vision.sampled_frames(talk.frames) for talk in corpus.talks)
    frames = config.vision.sampled_frames(frames)
    tokens = _longest(stage, config, frames)
    activations, logits = _kept(recipe, stage, config, frames, tokens, bf16)
    weights, gradients, optimizer = _state_bytes(recipe, model, trained, bf16)
    steps = 0 if corpus is None else -(-(stage.conversations or len(corpus.talks) * stage.epochs) // stage.batch)
    return StagePlan(
        stage.name,
        parameters,
        trained,
        weights,
        gradients,
        optimizer,
        activations,
        logits,
        tokens,
        stage.micro_batch,
        steps,
    )


def _fake(recipe: TrainRecipe, config: FaceLlavaConfig) -> FaceLlavaForConditionalGeneration:
    """The model of fake tensors; inside a ``FakeTensorMode``."""
    model = FaceLlavaForConditionalGeneration(config)
    if recipe.lora is not None:
        for name, part in list(model.language_model.named_modules()):
            if isinstance(part, nn.Linear) and name.rpartition(".")[2] in recipe.lora.targets:
                parent = model.language_model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], _Factors(part, recipe.lora.rank))
    return model


class _Factors(nn.Module):
    """As peft's layer, which cannot be built of fake tensors."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A, self.lora_B = nn.Linear(base.in_features, rank, False), nn.Linear(rank, base.out_features, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def _longest(stage: StageConfig, config: FaceLlavaConfig, frames: int) -> int:
    tokens = min(stage.context, getattr(config.text_config, "max_position_embeddings", stage.context))
    visual = config.num_visual_tokens(frames)
    if visual >= stage.context:
        raise UsageError(f"stage '{stage.name}': {visual:,} visual tokens do not fit context={stage.context}")
    return max(tokens, visual + 1)


def _state_bytes(recipe: TrainRecipe, model: nn.Module, trained: int, bf16: bool) -> tuple[int, int, int]:
    """Weights, gradients and AdamW's moments of one process."""
    shard, processes = recipe.hardware.shard, hardware.process_count()
    linear = sum(
        part.weight.numel()
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and name.startswith("language_model") and "lm_head" not in name
    )
    total = sum(p.numel() for p in model.parameters())
    if recipe.model.quantize:
        return int(linear * NF4 + (total - linear) * BF16), int(trained * FP32), int(trained * 2 * FP32)
    if shard in ("zero2", "zero3"):
        # DeepSpeed keeps half-precision weights, and fp32 masters beside the moments
        weights = total * BF16 / (processes if shard == "zero3" else 1)
        return int(weights), int(trained * BF16 / processes), int(trained * 3 * FP32 / processes)
    parts = processes if shard == "fsdp2" else 1
    # autocast keeps half-precision copies of the trained matrices during a step
    copies = trained * BF16 if bf16 and not shard else 0
    return int(total * FP32 / parts + copies), int(trained * FP32 / parts), int(trained * 2 * FP32 / parts)


def _kept(
    recipe: TrainRecipe, stage: StageConfig, config: FaceLlavaConfig, frames: int, tokens: int, bf16: bool
) -> tuple[int, int]:
    """Bytes kept for the backward pass, and of the logits."""
    layers = config.text_config.num_hidden_layers
    shallow = min(layers, max(1, stage.last_layers))
    one = _measure(recipe, stage, _with_layers(config, shallow), frames, tokens, bf16)
    answers = stage.micro_batch * (tokens // ANSWER_SHARE)
    # logits in the working precision and fp32, their log-softmax, and its gradient
    logits = int(answers * config.text_config.vocab_size * (3 * FP32 + (BF16 if bf16 else 0)))
    if layers == shallow:
        return one, logits
    each = _measure(recipe, stage, _with_layers(config, shallow + 1), frames, tokens, bf16) - one
    if not recipe.hardware.checkpointing:
        return one + each * (layers - shallow), logits
    # the input of each layer is kept, and one layer at a time is computed again
    width = config.text_config.hidden_size * (BF16 if bf16 else FP32)
    inputs = int(stage.micro_batch * tokens * width * layers)
    return one - each * shallow + inputs + each, logits


def _with_layers(config: FaceLlavaConfig, layers: int) -> FaceLlavaConfig:
    changed = copy.deepcopy(config)
    changed.text_config.num_hidden_layers = layers
    types = getattr(changed.text_config, "layer_types", None)
    if types:
        changed.text_config.layer_types = types[:layers]
    return changed


def _measure(
    recipe: TrainRecipe, stage: StageConfig, config: FaceLlavaConfig, frames: int, tokens: int, bf16: bool
) -> int:
    """Bytes that autograd keeps between the passes, logits aside."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode():
        model = _fake(recipe, config)
        modules.choose(model, stage)
        model.train()
        own = {p.untyped_storage()._cdata for p in [*model.parameters(), *model.buffers()]}
        rows = stage.micro_batch
        cached = bool(recipe.data.cache)
        visual: dict[str, Any] = {
            name: value.new_zeros((rows, *value.shape)) for name, value in zero_inputs(config, frames, cached).items()
        }
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        ):
            seen = model.encode_visual(**visual).tokens
            words = model.get_input_embeddings()(torch.zeros((rows, tokens - seen.shape[1]), dtype=torch.long))
            hidden = decode(model.language_model, torch.cat([seen, words.to(seen.dtype)], 1), None)
        assert hidden.shape[1] == tokens
        return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
