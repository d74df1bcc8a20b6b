"""The model and its processor as vLLM 0.33 asks for them. Imported by vLLM alone; never run on a card (docs/vllm.md).

Interfaces: https://docs.vllm.ai/en/latest/contributing/model/multimodal/ and vLLM's docs/design/mm_processing.md. What
can be right or wrong without vLLM is in the other modules and has tests; here it is handed over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import BatchFeature
from vllm.config import VllmConfig  # pyright: ignore[reportMissingImports]
from vllm.model_executor.models.interfaces import (  # pyright: ignore[reportMissingImports]
    MultiModalEmbeddings,
    SupportsMultiModal,
    SupportsPP,
)
from vllm.model_executor.models.utils import (  # pyright: ignore[reportMissingImports]
    AutoWeightsLoader,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY  # pyright: ignore[reportMissingImports]
from vllm.multimodal.inputs import MultiModalFieldConfig  # pyright: ignore[reportMissingImports]
from vllm.multimodal.processing import (  # pyright: ignore[reportMissingImports]
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
    PromptUpdateDetails,
)
from vllm.sequence import IntermediateTensors  # pyright: ignore[reportMissingImports]

from facellava.errors import FacellavaError
from facellava.model.config import FaceLlavaConfig
from facellava.model.processing import FaceLlavaProcessor
from facellava.vllm_plugin import inputs as fields
from facellava.vllm_plugin.prompts import FACE, PIECE, face_id, visual_ids, without_pieces
from facellava.vllm_plugin.visual import PREFIXES, VisualEncoder, encode_items

__all__ = ["FaceLlavaForVllm"]


class ProcessingInfo(BaseProcessingInfo):
    """What a request may hold, and how many tokens it takes."""

    def get_hf_config(self) -> FaceLlavaConfig:
        return self.ctx.get_hf_config(FaceLlavaConfig)

    def get_hf_processor(self, **kwargs: object) -> FaceLlavaProcessor:
        return self.items.processor

    @cached_property
    def items(self) -> fields.FaceItems:
        """From pictures to fields."""
        return fields.FaceItems(FaceLlavaProcessor.from_pretrained(self.model_id))

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": 1, "video": 1}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        config = self.get_hf_config()
        return {name: len(self.place(fields.frames_of(config, name))) for name in fields.SUFFIX}

    def place(self, frames: int) -> list[int]:
        """Ids in place of one picture or video."""
        processor, config = self.items.processor, self.get_hf_config()
        return visual_ids(processor._tokenize, config, processor.style, frames, face_id(config))


class DummyInputs(BaseDummyInputsBuilder[ProcessingInfo]):
    """The largest request: it is given as crops with landmarks, since there is no face in it."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return FACE * sum(mm_counts.values())

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any = None) -> dict[str, Any]:
        config = self.info.get_hf_config()
        image, video = (fields.placeholder_inputs(config, name)[0] for name in fields.SUFFIX)
        return {
            "image": [Image.fromarray(image)] * mm_counts.get("image", 0),
            "video": [video] * mm_counts.get("video", 0),
        }

    def get_dummy_processor_inputs(self, *args: Any, **kwargs: Any) -> Any:
        config = self.info.get_hf_config()
        points = {name: fields.placeholder_inputs(config, name)[1] for name in fields.SUFFIX}
        made = super().get_dummy_processor_inputs(*args, **kwargs)
        given = {**made.hf_processor_mm_kwargs, fields.LANDMARKS: points}
        return dataclasses.replace(made, hf_processor_mm_kwargs=given)


class Processor(BaseMultiModalProcessor[ProcessingInfo]):
    """Finds the face, landmarks it, and puts its tokens into the prompt."""

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        piece = self.info.get_tokenizer().convert_tokens_to_ids(PIECE)
        prompt = without_pieces(inputs.prompt, piece)
        return super().apply(dataclasses.replace(inputs, prompt=prompt), timing_ctx)

    def _call_hf_processor(self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, Any]) -> BatchFeature:
        try:
            found = self.info.items(
                hf_data.get("images") or (), hf_data.get("videos") or (), hf_kwargs.get(fields.LANDMARKS)
            )
        except FacellavaError as error:
            raise ValueError(f"{error.code}: {error}") from error  # vLLM answers these with status 400
        return BatchFeature(dict(found))

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        known = fields.field_modalities(self.info.get_hf_config())
        return {name: MultiModalFieldConfig.batched(known[name]) for name in hf_inputs if name in known}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptUpdate]:
        face = face_id(self.info.get_hf_config())

        def update(modality: fields.Modality) -> PromptReplacement:
            def replacement(index: int) -> PromptUpdateDetails:
                pixels = out_mm_kwargs[modality][index][f"pixel_values{fields.SUFFIX[modality]}"].data
                return PromptUpdateDetails.select_token_id(self.info.place(len(pixels)), face)

            return PromptReplacement(modality=modality, target=[face], replacement=replacement)

        return [update(modality) for modality in fields.SUFFIX]


@MULTIMODAL_REGISTRY.register_processor(Processor, info=ProcessingInfo, dummy_inputs=DummyInputs)
class FaceLlavaForVllm(nn.Module, SupportsMultiModal, SupportsPP):
    """The face's path as it is trained, and vLLM's own class of the language model."""

    hf_to_vllm_mapper = WeightsMapper(orig_to_new_prefix=dict(PREFIXES))
    packed_modules_mapping = {  # noqa: RUF012 - vLLM's own declaration
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        return FACE

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.config = config
        self.configure_mm_token_handling(vocab_size=config.text_config.vocab_size, mm_token_ids=[face_id(config)])
        with self._mark_tower_model(vllm_config, set(fields.SUFFIX)):
            self.visual = VisualEncoder(config)
        with self._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=config.text_config,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=config.text_config.architectures,
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def get_language_model(self) -> nn.Module:
        return self.language_model

    def embed_multimodal(self, **kwargs: object) -> MultiModalEmbeddings:
        return encode_items(self.visual, kwargs)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        if intermediate_tensors is not None:
            inputs_embeds = None  # a later stage of a pipeline goes on from the one before
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)
