"""The towers and the pixel paths against the official release."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_helpers import close

from facellava.model.clip_tower import ClipTower, ClipVisionTower
from facellava.model.config import ClipVisionConfig
from facellava.model.frames import frame_indices
from facellava.model.official_keys import tower_state
from facellava.model.preprocess import pixel_values

ATOL = 1e-5
TINY = ClipVisionConfig(width=32, layers=3, heads=4, mlp=64, image_size=56)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def test_image_tower(parity):
    fixture = parity("official_image_tower_tiny")
    pixels = fixture.input["pixel_values"][:, None]
    for keep, expected in ((False, "features"), (True, "hidden_states_minus2")):
        tower = ClipTower(TINY, temporal=False, keep_cls=keep)
        tower.load_state_dict(tower_state(fixture.weight, TINY.depth))
        close(tower(pixels)[:, 0], fixture.output[expected], ATOL)


def test_video_tower(parity):
    fixture = parity("official_video_tower_tiny")
    tower = ClipTower(TINY, temporal=True, keep_cls=True)
    tower.load_state_dict(tower_state(fixture.weight, TINY.depth))
    pixels = fixture.input["pixel_values"].transpose(1, 2)  # theirs is B, C, T, H, W
    embedded = tower.embed(pixels)
    close(embedded, fixture.output["embeddings"], ATOL)
    close(tower.layers[0](embedded), fixture.output["after_layer_0"], ATOL)
    close(tower(pixels), fixture.output["features"], ATOL)


def test_frames_choose_the_tower():
    both = ClipVisionTower(TINY)
    assert both(torch.randn(1, 1, 3, 56, 56)).shape == (1, 1, 16, 32)
    assert both(torch.randn(1, 8, 3, 56, 56)).shape == (1, 8, 16, 32)
    with pytest.raises(ValueError, match="8 frames, got 3"):
        both(torch.randn(1, 3, 3, 56, 56))
    image_only = ClipVisionTower(ClipVisionConfig(towers="image", width=32, layers=3, heads=4, mlp=64, image_size=56))
    clip = torch.randn(1, 2, 3, 56, 56)
    close(image_only(clip)[:, 1:], image_only(clip[:, 1:]), 1e-6)  # frames do not see each other


def test_time_matters_only_to_the_temporal_tower():
    torch.manual_seed(0)
    tower = ClipTower(TINY, temporal=True, keep_cls=False)
    clip = torch.randn(1, 8, 3, 56, 56)
    other = clip.clone()
    other[:, 7] = 0
    assert (tower(clip)[:, 0] - tower(other)[:, 0]).abs().max() > 1e-4


def test_foreign_keys_are_refused():
    with pytest.raises(ValueError, match="not an official key"):
        tower_state({"encoder.layers.0.self_attn.qkv.weight": torch.zeros(1)}, 2)
    with pytest.raises(ValueError, match="not an official key"):
        tower_state({"head.weight": torch.zeros(1)}, 2)


def test_official_pixels(parity):
    fixture = parity("official_preprocess")
    frames = fixture.input["image_uint8"].numpy()[None]
    image = pixel_values(frames, 224, "official", video=False)[0]
    video = pixel_values(frames, 224, "official", video=True)[0]
    close(image, fixture.output["image_path"], ATOL)
    close(video, fixture.output["video_path_frame"], ATOL)
    assert (image - video).abs().max() > 0.05  # the release's two paths really differ
    for is_video in (False, True):
        close(pixel_values(frames, 224, "paper", video=is_video)[0], image, 0.0)


def test_frame_indices(parity):
    output = parity("official_preprocess").output
    for name, expected in output.items():
        if name.startswith("frame_indices_"):
            available = int(name.removeprefix("frame_indices_"))
            np.testing.assert_array_equal(frame_indices(available, 8), expected.numpy())


def test_oblong_frames_are_cut_in_the_middle():
    frames = np.zeros((1, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 255
    pixels = pixel_values(frames, 32, "paper", video=False)
    assert pixels.shape == (1, 3, 32, 32)
    assert float(pixels[0, 0, :, 2:-2].min()) > 1.8  # white survives, the black sides are gone
