"""A stand-in for the part of vLLM's interface that the adapter uses, as its documentation describes it.

It is not vLLM and shows nothing about vLLM: it lets the adapter's code run, from a request's tokens to logits. What
each part does follows vLLM's docs/design/mm_processing.md (four stages, prompt updates on token ids) and
docs/contributing/model/multimodal.md (embeddings merged where placeholders are).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, TypeVar

import pytest
import torch
from torch import Tensor, nn
from transformers import BatchFeature
from transformers.models.llama.modeling_llama import LlamaModel

Info = TypeVar("Info")


class Registry:
    """Architecture -> "module:class"."""

    models: dict[str, str] = {}  # noqa: RUF012

    @classmethod
    def get_supported_archs(cls) -> set[str]:
        return set(cls.models)

    @classmethod
    def register_model(cls, name: str, place: str) -> None:
        assert name not in cls.models, "registered twice"
        cls.models[name] = place


class MediaRegistry:
    def register_processor(self, processor: type, *, info: type, dummy_inputs: type) -> Callable[[type], type]:
        def decorate(model: type) -> type:
            model.factories = SimpleNamespace(processor=processor, info=info, dummy_inputs=dummy_inputs)
            return model

        return decorate


@dataclass(frozen=True)
class FieldConfig:
    modality: str

    @classmethod
    def batched(cls, modality: str) -> FieldConfig:
        return cls(modality)


@dataclass
class ProcessorInputs:
    prompt: list[int]
    mm_data_items: dict[str, list[Any]]
    hf_processor_mm_kwargs: dict[str, Any] = field(default_factory=dict)


class PromptUpdateDetails(SimpleNamespace):
    @classmethod
    def select_token_id(cls, seq: list[int], embed_token_id: int) -> PromptUpdateDetails:
        return cls(full=seq, is_embed=[i == embed_token_id for i in seq])


@dataclass
class PromptReplacement:
    modality: str
    target: list[int]
    replacement: Callable[[int], PromptUpdateDetails]


class BaseProcessingInfo:
    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx

    @property
    def model_id(self) -> str:
        return self.ctx.model

    def get_tokenizer(self) -> Any:
        return self.ctx.tokenizer


class BaseDummyInputsBuilder(Generic[Info]):
    def __init__(self, info: Any) -> None:
        self.info = info

    def get_dummy_processor_inputs(self, seq_len: int, mm_counts: dict, mm_options: Any) -> ProcessorInputs:
        ids = self.info.get_tokenizer().encode(self.get_dummy_text(mm_counts), add_special_tokens=False)
        return ProcessorInputs(ids, self.get_dummy_mm_data(seq_len, mm_counts, mm_options))


class BaseMultiModalProcessor(Generic[Info]):
    def __init__(self, info: Any, dummy_inputs: Any) -> None:
        self.info, self.dummy_inputs = info, dummy_inputs

    def apply(self, inputs: ProcessorInputs, timing_ctx: Any) -> SimpleNamespace:
        hf_data = {f"{modality}s": items for modality, items in inputs.mm_data_items.items() if items}
        processed = self._call_hf_processor(hf_data, inputs.hf_processor_mm_kwargs)
        assert isinstance(processed, BatchFeature)
        configs = self._get_mm_fields_config(processed, inputs.hf_processor_mm_kwargs)
        out: dict[str, list[dict[str, Any]]] = {}
        for name, config in configs.items():
            for index, value in enumerate(processed[name]):
                rows = out.setdefault(config.modality, [])
                if len(rows) == index:
                    rows.append({})
                rows[index][name] = SimpleNamespace(data=value)
        assert {name: len(rows) for name, rows in out.items()} == {
            k: len(v) for k, v in inputs.mm_data_items.items() if v
        }
        ids, places = list(inputs.prompt), {}
        for update in self._get_prompt_updates(inputs.mm_data_items, inputs.hf_processor_mm_kwargs, out):
            for index in range(len(inputs.mm_data_items.get(update.modality, []))):
                details = update.replacement(index)
                at = _find(ids, update.target)
                ids[at : at + len(update.target)] = details.full
                places[update.modality] = (at, details.is_embed)
        return SimpleNamespace(prompt_token_ids=ids, mm_kwargs=out, mm_placeholders=places)


def _find(ids: list[int], target: list[int]) -> int:
    size = len(target)
    return next(i for i in range(len(ids)) if ids[i : i + size] == target)


class SupportsMultiModal:
    def configure_mm_token_handling(self, vocab_size: int, mm_token_ids: list[int]) -> None:
        self._oov = any(i >= vocab_size for i in mm_token_ids)

    @contextlib.contextmanager
    def _mark_tower_model(self, vllm_config: Any, modalities: set[str]) -> Iterator[None]:
        assert modalities == {"image", "video"}
        yield

    @contextlib.contextmanager
    def _mark_language_model(self, vllm_config: Any) -> Iterator[None]:
        yield

    def embed_input_ids(self, ids: Tensor, embeddings: tuple[Tensor, ...], *, is_multimodal: Tensor) -> Tensor:
        words = self.get_language_model().embed_input_ids(ids.masked_fill(is_multimodal, 0) if self._oov else ids)
        words[is_multimodal] = torch.cat(embeddings)
        return words


class SupportsPP:
    pass


class WeightsMapper(SimpleNamespace):
    pass


class AutoWeightsLoader:
    """Every tensor has a place, and every parameter gets a tensor, but for a head that shares the words' weights."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def load_weights(self, weights: Any, mapper: WeightsMapper) -> set[str]:
        own, done = dict(self.module.named_parameters()), set()
        for name, value in weights:
            start = next((old for old in mapper.orig_to_new_prefix if name.startswith(old)), "")
            name = mapper.orig_to_new_prefix.get(start, "") + name[len(start) :]
            own[name].data.copy_(value)
            done.add(name)
        assert own.keys() - done <= {"language_model.lm_head.weight"}, own.keys() - done
        return done


class _Blocks(LlamaModel):
    def forward(self, input_ids: Any, positions: Tensor, stages: Any = None, inputs_embeds: Any = None) -> Tensor:
        return super().forward(inputs_embeds=inputs_embeds[None], position_ids=positions[None]).last_hidden_state[0]


class Words(nn.Module):
    """A causal language model with vLLM's methods, on transformers' blocks."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.model = _Blocks(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.make_empty_intermediate_tensors = None

    def embed_input_ids(self, ids: Tensor) -> Tensor:
        return self.model.embed_tokens(ids)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)


def _language_model(*, vllm_config: Any, hf_config: Any, prefix: str, architectures: list[str]) -> Words:
    assert architectures == ["LlamaForCausalLM"] and prefix == "language_model"
    return Words(hf_config)


MODULES: dict[str, dict[str, Any]] = {
    "vllm": {"ModelRegistry": Registry},
    "vllm.config": {"VllmConfig": SimpleNamespace},
    "vllm.sequence": {"IntermediateTensors": dict},
    "vllm.multimodal": {"MULTIMODAL_REGISTRY": MediaRegistry()},
    "vllm.multimodal.inputs": {"MultiModalFieldConfig": FieldConfig},
    "vllm.multimodal.processing": {
        "BaseDummyInputsBuilder": BaseDummyInputsBuilder,
        "BaseMultiModalProcessor": BaseMultiModalProcessor,
        "BaseProcessingInfo": BaseProcessingInfo,
        "PromptReplacement": PromptReplacement,
        "PromptUpdate": PromptReplacement,
        "PromptUpdateDetails": PromptUpdateDetails,
    },
    "vllm.model_executor": {},
    "vllm.model_executor.models": {},
    "vllm.model_executor.models.interfaces": {
        "MultiModalEmbeddings": tuple,
        "SupportsMultiModal": SupportsMultiModal,
        "SupportsPP": SupportsPP,
    },
    "vllm.model_executor.models.utils": {
        "AutoWeightsLoader": AutoWeightsLoader,
        "WeightsMapper": WeightsMapper,
        "init_vllm_registered_model": _language_model,
        "maybe_prefix": lambda prefix, name: f"{prefix}.{name}" if prefix else name,
    },
}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import vllm`` find the stand-in for the length of a test."""
    for name, content in MODULES.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Registry, "models", {})
