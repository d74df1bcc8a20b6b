"""What a request's pictures become, and the face's path without its language model."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import served
import torch
from model_helpers import EXPERT_VISION, TINY_VISION, close, face_clip, tiny_config, visual_inputs
from PIL import Image

from facellava.errors import NoFace, UsageError
from facellava.model.config import TABLE_6, FaceLlavaConfig
from facellava.model.layouts import paper_7b, release_7b
from facellava.model.layouts.plan import on_meta
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.types import FaceClip
from facellava.vllm_plugin.inputs import (
    FaceItems,
    field_modalities,
    frames_of,
    given_clip,
    input_names,
    placeholder_inputs,
)
from facellava.vllm_plugin.visual import VisualEncoder, encode_items, served_name


class Faces:
    """A face in everything but black pictures; refuses two threads at a time, as the front end would break."""

    def __init__(self) -> None:
        self.busy = threading.Lock()

    def __call__(self, source: object, /) -> FaceClip:
        assert self.busy.acquire(blocking=False), "two threads at once"
        pixels = np.asarray(source)
        if not pixels.any():
            raise NoFace("no face was found")
        clip = face_clip(1 if pixels.ndim == 3 else len(pixels), seed=int(pixels.flat[0]))
        self.busy.release()
        return clip


def processor(tmp_path: Path, **parts: object) -> FaceLlavaProcessor:
    return FaceLlavaProcessor.from_pretrained(served.folder(tmp_path / "folder", **parts))


def test_fields_by_hand() -> None:
    paper = {"pixel_values": "image", "landmarks": "image", "pixel_values_videos": "video", "landmarks_videos": "video"}
    assert field_modalities(paper_7b()) == field_modalities(release_7b()) == paper
    assert field_modalities(tiny_config(fusion=TABLE_6["baseline"])) == {
        "pixel_values": "image",
        "pixel_values_videos": "video",
    }
    assert set(field_modalities(tiny_config(fusion=TABLE_6["simple_face_parsing"]))) == {
        "pixel_values", "parsing_values", "pixel_values_videos", "parsing_values_videos",
    }  # fmt: skip
    assert (frames_of(paper_7b(), "image"), frames_of(paper_7b(), "video")) == (1, 8)
    with pytest.raises(UsageError, match="looks through face experts"):
        input_names(tiny_config(vision=EXPERT_VISION))


def test_items_are_what_the_processor_sees(tmp_path: Path) -> None:
    own = processor(tmp_path)
    items = FaceItems(own, Faces())
    picture, video = np.full((40, 30, 3), 5, np.uint8), np.full((4, 40, 30, 3), 6, np.uint8)
    found = items([Image.fromarray(picture), picture], [video])
    assert found.keys() == field_modalities(own.config).keys()
    for name, clip in (("", face_clip(1, seed=5)), ("_videos", face_clip(4, seed=6))):
        seen = own.look(clip).inputs
        for field, value in seen.items():
            assert torch.equal(found[field + name][0], value), field
    assert [len(found[name]) for name in ("pixel_values", "landmarks", "pixel_values_videos")] == [2, 2, 1]
    assert found["pixel_values"][0].shape == (1, 3, 12, 12) and found["landmarks"][0].shape == (1, 68, 2)
    assert found["pixel_values_videos"][0].shape == (3, 3, 12, 12)
    with pytest.raises(NoFace):
        FaceItems(own, Faces())([np.zeros((9, 9, 3), np.uint8)], [])


def test_the_front_end_serves_one_thread_at_a_time(tmp_path: Path) -> None:
    items, failed = FaceItems(processor(tmp_path), Faces()), []

    def ask() -> None:
        try:
            for _ in range(20):
                items([np.ones((8, 8, 3), np.uint8)], [])
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_landmarks_of_crops_are_taken_as_they_are(tmp_path: Path) -> None:
    """Nothing is looked for, and the tensors are those of the same clip cropped here."""
    own = processor(tmp_path)
    image, video = face_clip(1, seed=3), face_clip(5, seed=4)
    points = {"image": image.landmarks[0].tolist(), "video": video.landmarks.tolist()}

    def nobody(source: object, /) -> FaceClip:
        raise AssertionError("looked for a face")

    found = FaceItems(own, nobody)([Image.fromarray(image.frames[0])], [video.frames], points)
    for suffix, clip in (("", image), ("_videos", video)):
        for field, value in own.look(clip).inputs.items():
            assert torch.equal(found[field + suffix][0], value)


@pytest.mark.parametrize(
    ("pixels", "points", "words"),
    [
        (np.zeros((255, 256, 3), np.uint8), np.zeros((68, 2)), "give crops of 256 x 256"),
        (np.zeros((256, 256, 3), np.float32), np.zeros((68, 2)), "give crops of 256 x 256"),
        (np.zeros((256, 256, 3), np.uint8), np.zeros((67, 2)), r"shape \(1, 67, 2\); 1 crops need \(1, 68, 2\)"),
        (np.zeros((2, 256, 256, 3), np.uint8), np.zeros((68, 2)), r"2 crops need \(2, 68, 2\)"),
        (np.zeros((256, 256, 3), np.uint8), np.full((68, 2), np.nan), "landmarks have shape"),
        (np.zeros((256, 256, 3), np.uint8), [[1, 2], [3]], "no table of numbers"),
    ],
)
def test_landmarks_that_do_not_fit_are_told(pixels: np.ndarray, points: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        given_clip(pixels, points, tiny_config())


def test_the_largest_request_is_seen_without_a_face(tmp_path: Path) -> None:
    own = processor(tmp_path)
    made = {name: placeholder_inputs(own.config, name) for name in ("image", "video")}
    found = FaceItems(own)([made["image"][0]], [made["video"][0]], {name: points for name, (_, points) in made.items()})
    assert found["pixel_values_videos"][0].shape[0] == own.config.vision.frames


@pytest.mark.parametrize("name", ["frgca_frlp", "simple_local", "append_frlp", "baseline", "simple_face_parsing"])
def test_the_encoder_sees_what_the_model_sees(name: str) -> None:
    config = tiny_config(vision=TINY_VISION, fusion=TABLE_6[name])
    torch.manual_seed(1)
    model = FaceLlavaForConditionalGeneration(config).eval()
    encoder = VisualEncoder(config).eval()
    renamed = {served_name(key): value for key, value in model.state_dict().items()}
    encoder.load_state_dict(
        {key.removeprefix("visual."): value for key, value in renamed.items() if key.startswith("visual.")}
    )
    one, other, video = (visual_inputs(config, frames, seed=frames) for frames in (1, 1, 3))
    other = visual_inputs(config, 1, seed=9)
    fields = {f"{key}_videos": value for key, value in video.items()}
    fields |= {key: torch.cat([one[key], other[key]]) for key in one}
    found = encode_items(encoder, fields)
    expected = [model.encode_visual(**inputs).tokens[0] for inputs in (video, one, other)]
    assert len(found) == 3
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, 1e-5)


def test_items_of_several_lengths_come_as_lists() -> None:
    config = tiny_config(vision=TINY_VISION.__class__(**{**vars(TINY_VISION), "temporal": False}))
    torch.manual_seed(1)
    encoder = VisualEncoder(config).eval()
    clips = [visual_inputs(config, frames, seed=frames) for frames in (2, 3)]
    fields = {f"{key}_videos": [clip[key][0] for clip in clips] for key in clips[0]}
    found = encode_items(encoder, {**fields, "something_else": 1})
    assert [len(tokens) for tokens in found] == [18, 27]
    for tokens, clip in zip(found, clips, strict=True):
        close(tokens, encoder.encode_visual(**clip).tokens[0], 1e-5)
    assert encode_items(encoder, {}) == ()


def names(config: FaceLlavaConfig) -> tuple[set[str], set[str]]:
    """Of all tensors of a model, and of the encoder's."""
    with torch.device("meta"):
        encoder = VisualEncoder(config)
    return set(on_meta(config).state_dict()), set(encoder.state_dict())


@pytest.mark.parametrize("make", [paper_7b, release_7b])
def test_every_tensor_of_a_7b_has_its_place(make: object) -> None:
    """Visual ones are the encoder's, all of them; the others are called as vLLM's LLaMA calls its own."""
    whole, visual = names(make())  # pyright: ignore[reportCallIssue]
    mapped = {served_name(name) for name in whole}
    assert len(mapped) == len(whole)
    assert {name.removeprefix("visual.") for name in mapped if name.startswith("visual.")} == visual
    words = {name.removeprefix("language_model.") for name in mapped if not name.startswith("visual.")}
    parts = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    parts += ["input_layernorm", "post_attention_layernorm"]
    expected = {f"model.layers.{i}.{part}.weight" for i in range(32) for part in parts}
    assert words == expected | {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
