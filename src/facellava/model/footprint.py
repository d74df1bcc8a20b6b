"""What answering takes of a device, before anything is loaded: weights, keys and values, activations.

Parameters are counted on the meta device. Activations are not estimated: the model is built of fake tensors, which have
shapes and no memory, one pass of each kind is run, and what is alive at the same time is added up.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facellava.errors import UsageError
from facellava.model.answer_loss import decode
from facellava.model.config import FaceLlavaConfig
from facellava.model.layouts.plan import on_meta
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.precision import Form, quantized_linears
from facellava.model.zero_inputs import zero_inputs

__all__ = [
    "TEXT_TOKENS",
    "Case",
    "Footprint",
    "Need",
    "Peak",
    "kv_bytes",
    "measure",
]

TEXT_TOKENS = 512
"""Of a question and its answer together, beside the face."""
_DEPTH = 2
"""Blocks of the language model in the measured pass: without gradients, one block's memory is the next one's."""


@dataclass(frozen=True)
class Case:
    """One face to be asked about.

    Attributes:
        name: ``image`` or ``video``. frames: that the model samples. visual: tokens of them. tokens: with the text,
            as far as the language model's context reaches.
    """

    name: Literal["image", "video"]
    frames: int
    visual: int
    tokens: int


@dataclass(frozen=True)
class Need:
    """Bytes of answering a question about one face.

    Attributes:
        weights: as they are kept. kv_cache: keys and values of all tokens, once. states: those that the torch engine
            holds besides, because its states are never changed: the face's, and the one that is being continued.
        activations: everything else at its highest.
    """

    weights: int
    kv_cache: int
    states: int
    activations: int

    @property
    def total(self) -> int:
        """All at once."""
        return self.weights + self.kv_cache + self.states + self.activations


@dataclass(frozen=True)
class Footprint:
    """What a configuration takes.

    Attributes:
        parameters: by part. linear: weights of the language model's linear layers but its head. outputs: theirs.
        cases: a picture and a video. peaks: (bytes of a number, case's name) -> activations at their highest.
        largest: weights of the largest of these layers. kv: numbers of the keys and values of one token.
    """

    parameters: dict[str, int]
    linear: int
    outputs: int
    largest: int
    kv: int
    cases: tuple[Case, ...]
    peaks: dict[tuple[int, str], int]

    @property
    def total(self) -> int:
        """Parameters of all parts."""
        return sum(self.parameters.values())

    def weights(self, form: Form) -> int:
        """Bytes of the parameters."""
        return int(self.linear * form.linear + self.outputs * form.scale + (self.total - self.linear) * form.rest)

    def need(self, case: Case, form: Form) -> Need:
        """What a case takes; where weights are quantised, one layer of them is also there at full width."""
        unpacked = self.largest * form.rest if form.quantized else 0
        token = self.kv * form.cache
        states = (case.visual + case.tokens) * token
        return Need(self.weights(form), case.tokens * token, states, self.peaks[form.rest, case.name] + unpacked)


def kv_bytes(config: FaceLlavaConfig, tokens: int, size: int) -> int:
    """Bytes of keys and values: 2 x layers x key-value heads x width of a head x tokens x bytes of a number."""
    return _kv_numbers(config) * tokens * size


def _kv_numbers(config: FaceLlavaConfig) -> int:
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * head


def measure(config: FaceLlavaConfig) -> Footprint:
    """Count and measure a configuration (seconds for one of 7 billion parameters; nothing is allocated).

    Raises:
        UsageError: the configuration makes no model, or one video does not fit its language model's context.
    """
    model = on_meta(config)
    layers = [layer for _, layer in quantized_linears(model)]
    sizes = [layer.weight.numel() for layer in layers]
    cases = _cases(config)
    return Footprint(
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()},
        linear=sum(sizes),
        outputs=sum(layer.out_features for layer in layers),
        largest=max(sizes, default=0),
        kv=_kv_numbers(config),
        cases=cases,
        peaks={(dtype.itemsize, c.name): _peak(config, c, dtype) for dtype in _TYPES for c in cases},
    )


_TYPES = (torch.float32, torch.bfloat16)


def _cases(config: FaceLlavaConfig) -> tuple[Case, ...]:
    limit = getattr(config.text_config, "max_position_embeddings", None)
    found = []
    both: tuple[tuple[Literal["image", "video"], int], ...]
    both = (("image", 1), ("video", config.vision.sampled_frames(10**6)))
    for name, frames in both:
        visual = config.num_visual_tokens(frames)
        if limit is not None and visual >= limit:
            raise UsageError(f"{visual:,} visual tokens of one {name} do not fit the language model's {limit:,}")
        found.append(Case(name, frames, visual, min(visual + TEXT_TOKENS, limit or visual + TEXT_TOKENS)))
    return tuple(found)


class Peak(TorchDispatchMode):
    """Adds up the memory of tensors that operations make while it is on; ``bytes`` is the most at any moment.

    What an operation takes inside, and what was there before, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._live = {key: (ref, size) for key, (ref, size) in self._live.items() if not ref.expired()}
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in given:  # else a view of what is there
                self._live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.bytes = max(self.bytes, sum(size for _, size in self._live.values()))
        return out


def _peak(config: FaceLlavaConfig, case: Case, dtype: torch.dtype) -> int:
    """Of looking at the face and of reading face and text, whichever is more; keys and values aside."""
    with FakeTensorMode(), _default_type(dtype), torch.no_grad():
        model = FaceLlavaForConditionalGeneration(_shallow(config)).eval()
        visual = {name: value[None].to(dtype) for name, value in zero_inputs(config, case.frames, False).items()}
        embeds = torch.zeros(1, case.tokens, config.text_config.hidden_size, dtype=dtype)
        with Peak() as seeing:
            model.encode_visual(**visual, need_attention=config.fusion.kind != "none")
        with Peak() as reading:
            hidden = decode(model.language_model, embeds, None)
            model.get_output_embeddings()(hidden[:, -1:]).float()
    inputs = sum(value.numel() for value in visual.values()) * dtype.itemsize
    return max(seeing.bytes + inputs, reading.bytes + embeds.numel() * dtype.itemsize)


@contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _shallow(config: FaceLlavaConfig) -> FaceLlavaConfig:
    changed = copy.deepcopy(config)
    changed.text_config.num_hidden_layers = min(_DEPTH, config.text_config.num_hidden_layers)
    if types := getattr(changed.text_config, "layer_types", None):
        changed.text_config.layer_types = types[:_DEPTH]
    return changed
