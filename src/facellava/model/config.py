"""Configuration: frozen parts beside each other, and the Hugging Face class that carries them.

Imports transformers; ``facellava.model`` imports this file only when a name in it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal, TypeVar, get_args

from transformers import AutoConfig, PretrainedConfig

from facellava.model.regions import N_REGIONS
from facellava.types import Crop

__all__ = [
    "TABLE_6",
    "ClipVisionConfig",
    "ExpertVisionConfig",
    "FaceLlavaConfig",
    "FusionConfig",
    "VisionConfig",
]

Kind = Literal["paper", "official_simple", "official_masked", "none"]
Landmarks = Literal["cross_attention", "append", "none"]
Projector = Literal["frlp", "global", "local"]
Expert = Literal["landmarks", "face_parsing"]
Pixels = Literal["paper", "official"]
Towers = Literal["image", "video", "both"]


def _one_of(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(get_args(choices))}")


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")


@dataclass(frozen=True)
class ClipVisionConfig:
    """CLIP-type towers, one for images and one for videos; the defaults are LanguageBind's, as the paper uses them.

    Attributes:
        towers: ``both``: one frame goes to the image tower, several to the video tower.
        width, layers, heads, mlp: of both towers.
        patch, image_size: pixels.
        select_layer: which hidden state is the output, counted from the end (-2: before the last layer).
        frames: frames sampled from a video; with temporal attention a clip has exactly as many.
        temporal: the video tower attends across frames.
        image_cls, video_cls: keep the CLS token (the release keeps it for videos; the paper's N is 256).
        pixels: ``paper``: antialiased bicubic everywhere; ``official``: the release's two different paths.
        norm_eps: of the towers' layer norms.
    """

    towers: Towers = "both"
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp: int = 4096
    patch: int = 14
    image_size: int = 224
    select_layer: int = -2
    frames: int = 8
    temporal: bool = True
    image_cls: bool = False
    video_cls: bool = False
    pixels: Pixels = "paper"
    norm_eps: float = 1e-5
    kind: Literal["clip"] = "clip"

    def __post_init__(self) -> None:
        _one_of("towers", self.towers, Towers)
        _one_of("pixels", self.pixels, Pixels)
        _positive(self, "width", "layers", "heads", "mlp", "patch", "image_size", "frames")
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        if self.image_size % self.patch:
            raise ValueError(f"patch={self.patch} does not divide image_size={self.image_size}")
        if not -self.layers <= self.select_layer <= -1:
            raise ValueError(f"select_layer={self.select_layer} must lie in {-self.layers}..-1")

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch

    @property
    def depth(self) -> int:
        """Layers that reach the output."""
        return self.layers + 1 + self.select_layer

    def tower_for(self, frames: int) -> Literal["image", "video"]:
        """Which tower looks at a clip of so many frames."""
        if self.towers == "both":
            return "image" if frames == 1 else "video"
        return self.towers

    def has_cls(self, frames: int) -> bool:
        """Whether each frame's tokens start with the CLS token."""
        return self.image_cls if self.tower_for(frames) == "image" else self.video_cls

    def sampled_frames(self, available: int) -> int:
        """Frames taken from a clip: a temporal tower repeats the frames of short clips."""
        if self.tower_for(available) == "video" and self.temporal:
            return self.frames
        return min(available, self.frames)


@dataclass(frozen=True)
class ExpertVisionConfig:
    """Frozen face experts, whose maps the processor computes (see ``experts.py``).

    Attributes:
        width: channels of the maps (C).
        grid: patches a side.
        frames: frames sampled at most; shorter clips keep what they have.
    """

    width: int = 1
    grid: int = 7
    frames: int = 8
    kind: Literal["experts"] = "experts"

    def __post_init__(self) -> None:
        _positive(self, "width", "grid", "frames")

    def has_cls(self, frames: int) -> bool:
        """Maps have no CLS token."""
        return False

    def sampled_frames(self, available: int) -> int:
        """Frames taken from a clip."""
        return min(available, self.frames)


VisionConfig = ClipVisionConfig | ExpertVisionConfig


@dataclass(frozen=True)
class FusionConfig:
    """How landmarks reach the language model; ``TABLE_6`` names the paper's ablation rows.

    Attributes:
        kind: FRGCA's formula, see ``FaceRegionGuidedCrossAttention``; ``none`` without cross-attention.
        landmarks: ``cross_attention`` (the paper's), ``append`` (tokens join the sequence, as EmoLA does) or ``none``.
        projector: ``frlp`` (global + local), ``global`` or ``local`` alone.
        expert: what is attended or appended: landmark tokens, or face-parsing maps through the vision tower.
        mask: region-patch proximity, eq. 5; without it Table 6 calls the attention "simple".
        heads: of the cross-attention.
        attention_scale: divide scores by the root of a head's width, or of the model's (eq. 6 as printed).
        transposed_grid: only for checkpoints of the release's masked variant.
    """

    kind: Kind = "paper"
    landmarks: Landmarks = "cross_attention"
    projector: Projector = "frlp"
    expert: Expert = "landmarks"
    mask: bool = True
    heads: int = 8
    attention_scale: Literal["head", "model"] = "head"
    transposed_grid: bool = False

    def __post_init__(self) -> None:
        _one_of("fusion kind", self.kind, Kind)
        _one_of("landmarks", self.landmarks, Landmarks)
        _one_of("projector", self.projector, Projector)
        _one_of("expert", self.expert, Expert)
        _one_of("attention_scale", self.attention_scale, Literal["head", "model"])
        _positive(self, "heads")
        if (self.kind == "none") == (self.landmarks == "cross_attention"):
            raise ValueError(
                f"fusion kind {self.kind!r} contradicts landmarks={self.landmarks!r}: "
                "cross_attention needs a kind, append and none need kind='none'"
            )
        if self.masked and (self.projector == "global" or self.expert == "face_parsing"):
            raise ValueError("the proximity mask needs one token a region: set mask=False or projector='frlp'")
        if self.expert == "face_parsing" and self.landmarks == "none":
            raise ValueError("face_parsing contradicts landmarks='none': choose cross_attention or append")
        if self.transposed_grid and self.kind != "official_masked":
            raise ValueError("transposed_grid only applies to kind='official_masked'")

    @property
    def masked(self) -> bool:
        """Whether places enter the attention."""
        return self.kind == "official_masked" or (self.kind == "paper" and self.mask)

    @property
    def uses_landmarks(self) -> bool:
        """Whether the model needs landmarks as input."""
        return self.landmarks != "none" and self.expert == "landmarks"

    @property
    def uses_parsing(self) -> bool:
        """Whether the model needs face-parsing maps as input."""
        return self.landmarks != "none" and self.expert == "face_parsing"

    @property
    def region_tokens(self) -> int:
        """Landmark tokens a frame."""
        return 1 if self.projector == "global" else N_REGIONS


_simple = partial(FusionConfig, mask=False)
_append = partial(FusionConfig, kind="none", landmarks="append")
TABLE_6: Mapping[str, FusionConfig] = {
    "baseline": FusionConfig(kind="none", landmarks="none"),
    "append_global": _append(projector="global"),
    "append_local": _append(projector="local"),
    "append_frlp": _append(),
    "simple_global": _simple(projector="global"),
    "simple_local": _simple(projector="local"),
    "simple_frlp": _simple(),
    "frgca_local": FusionConfig(projector="local"),
    "frgca_frlp": FusionConfig(),
    "simple_face_parsing": _simple(expert="face_parsing"),
    "append_face_parsing": _append(expert="face_parsing"),
}
"""The rows of Table 6, in the paper's order; the last one, parsing tokens appended, completes the square."""

_VISION = {"clip": ClipVisionConfig, "experts": ExpertVisionConfig}
_Part = TypeVar("_Part")


def _build(cls: type[_Part], values: Mapping[str, Any], name: str) -> _Part:
    unknown = sorted(set(values) - {f.name for f in fields(cls)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{name} has unknown settings: {', '.join(unknown)}")
    return cls(**values)


def _vision(value: VisionConfig | Mapping[str, Any] | None) -> VisionConfig:
    if value is None:
        return ClipVisionConfig()
    if isinstance(value, (ClipVisionConfig, ExpertVisionConfig)):
        return value
    kind = value.get("kind", "clip")
    if kind not in _VISION:
        raise ValueError(f"vision kind is {kind!r}; choose one of {', '.join(_VISION)}")
    return _build(_VISION[kind], value, "vision")


def _fusion(value: FusionConfig | Mapping[str, Any] | None) -> FusionConfig:
    if value is None:
        return FusionConfig()
    return value if isinstance(value, FusionConfig) else _build(FusionConfig, value, "fusion")


class FaceLlavaConfig(PretrainedConfig):
    """Everything that defines the model's shape.

    Args:
        vision: a vision part, or its fields as a mapping with ``kind``.
        fusion: a fusion part, or its fields.
        text_config: any causal language model's configuration of transformers, or its dictionary with ``model_type``.
        image_token_id: placeholder, one in ``input_ids`` for each visual token; may lie outside the vocabulary.
        crop_margin: margin of the face crops that the model was trained on (see ``FaceClip.margin``).
        crop: where their squares lie (see ``types.Crop``).
        pool_frames: the language model reads the mean over a clip's frames, so a video costs no more than an image.
        kwargs: common settings of ``PretrainedConfig``.

    Raises:
        ValueError: for unknown or contradictory settings.
    """

    model_type = "facellava"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        vision: VisionConfig | Mapping[str, Any] | None = None,
        fusion: FusionConfig | Mapping[str, Any] | None = None,
        text_config: PretrainedConfig | Mapping[str, Any] | None = None,
        image_token_id: int = 32000,
        crop_margin: float = 0.0,
        crop: Crop = "centred",
        pool_frames: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vision, self.fusion = _vision(vision), _fusion(fusion)
        if not isinstance(text_config, PretrainedConfig):
            settings = dict(text_config or {})
            text_config = AutoConfig.for_model(settings.pop("model_type", "llama"), **settings)
        self.text_config = text_config
        self.image_token_id, self.pool_frames = image_token_id, pool_frames
        self.crop_margin = crop_margin
        self.crop: Crop = crop
        self._check()
        # The language model alone has embeddings to tie; its own setting is the truth.
        kwargs["tie_word_embeddings"] = text_config.tie_word_embeddings
        super().__init__(**kwargs)

    def _check(self) -> None:
        if not isinstance(self.image_token_id, int) or self.image_token_id < 0:
            raise ValueError(f"image_token_id is {self.image_token_id!r}; it must be a token id of at least 0")
        if not 0 <= self.crop_margin <= 2:
            raise ValueError(f"crop_margin is {self.crop_margin!r}; it must lie in 0..2")
        _one_of("crop", self.crop, Crop)
        width = self.text_config.hidden_size
        if self.fusion.kind != "none" and width % self.fusion.heads:
            raise ValueError(f"fusion heads={self.fusion.heads} does not divide the language model's width {width}")

    def num_visual_tokens(self, frames: int) -> int:
        """Visual tokens of a clip of so many frames, hence placeholders in ``input_ids``."""
        vision, fusion = self.vision, self.fusion
        frame = vision.grid**2 + vision.has_cls(frames)
        if fusion.landmarks == "append":
            frame += frame if fusion.uses_parsing else fusion.region_tokens
        return frame * self.visual_blocks(frames)

    def visual_blocks(self, frames: int) -> int:
        """Runs of visual tokens in the prompt: one a frame, or a single one where frames are pooled."""
        return 1 if self.pool_frames else frames

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        result = super().to_dict()
        return result | {"vision": asdict(self.vision), "fusion": asdict(self.fusion)}


AutoConfig.register(FaceLlavaConfig.model_type, FaceLlavaConfig, exist_ok=True)
