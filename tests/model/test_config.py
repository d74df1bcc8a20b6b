"""Configuration: mistakes are refused, everything survives JSON."""

from __future__ import annotations

import subprocess
import sys

import pytest
from model_helpers import EXPERT_VISION, TINY_VISION, tiny_config
from transformers import AutoConfig, LlamaConfig

from facellava.model.config import TABLE_6, ClipVisionConfig, ExpertVisionConfig, FaceLlavaConfig, FusionConfig


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FusionConfig(kind="sum"), "fusion kind is 'sum'; choose one of paper"),
        (lambda: FusionConfig(landmarks="prepend"), "choose one of cross_attention, append, none"),
        (lambda: FusionConfig(projector="both"), "choose one of frlp, global, local"),
        (lambda: FusionConfig(expert="depth"), "choose one of landmarks, face_parsing"),
        (lambda: FusionConfig(heads=0), "heads is 0"),
        (lambda: FusionConfig(kind="none"), "contradicts landmarks='cross_attention'"),
        (lambda: FusionConfig(landmarks="append"), "append and none need kind='none'"),
        (lambda: FusionConfig(projector="global"), "set mask=False"),
        (lambda: FusionConfig(expert="face_parsing"), "set mask=False"),
        (lambda: FusionConfig(transposed_grid=True), "official_masked"),
        (lambda: FusionConfig(attention_scale="none"), "choose one of head, model"),
        (lambda: ClipVisionConfig(towers="three"), "choose one of image, video, both"),
        (lambda: ClipVisionConfig(pixels="pil"), "choose one of paper, official"),
        (lambda: ClipVisionConfig(heads=5), "does not divide width"),
        (lambda: ClipVisionConfig(image_size=225), "does not divide image_size"),
        (lambda: ClipVisionConfig(select_layer=0), "select_layer=0"),
        (lambda: ExpertVisionConfig(width=0), "width"),
        (lambda: FaceLlavaConfig(vision={"kind": "dino"}), "choose one of clip, experts"),
        (lambda: FaceLlavaConfig(vision={"kind": "clip", "depth": 3}), "vision has unknown settings: depth"),
        (lambda: FaceLlavaConfig(fusion={"mode": "paper"}), "fusion has unknown settings: mode"),
        (lambda: FaceLlavaConfig(image_token_id=-200), "image_token_id is -200"),
        (lambda: FaceLlavaConfig(crop_margin=-1), "crop_margin is -1"),
        (lambda: FaceLlavaConfig(crop="middle"), "choose one of centred, corner"),
        (lambda: tiny_config(fusion=FusionConfig(heads=5)), "heads=5 does not divide the language model's width 32"),
        (lambda: FusionConfig(kind="none", landmarks="none", expert="face_parsing"), "contradicts landmarks='none'"),
    ],
)
def test_mistakes_raise_value_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_defaults_are_the_papers():
    config = FaceLlavaConfig()
    assert (config.fusion.kind, config.fusion.heads, config.fusion.mask) == ("paper", 8, True)
    assert config.vision.grid == 16
    assert config.vision.depth == 23
    assert config.num_visual_tokens(1) == 256
    assert config.num_visual_tokens(8) == 8 * 256
    release = FaceLlavaConfig(vision=ClipVisionConfig(video_cls=True, pixels="official"))
    assert (release.num_visual_tokens(1), release.num_visual_tokens(8)) == (256, 2056)


@pytest.mark.parametrize("row", TABLE_6)
def test_every_row_of_table_6_survives_json(row, tmp_path):
    config = tiny_config(fusion=TABLE_6[row], crop_margin=0.25)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, FaceLlavaConfig)
    assert (loaded.fusion, loaded.vision, loaded.crop_margin) == (TABLE_6[row], TINY_VISION, 0.25)
    assert loaded.text_config.to_dict() == config.text_config.to_dict()


def test_table_6_has_the_papers_ten_rows_and_one_more_and_they_differ():
    assert len(set(TABLE_6.values())) == len(TABLE_6) == 11


def test_expert_vision_survives_json(tmp_path):
    config = tiny_config(vision=EXPERT_VISION)
    config.save_pretrained(tmp_path)
    assert FaceLlavaConfig.from_pretrained(tmp_path).vision == config.vision


def test_any_text_configuration():
    config = FaceLlavaConfig(text_config=LlamaConfig(hidden_size=64, tie_word_embeddings=True))
    assert config.get_text_config().hidden_size == 64
    assert config.tie_word_embeddings
    qwen = FaceLlavaConfig(text_config={"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4})
    assert type(qwen.text_config).__name__ == "Qwen2Config"


@pytest.mark.parametrize(
    ("towers", "temporal", "available", "sampled"),
    [("both", True, 1, 1), ("both", True, 2, 8), ("both", True, 100, 8), ("image", True, 5, 5), ("image", True, 9, 8),
     ("video", True, 1, 8), ("video", False, 3, 3)],
)  # fmt: skip
def test_sampled_frames(towers, temporal, available, sampled):
    assert ClipVisionConfig(towers=towers, temporal=temporal).sampled_frames(available) == sampled


def test_importing_the_package_and_the_numpy_parts_loads_no_torch():
    code = (
        "import sys, facellava.model, facellava.model.regions, facellava.model.frames;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
