"""A recipe's model: from nothing, from the small default's parts, or from a folder; and its processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from facellava import weights
from facellava.errors import FileMissing, UsageError
from facellava.files import read_object
from facellava.model import experts
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig, FusionConfig
from facellava.model.gguf_weights import LanguageModelFile, read_gguf
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import CHATML, VICUNA
from facellava.runtime.build import DEFAULT_MODEL, ModelCard
from facellava.runtime.quantized import by_bits_and_bytes
from facellava.runtime.torch_model import load_base, text_config
from facellava.training.checkpoints import load_tensors
from facellava.training.modules import load_part
from facellava.training.recipe import SHIPPED, LoraConfig, ModelConfig
from facellava.training.talks import Corpus

STYLES = {"chatml": CHATML, "vicuna": VICUNA}
STOP = "<|im_end|>"
PLACEHOLDER = 0
"""``<|endoftext|>`` of the default's language model: never part of a conversation, so it can stand for the face."""
DELTA = "delta.safetensors"
HEADS = 8


class Assembled(NamedTuple):
    """The model, its processor, and whether it looks through experts whose moments and head are still to be found."""

    model: FaceLlavaForConditionalGeneration
    processor: FaceLlavaProcessor
    new_tower: bool


def assemble(config: ModelConfig, corpus: Corpus) -> Assembled:
    """Build or load the model that a run starts from.

    Raises:
        FileMissing: the start is no folder of ours. UsageError: contradictory or missing settings.
        WeightsUnavailable, MissingExtra: as their names say.
    """
    if config.start == "default":
        return _default(config)
    if config.start == "random":
        return _random(config)
    return _folder(config)


def model_config(config: ModelConfig, corpus: Corpus) -> FaceLlavaConfig:
    """The model's configuration alone, for plans: nothing is allocated, and a language model's file is read for sizes.

    Raises:
        as :func:`assemble`.
    """
    if config.start == "default":
        base = read_gguf(weights.resolve(config.base))
        return _default_config(config, base)
    if config.start == "random":
        return _random_config(config, _tokenizer(config))
    return FaceLlavaConfig.from_pretrained(_checked(config.start))


# --- the small default ---


def _default(config: ModelConfig) -> Assembled:
    base = read_gguf(weights.resolve(config.base))
    settings = _default_config(config, base)
    model = FaceLlavaForConditionalGeneration(settings)
    kept = model.language_model.state_dict().keys()
    load_base(model, base, {name: value for name, value in base.weights.items() if name in kept})
    _scale_to_words(model)
    processor = FaceLlavaProcessor(_fast(base.tokenizer), settings, STYLES[config.style], encoder=_encoder())
    return Assembled(model, processor, True)


def _default_config(config: ModelConfig, base: LanguageModelFile) -> FaceLlavaConfig:
    sizes = base.config
    if config.layers:
        if config.layers > sizes.num_hidden_layers:
            raise UsageError(f"model.layers is {config.layers}, but {config.base} has {sizes.num_hidden_layers} blocks")
        sizes = replace(sizes, num_hidden_layers=config.layers)
    return _config(
        vision=ExpertVisionConfig(width=experts.MAP_WIDTH, grid=experts.GRID),
        fusion={"heads": HEADS, **config.fusion},
        text_config=text_config(sizes),
        image_token_id=PLACEHOLDER,
        crop_margin=config.crop_margin,
        pool_frames=True,
    )


def _scale_to_words(model: FaceLlavaForConditionalGeneration) -> None:
    """Word embeddings are small (standard deviation about 0.1); new tokens that shout are hard to unlearn."""
    scale = model.get_input_embeddings().get_parameter("weight").std()
    names = ("projector.second.weight", "frgca.out.weight")
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            if name in own:
                own[name].mul_(scale)


def delta_folder(config: ModelConfig) -> Path:
    """Where ``model.delta`` lies."""
    return DEFAULT_MODEL if config.delta == SHIPPED else Path(config.delta)


def check_delta(config: ModelConfig, lora: LoraConfig) -> None:
    """Before any work.

    Raises:
        FileMissing, DamagedCheckpoint: of the folder. UsageError: it is of another base, or of other factors.
    """
    folder = delta_folder(config)
    card = ModelCard.read(folder)
    if (card.base, card.lora_scale) != (config.base, lora.alpha / lora.rank):
        raise UsageError(
            f"model.delta: {folder} was trained on {card.base} with alpha / rank = {card.lora_scale:g}: set model.base "
            "and [lora] to the same"
        )


def load_delta(model: FaceLlavaForConditionalGeneration, config: ModelConfig) -> None:
    """Put what was trained before into a model with fresh factors. The tower's moments are the run's own.

    Raises:
        DamagedCheckpoint: the file is cut off. UsageError: it is of another model.
    """
    path = delta_folder(config) / DELTA
    tensors = {name: value for name, value in load_tensors(path)[0].items() if not name.startswith("vision_tower.")}
    load_part(model, tensors, f"model.delta: {path}")


def _encoder() -> experts.ExpertEncoder:
    return experts.ExpertEncoder(weights.resolve)


# --- from nothing ---


def _random(config: ModelConfig) -> Assembled:
    tokenizer = _tokenizer(config)
    settings = _random_config(config, tokenizer)
    model = FaceLlavaForConditionalGeneration(settings)
    uses_experts = isinstance(settings.vision, ExpertVisionConfig)
    encoder = _encoder() if uses_experts else None
    return Assembled(model, FaceLlavaProcessor(tokenizer, settings, STYLES[config.style], encoder), uses_experts)


def _random_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> FaceLlavaConfig:
    if "model_type" not in config.text:
        raise UsageError("model.text needs model_type, such as 'llama', and the sizes of the language model")
    vision: dict[str, Any] = dict(config.vision)
    if vision.get("kind") == "experts":
        vision = {"width": experts.MAP_WIDTH, "grid": experts.GRID, **vision}
    text = {"vocab_size": len(tokenizer), **config.text}
    if text["vocab_size"] < len(tokenizer):
        raise UsageError(f"model.text.vocab_size is {text['vocab_size']}, but the tokenizer has {len(tokenizer)} words")
    return _config(
        vision=vision,
        fusion=dict(config.fusion),
        text_config=text,
        image_token_id=text["vocab_size"],  # outside the vocabulary: never written by anybody
        crop_margin=config.crop_margin,
    )


def _config(**parts: Any) -> FaceLlavaConfig:
    """Mistakes of the configuration as mistakes of the recipe."""
    try:
        if isinstance(parts["fusion"], dict):
            parts["fusion"] = FusionConfig(**parts["fusion"])
        return FaceLlavaConfig(**parts)
    except (ValueError, TypeError) as error:
        raise UsageError(f"[model]: {error}") from error


def _tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    if not config.tokenizer:
        raise UsageError("model.tokenizer is empty: name a folder with a tokenizer, or a registered language model")
    if Path(config.tokenizer).is_dir():
        return AutoTokenizer.from_pretrained(config.tokenizer)
    return _fast(read_gguf(weights.resolve(config.tokenizer)).tokenizer)


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=STOP, pad_token=STOP, clean_up_tokenization_spaces=False
    )


# --- from a folder ---


def _folder(config: ModelConfig) -> Assembled:
    folder = _checked(config.start)
    # whatever it was stored in: half precision is the autocast's business, as AdamW's epsilon vanishes in it
    options: dict[str, Any] = {"dtype": torch.float32}
    if config.quantize:
        options = {"quantization_config": by_bits_and_bytes("int4")}
    model = FaceLlavaForConditionalGeneration.from_pretrained(folder, **options)
    encoder = _encoder() if isinstance(model.config.vision, ExpertVisionConfig) else None
    return Assembled(model, FaceLlavaProcessor.from_pretrained(folder, encoder), False)


def _checked(start: str) -> Path:
    folder = Path(start)
    if not (folder / "config.json").is_file():
        raise FileMissing(
            f"model.start is {start}, which holds no config.json: name a folder that a run or save_pretrained wrote, "
            "'default' or 'random'"
        )
    kind = read_object(folder / "config.json").get("model_type")
    if kind != FaceLlavaConfig.model_type:
        raise UsageError(f"{folder} holds a model of type {kind}: make it ours with facellava convert")
    return folder
