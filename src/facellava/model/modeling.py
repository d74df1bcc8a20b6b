"""Face-LLaVA as a Hugging Face model: tower -> projector -> FRLP -> FRGCA -> placeholders -> any causal language model.

Shapes: b clips, t frames (1 for an image), n visual tokens a frame, v visual tokens a clip, l text positions,
d width of the language model, c of the tower.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from .answer_loss import AnswerOutput, answer_loss, decode
from .clip_tower import ClipTower, ClipVisionTower, _Layer
from .config import ExpertVisionConfig, FaceLlavaConfig
from .expert_tower import ExpertVisionTower
from .frgca import FaceRegionGuidedCrossAttention
from .frlp import FaceRegionLandmarkProjector
from .projector import VisionProjector

__all__ = ["FaceLlavaForConditionalGeneration", "VisualTokens"]

VISUAL_INPUTS = ("pixel_values", "vision_features", "landmarks", "parsing_values")


class VisualTokens(NamedTuple):
    """What the language model sees of a clip.

    Attributes:
        tokens: (b, v, d), in the order of the placeholders.
        attention: FRGCA weights (b, t, heads, n, m) when asked for.
    """

    tokens: Tensor
    attention: Tensor | None


def _build_tower(config: FaceLlavaConfig) -> nn.Module:
    vision = config.vision
    return ExpertVisionTower(vision.width) if isinstance(vision, ExpertVisionConfig) else ClipVisionTower(vision)


class FaceLlavaForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Answers questions about one face in an image or video.

    ``input_ids`` hold one ``config.image_token_id`` for every visual token (``num_visual_tokens``), so lengths, masks
    and labels mean what they say. Training stages name the parts: ``vision_tower``, ``projector``, ``frlp``, ``frgca``
    (these two only where the configuration uses them) and ``language_model``.
    """

    config_class = FaceLlavaConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ["image", "video", "text"]  # noqa: RUF012  (transformers' own declaration)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _supports_cache_class = True

    def __init__(self, config: FaceLlavaConfig) -> None:
        super().__init__(config)
        dim, fusion = config.text_config.hidden_size, config.fusion
        self.vision_tower = _build_tower(config)
        self.projector = VisionProjector(config.vision.width, dim)
        if fusion.uses_landmarks:
            self.frlp = FaceRegionLandmarkProjector(
                dim, use_local=fusion.projector != "global", use_global=fusion.projector != "local"
            )
        if fusion.kind != "none":
            self.frgca = FaceRegionGuidedCrossAttention(
                dim,
                fusion.heads,
                fusion.kind,
                grid=config.vision.grid,
                mask=fusion.mask,
                scale=fusion.attention_scale,
                transposed_grid=fusion.transposed_grid,
            )
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            # transformers' 0.02 is meant for deep stacks; single layers over a few inputs need PyTorch's scale, which
            # the release uses too. The language model initialises itself.
            module.reset_parameters()
            return
        super()._init_weights(module)
        std = getattr(self.config.text_config, "initializer_range", 0.02)
        if isinstance(module, ClipTower):
            nn.init.normal_(module.cls, std=std)
            nn.init.normal_(module.position, std=std)
        elif isinstance(module, _Layer) and module.temporal:
            nn.init.zeros_(module.time_embedding)

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's head."""
        self.language_model.set_output_embeddings(new_embeddings)

    def num_visual_tokens(self, frames: int) -> int:
        """Placeholders that a clip of so many frames needs (see ``FaceLlavaConfig.num_visual_tokens``)."""
        return self.config.num_visual_tokens(frames)

    def encode_visual(
        self,
        *,
        pixel_values: Float[Tensor, "b t 3 s s"] | None = None,
        vision_features: Float[Tensor, "b t n c"] | None = None,
        landmarks: Float[Tensor, "b t 68 2"] | None = None,
        parsing_values: Float[Tensor, "b t ..."] | None = None,
        need_attention: bool = False,
    ) -> VisualTokens:
        """Eq. 1-6: what the language model reads of a clip.

        Args:
            pixel_values: normalised crops, for towers that read pixels.
            vision_features: the tower's features computed before (CLIP type), or the experts' maps.
            landmarks: fractions of the crop, iBUG-68 order.
            parsing_values: face-parsing maps drawn as pictures, as the tower reads pictures: pixels (b, t, 3, s, s)
                for towers of CLIP type, the experts' maps of the drawing (b, t, n, c); only for fusion expert
                ``face_parsing``.
            need_attention: also return FRGCA's weights.

        Raises:
            ValueError: when an input that the configuration needs is missing.
        """
        visual = self.projector(self._see(pixel_values, vision_features))
        visual, attention = self._fuse(visual, landmarks, parsing_values, need_attention)
        return VisualTokens(visual.mean(1) if self.config.pool_frames else visual.flatten(1, 2), attention)

    def _see(self, pixel_values: Tensor | None, vision_features: Tensor | None) -> Float[Tensor, "b t n c"]:
        if self.config.vision.kind == "experts":
            if vision_features is None or pixel_values is not None:
                raise ValueError("vision kind 'experts' needs vision_features, and no pixel_values")
            return self.vision_tower(vision_features)
        if pixel_values is not None and vision_features is None:
            return self.vision_tower(pixel_values)
        if vision_features is None or pixel_values is not None:
            raise ValueError("give either pixel_values or vision_features")
        return vision_features

    def _fuse(
        self,
        visual: Float[Tensor, "b t n d"],
        landmarks: Tensor | None,
        parsing_values: Tensor | None,
        need_attention: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Landmarks (or parsing maps) into the visual tokens, as configured."""
        fusion = self.config.fusion
        if fusion.landmarks == "none":
            return visual, None
        if fusion.expert == "face_parsing":
            if parsing_values is None:
                raise ValueError("fusion expert 'face_parsing' needs parsing_values")
            regions, landmarks = self.projector(self.vision_tower(parsing_values)), None
        elif landmarks is None:
            raise ValueError(f"landmarks are missing: fusion with landmarks={fusion.landmarks!r} needs them")
        else:
            landmarks = landmarks.to(visual.dtype)
            regions = self.frlp(landmarks)
        if fusion.landmarks == "append":
            return torch.cat([visual, regions], dim=2), None
        has_cls = self.config.vision.has_cls(visual.shape[1])
        return self.frgca(visual, regions, landmarks, need_attention, has_cls)

    def embed(
        self, input_ids: Int[Tensor, "b l"], visual: Float[Tensor, "b v d"] | None = None
    ) -> Float[Tensor, "b l d"]:
        """Embeddings of the text, with visual tokens in place of the placeholders.

        Raises:
            ValueError: when a row's placeholders and visual tokens differ in number.
        """
        places = input_ids == self.config.image_token_id
        # A placeholder may lie outside the vocabulary; its own embedding is never used.
        embeds = self.get_input_embeddings()(input_ids.masked_fill(places, 0))
        given = 0 if visual is None else visual.shape[1]
        counts = places.sum(dim=1)
        if bool((counts != given).any()):
            row = int((counts != given).nonzero()[0])
            raise ValueError(
                f"row {row} of input_ids has {int(counts[row])} placeholders (id {self.config.image_token_id}) "
                f"for {given} visual tokens"
            )
        if visual is None:
            return embeds
        return embeds.masked_scatter(places.unsqueeze(-1), visual.to(embeds.dtype))

    def forward(
        self,
        input_ids: Int[Tensor, "b l"] | None = None,
        attention_mask: Tensor | dict | None = None,
        pixel_values: Float[Tensor, "b t 3 s s"] | None = None,
        vision_features: Float[Tensor, "b t n c"] | None = None,
        landmarks: Float[Tensor, "b t 68 2"] | None = None,
        parsing_values: Float[Tensor, "b t ..."] | None = None,
        inputs_embeds: Float[Tensor, "b l d"] | None = None,
        labels: Int[Tensor, "b l"] | None = None,
        label_weights: Float[Tensor, "b l"] | None = None,
        answers_only: bool = False,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | AnswerOutput | tuple:
        """One pass; eq. 7 as the mean cross-entropy over labels other than -100.

        Visual inputs are those of ``encode_visual``. ``kwargs`` reach the language model (``past_key_values``,
        ``position_ids``, ``use_cache``, ``logits_to_keep``, ``num_items_in_batch``, ``output_hidden_states``, ...).

        Args:
            label_weights: of the labels in the mean; only with ``answers_only``.
            answers_only: logits are computed where labels ask for them and nowhere else, and are not returned; the
                output is an ``AnswerOutput``. For training: with one answer in a long prompt most logits are waste.

        Raises:
            ValueError: when placeholders and visual tokens do not match, or an input is missing or superfluous.
        """
        seen = {"pixel_values": pixel_values, "vision_features": vision_features, "landmarks": landmarks,
                "parsing_values": parsing_values}  # fmt: skip
        given: dict[str, Any] = {name: value for name, value in seen.items() if value is not None}
        if answers_only and labels is None:
            raise ValueError("answers_only needs labels")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if inputs_embeds is not None and given:
            raise ValueError(f"inputs_embeds already hold the visual tokens: leave out {', '.join(given)}")
        if input_ids is not None:
            past = kwargs.get("cache", kwargs.get("past_key_values"))  # transformers renamed it in 5.24
            inputs_embeds = self._embed_step(input_ids, given, past)
        if answers_only:
            assert inputs_embeds is not None and labels is not None
            hidden = decode(self.language_model, inputs_embeds, attention_mask)
            head = self.get_output_embeddings()
            return answer_loss(hidden, head, labels, label_weights, kwargs.get("num_items_in_batch"))
        return self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs)

    def _embed_step(self, input_ids: Tensor, given: dict[str, Any], past: Any) -> Tensor:
        if not given and past is not None and past.get_seq_length() > 0:
            # Decoding: the visual tokens are in the cache, and a generated id is text whatever it is.
            return self.get_input_embeddings()(input_ids)
        return self.embed(input_ids, self.encode_visual(**given).tokens if given else None)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """As usual; with a cache, visual inputs are used in the first step only."""
        inputs = super().prepare_inputs_for_generation(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids, *args, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in VISUAL_INPUTS:
                inputs.pop(name, None)
        return inputs


AutoModelForImageTextToText.register(FaceLlavaConfig, FaceLlavaForConditionalGeneration, exist_ok=True)
# the pipeline looks here for models that it supports, and not among registered ones
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[FaceLlavaConfig.model_type] = FaceLlavaForConditionalGeneration.__name__
