"""A trained folder in memory: whole, or with the language model's linear layers in 8 or 4 bits.

Vision tower, projector, FRLP, FRGCA, word embeddings and the head stay whole, since they are small and every face goes
through them. On a GPU bitsandbytes does the work, through transformers
(https://huggingface.co/docs/transformers/main/en/quantization/bitsandbytes). PyTorch's own dynamic quantisation is
deprecated, so that a processor has layers of our own, filled tensor by tensor: the whole model is never in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from facellava.errors import DamagedCheckpoint, MissingExtra, UsageError
from facellava.model.config import FaceLlavaConfig
from facellava.model.layouts.plan import on_meta
from facellava.model.layouts.source import open_source
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.precision import Form, form_of, quantized_linears
from facellava.types import Precision

__all__ = ["KEPT", "Int8Linear", "bits_and_bytes", "by_bits_and_bytes", "load_model", "quantize_rows", "spread"]

KEPT = ("vision_tower", "projector", "frlp", "frgca", "lm_head")
"""Modules that no precision touches, by the names that transformers matches at the start or the end of a module's."""
_ROWS = 256
"""Of an 8-bit layer that are widened at a time, so that they stay in the processor's cache."""


def load_model(folder: Path, precision: Precision | Literal[""], device: str) -> FaceLlavaForConditionalGeneration:
    """The model of a trained folder, ready to answer.

    Args:
        precision: empty for what suits the device: half on a GPU, single on a processor.
        device: ``cpu``, or a GPU's name; ``cuda`` spreads a quantised model over all of them.

    Raises:
        MissingExtra: bitsandbytes is not installed. UsageError: 4 bits on a processor.
        DamagedCheckpoint: tensors are missing, or are not those of the model.
    """
    on_gpu = device != "cpu"
    if precision == "int8" and not on_gpu:
        return _in_int8(folder)
    if precision in ("int8", "int4"):
        return _by_bitsandbytes(folder, precision, device)
    half = precision == "bf16" or (not precision and on_gpu)
    dtype = torch.bfloat16 if half else torch.float32
    model = FaceLlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    return model.to(device).eval()  # pyright: ignore[reportArgumentType]


# --- on a GPU ---


def by_bits_and_bytes(precision: Literal["int8", "int4"]) -> BitsAndBytesConfig:
    """What transformers loads a quantised language model by; raises MissingExtra without bitsandbytes."""
    try:
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtra("quantize", f"{precision} on a GPU") from error
    return BitsAndBytesConfig(**bits_and_bytes(precision))


def bits_and_bytes(precision: Literal["int8", "int4"]) -> dict[str, Any]:
    """Arguments of transformers' ``BitsAndBytesConfig``: LLM.int8(), or NF4 with doubly quantised scales."""
    kept = {"llm_int8_skip_modules": list(KEPT)}
    if precision == "int8":
        return {"load_in_8bit": True, **kept}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": torch.bfloat16,
        "bnb_4bit_use_double_quant": True,
        **kept,
    }


def _by_bitsandbytes(
    folder: Path, precision: Literal["int8", "int4"], device: str
) -> FaceLlavaForConditionalGeneration:
    if device == "cpu":
        raise UsageError(f"{precision} needs a GPU: on a processor choose int8, bf16 or fp32")
    settings = by_bits_and_bytes(precision)
    config = FaceLlavaConfig.from_pretrained(folder)
    model = FaceLlavaForConditionalGeneration.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=settings,
        device_map=_places(config, precision, device),
    )
    return model.eval()


def _places(config: FaceLlavaConfig, precision: Literal["int8", "int4"], device: str) -> dict[str, Any]:
    if device != "cuda" or torch.cuda.device_count() == 1:
        return {"": device}
    form = form_of(precision, "gpu")
    assert form is not None
    return spread(config, form, [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())])


def spread(config: FaceLlavaConfig, form: Form, free: Sequence[int]) -> dict[str, int]:
    """A device map: the face's path and the word embeddings on the first GPU, blocks by each GPU's free bytes.

    The head follows the last block, or the word embeddings that it shares its weights with.
    """
    model = on_meta(config)
    decoder = model.language_model.get_decoder()
    names = {part: name for name, part in model.named_modules()}
    linears = {layer for _, layer in quantized_linears(model)}
    blocks = next(part for part in decoder.children() if isinstance(part, nn.ModuleList))
    sizes = [_bytes(block, linears, form) for block in blocks]
    total = _bytes(model, linears, form)
    gpu, taken, limit = 0, total - sum(sizes), total * free[0] / sum(free)
    places: dict[str, int] = {}
    for block, size in zip(blocks, sizes, strict=True):
        while taken + size / 2 > limit and gpu < len(free) - 1:
            gpu += 1
            limit += total * free[gpu] / sum(free)
        taken += size
        places[names[block]] = gpu
    behind = False
    for part in decoder.children():
        behind |= part is blocks
        if part is not blocks:  # rotary positions have no weights and are computed at the first
            places[names[part]] = gpu if behind and any(True for _ in part.parameters()) else 0
    tied = config.text_config.tie_word_embeddings
    places[names[model.get_output_embeddings()]] = 0 if tied else gpu
    return {name: 0 for name, _ in model.named_children() if name != "language_model"} | places


def _bytes(part: nn.Module, linears: Collection[nn.Module], form: Form) -> float:
    return sum(
        parameter.numel() * (form.linear if owner in linears else form.rest)
        for owner in part.modules()
        for parameter in owner.parameters(recurse=False)
    )


# --- on a processor ---


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric 8 bits with one scale a row: int8 (n, k) and float32 (n,); off by half a scale at most."""
    scale = weight.abs().amax(dim=1) / 127
    safe = torch.where(scale == 0, 1.0, scale)
    return (weight / safe[:, None]).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer whose weights are kept in 8 bits; its input and output are not quantised.

    Args:
        inputs, outputs: widths k and n. bias: whether it has one.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(outputs))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., k) to (..., n)."""
        out = x.new_empty(*x.shape[:-1], self.out_features)
        for start in range(0, self.out_features, _ROWS):
            rows = slice(start, start + _ROWS)
            out[..., rows] = nn.functional.linear(x, self.codes[rows].to(x.dtype))
        out = out * self.scale.to(x.dtype)
        return out if self.bias is None else out + self.bias.to(x.dtype)


def _in_int8(folder: Path) -> FaceLlavaForConditionalGeneration:
    config = FaceLlavaConfig.from_pretrained(folder)
    with init_empty_weights(include_buffers=False):
        model = FaceLlavaForConditionalGeneration(config)
    small = dict(quantized_linears(model))
    for name, layer in small.items():
        model.set_submodule(name, Int8Linear(layer.in_features, layer.out_features, layer.bias is not None))
    source, opened = open_source(folder), ""
    for key, entry in sorted(source.entries.items(), key=lambda item: item[1].file):
        if entry.file != opened:
            source.close()  # or every shard that was read would stay mapped into memory
            opened = entry.file
        owner, _, kind = key.rpartition(".")
        if owner in small and kind == "weight":
            codes, scale = quantize_rows(entry.read().float())
            _put(model, f"{owner}.codes", codes, folder)
            _put(model, f"{owner}.scale", scale, folder)
        else:
            _put(model, key, entry.read().float(), folder)
    source.close()
    model.tie_weights()
    whole = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    missing = [name for name, value in whole.items() if value.is_meta]
    missing += [f"{name}.weight" for name in small if f"{name}.weight" not in source.entries]
    if missing:
        raise DamagedCheckpoint(f"{folder} lacks {missing[0]} and {len(missing) - 1} other tensors of its model")
    return model.eval()


def _put(model: nn.Module, key: str, value: Tensor, folder: Path) -> None:
    """Set a parameter or a buffer; it is a copy, since the file may be closed."""
    owner, _, name = key.rpartition(".")
    try:
        place = model.get_submodule(owner)
        known = {**place._parameters, **place._buffers}[name]
    except (AttributeError, KeyError) as error:
        raise DamagedCheckpoint(f"{folder} holds {key}, which its model has no place for") from error
    if known is None or known.shape != value.shape:
        shape = "none" if known is None else tuple(known.shape)
        raise DamagedCheckpoint(f"{folder}: {key} has shape {tuple(value.shape)}, the model's is {shape}")
    if name in place._parameters:
        place._parameters[name] = nn.Parameter(value.clone(), requires_grad=False)
    else:
        place._buffers[name] = value.clone()
