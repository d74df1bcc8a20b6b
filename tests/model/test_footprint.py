"""What answering takes: counted by hand here, and compared with real passes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from model_helpers import DIM, EXPERT_VISION, TINY_VISION, byte_tokenizer, face_clip, tiny_config

from facellava.errors import UsageError
from facellava.model import footprint
from facellava.model.config import TABLE_6, FaceLlavaConfig, FusionConfig
from facellava.model.footprint import Peak, kv_bytes, measure
from facellava.model.layouts import paper_7b, release_7b
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.precision import Form, form_of, quantized_linears
from facellava.model.processing import FaceLlavaProcessor
from facellava.runtime.torch_engine import TorchEngine

LAYER = 4 * 4096 * 4096 + 3 * 4096 * 11008
"""Weights of the linear layers of one of LLaMA-7B's blocks."""
TOWER = 1024 + 3 * 14 * 14 * 1024 + 257 * 1024 + 2 * 1024
"""Class token, patches, positions and the first norm of one tower."""
ATTENTION, NORM, MLP = 4 * (1024 * 1024 + 1024), 2 * 1024, 2 * 1024 * 4096 + 4096 + 1024


def total_of_paper() -> int:
    image = TOWER + 23 * (ATTENTION + 2 * NORM + MLP)
    video = image + 23 * (ATTENTION + NORM + 8 * 1024)
    projector = 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    return image + video + projector + 593_920 + 561_152 + 4 * (4096 * 4096 + 4096) + 6_738_415_616


@pytest.fixture(scope="module")
def paper() -> footprint.Footprint:
    return measure(paper_7b())


def test_parameters_of_the_paper(paper: footprint.Footprint) -> None:
    assert paper.parameters["frlp"] == 593_920 + 561_152
    assert paper.parameters["frgca"] == 4 * (4096 * 4096 + 4096)
    assert paper.parameters["language_model"] == 6_738_415_616
    assert paper.total == total_of_paper()
    assert paper.linear == 32 * LAYER and paper.largest == 4096 * 11008


def test_parameters_of_the_release() -> None:
    """Its files hold 85,078,016 new ones; the outer norm (2 x 4096) has no effect, and no place in our model."""
    found = measure(release_7b())
    assert found.parameters["frlp"] + found.parameters["frgca"] == 85_078_016 - 2 * 4096
    assert found.parameters["frgca"] == 83_922_944 - 2 * 4096


def test_weights_by_hand(paper: footprint.Footprint) -> None:
    total, linear = total_of_paper(), 32 * LAYER
    outputs = 32 * (4 * 4096 + 2 * 11008 + 4096)

    def weights(precision: Any, kind: Any) -> int:
        form = form_of(precision, kind)
        assert form is not None
        return paper.weights(form)

    assert weights("fp32", "gpu") == weights("fp32", "cpu") == 4 * total
    assert weights("bf16", "gpu") == 2 * total
    assert weights("int8", "gpu") == linear + 4 * outputs + 2 * (total - linear)
    assert weights("int8", "cpu") == linear + 4 * outputs + 4 * (total - linear)
    scales = linear // 64 + 4 * linear // (64 * 256)
    assert weights("int4", "gpu") == linear // 2 + scales + 2 * (total - linear)
    assert form_of("int4", "cpu") is None


def test_keys_and_values_by_hand(paper: footprint.Footprint) -> None:
    """LLaMA-7B keeps 2 x 32 layers x 4096 numbers a token: half a mebibyte in half precision."""
    half = form_of("bf16", "gpu")
    assert half is not None
    assert kv_bytes(paper_7b(), 1, 2) == 524_288
    image, video = paper.cases
    assert (image.frames, image.visual, image.tokens) == (1, 256, 768)
    assert (video.frames, video.visual, video.tokens) == (8, 2048, 2560)
    assert paper.need(image, half).kv_cache == 768 * 524_288
    assert paper.need(video, half).kv_cache == 2560 * 524_288
    assert paper.need(video, half).states == (2048 + 2560) * 524_288


def test_keys_and_values_of_grouped_heads() -> None:
    """Two layers, two key-value heads (of four) of width 8, in single precision."""
    assert kv_bytes(tiny_config(), 10, 4) == 10 * 2 * 2 * 2 * 8 * 4
    assert kv_bytes(tiny_config(text={"head_dim": 16}), 1, 1) == 2 * 2 * 2 * 16


def test_peak_of_a_chain_by_hand() -> None:
    """Two tensors of 4,000 bytes live at once, whatever the length of the chain; views and what was there are free."""
    x = torch.ones(1000)
    with Peak() as seen:
        y = x * 2
        y = y.view(10, 100) + 1
        y = y.relu_() * 3
    assert seen.bytes == 8000
    with Peak() as kept:
        held = [x + i for i in range(5)]
    assert kept.bytes == 5 * 4000 and len(held) == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_of_a_block_lies_where_its_mlp_says(dtype: torch.dtype) -> None:
    """Gate, up and their product are alive together; the stream, its norm and little else come on top."""
    text = {"intermediate_size": 4096, "hidden_size": 64, "max_position_embeddings": 4096}
    found = measure(tiny_config(text=text))
    tokens = found.cases[1].tokens
    gates = 3 * tokens * 4096 * dtype.itemsize
    peak = found.peaks[dtype.itemsize, "video"]
    assert gates <= peak <= gates + 12 * tokens * 64 * dtype.itemsize + 64 * tokens


def test_only_the_language_models_linear_layers_are_quantised() -> None:
    config = tiny_config(text={"tie_word_embeddings": False})
    model = FaceLlavaForConditionalGeneration(config)
    names = {name for name, _ in quantized_linears(model)}
    assert len(names) == 2 * 7 and all(name.startswith("language_model.model.layers.") for name in names)
    assert measure(config).linear == 2 * (2 * DIM * DIM + 2 * DIM * DIM // 2 + 3 * DIM * 48)


@pytest.mark.parametrize("name", ["baseline", "append_frlp", "frgca_frlp", "append_face_parsing"])
def test_every_kind_of_fusion_is_measured(name: str) -> None:
    config = tiny_config(fusion=TABLE_6[name])
    found = measure(config)
    assert [case.visual for case in found.cases] == [config.num_visual_tokens(1), config.num_visual_tokens(3)]
    assert found.total == sum(p.numel() for p in FaceLlavaForConditionalGeneration(config).parameters())
    assert min(found.peaks.values()) > 0


def test_experts_pool_their_frames() -> None:
    found = measure(tiny_config(vision=EXPERT_VISION, pool_frames=True))
    assert {case.visual for case in found.cases} == {9}


def test_a_video_longer_than_the_context_is_told() -> None:
    with pytest.raises(UsageError, match="27 visual tokens of one video do not fit the language model's 20"):
        measure(tiny_config(text={"max_position_embeddings": 20}))


def test_quantised_layers_are_unpacked_one_at_a_time() -> None:
    found = measure(tiny_config())
    case = found.cases[0]
    plain, packed = (found.need(case, form) for form in (Form(4, 0, 4, 4), Form(1, 4, 4, 4)))
    assert packed.activations - plain.activations == DIM * 48 * 4
    assert plain.total == plain.weights + plain.kv_cache + plain.states + plain.activations


def folder_of(path: Path, config: FaceLlavaConfig) -> Path:
    torch.manual_seed(0)
    FaceLlavaForConditionalGeneration(config).save_pretrained(path)
    FaceLlavaProcessor(byte_tokenizer(), config).save_pretrained(path)
    return path


@pytest.mark.parametrize("frames", [1, 3])
def test_a_real_answer_takes_at_most_what_is_stated(tmp_path: Path, frames: int) -> None:
    """The torch engine from the face's tokens to the last of 512 of text. It reads the face before the question, so
    that its largest pass is shorter than the one that is stated; keys and values of all states are there."""
    vision = dataclasses.replace(TINY_VISION, patch=4, image_size=40)
    text = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8, "max_position_embeddings": 2048}
    config = tiny_config(vision=vision, fusion=FusionConfig(), text=text)
    engine = TorchEngine(folder_of(tmp_path, config), Path)
    engine._stop = frozenset()
    style = engine._style
    around = sum(
        len(engine.tokenize(text))
        for text in (style.before_user, style.after_visual, style.after_user, style.before_assistant)
    )
    visual, question = engine.see(face_clip(frames)), "x" * (footprint.TEXT_TOKENS - 32 - around)
    with Peak() as seen:
        list(engine.ask(engine.read(visual), question, max_new_tokens=32))
    found = measure(config)
    case, form = found.cases[frames > 1], form_of("fp32", "cpu")
    assert form is not None and len(visual.tokens) == case.visual
    need = found.need(case, form)
    stated = need.kv_cache + need.states + need.activations
    assert 0.7 * stated <= seen.bytes <= stated
    assert seen.bytes > need.kv_cache + need.states
