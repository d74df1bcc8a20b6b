"""Profiles of the official release: its prompts, frames, pixels, crops and missing landmarks, as one setting."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import layouts_world as world
import numpy as np
import pytest
import torch
from model_helpers import byte_tokenizer, close, face_clip, tiny_config
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from facellava import weights
from facellava.analyzer import Analyzer, _source_landmarks
from facellava.errors import UsageError, WeightsUnavailable
from facellava.face import FaceFrontEnd, read_media
from facellava.model.config import ClipVisionConfig, FaceLlavaConfig
from facellava.model.layouts import PROFILES, Options, convert, inspect, load_model, profile_named, release_7b
from facellava.model.layouts.profiles import RELEASED
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.official_keys import model_state
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import VICUNA
from facellava.runtime.torch_engine import TorchEngine
from facellava.types import FaceClip

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions."
)
ASK = "What is the mouth doing?"
TURNS = [ASK, "It smiles.", "How do you know?"]
PLACEHOLDER = 9999


def sized(profile: str) -> Options:
    return Options(changes={"vision": world.VISION, "text": {"max_position_embeddings": 1024}}, profile=profile)


def corner_clip(frames: int) -> FaceClip:
    return dataclasses.replace(face_clip(frames, seed=4), crop="corner")


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def llama_like() -> PreTrainedTokenizerFast:
    """LLaMA's kind of tokenizer: a space before every piece, no word across a space, bytes for what is unknown."""
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    marks = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[AddedToken(m, special=True) for m in marks])
    inner.train_from_iterator([SYSTEM, "USER: ASSISTANT:", *TURNS] * 20, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def released_ids(tokenizer: PreTrainedTokenizerFast, turns: list[str], frames: int, tokens: int) -> list[int]:
    """As the release does: one text with a placeholder a frame, cut there, pieces tokenised, one beginning kept."""
    text = SYSTEM + " USER: " + " ".join(["<image>"] * frames) + "\n" + turns[0] + " ASSISTANT:"
    for answer, question in zip(turns[1::2], turns[2::2], strict=True):
        text += f" {answer}</s>USER: {question} ASSISTANT:"
    pieces = [tokenizer(piece).input_ids for piece in text.split("<image>")]
    ids = pieces[0]
    for piece in pieces[1:]:
        ids = ids + [PLACEHOLDER] * tokens + piece[1:]
    return ids


@pytest.mark.parametrize("turns", [TURNS[:1], TURNS], ids=["question", "talk"])
@pytest.mark.parametrize("frames", [1, 8], ids=["image", "video"])
def test_prompts_are_those_of_the_release(frames, turns):
    tokenizer = llama_like()
    vision = ClipVisionConfig(**world.VISION, video_cls=True)
    config = tiny_config(vision=vision, image_token_id=PLACEHOLDER)
    expected = released_ids(tokenizer, turns, frames, 4 if frames == 1 else 5)
    processor = FaceLlavaProcessor(tokenizer, config, RELEASED)
    ids = processor(face_clip(frames), talk(*turns))["input_ids"][0].tolist()
    assert ids == expected
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    assert ids.count(PLACEHOLDER) == config.num_visual_tokens(frames)
    other = FaceLlavaProcessor(tokenizer, config, VICUNA)(face_clip(frames), talk(*turns))["input_ids"][0].tolist()
    assert other != expected


def test_labels_of_whole_prompts_lie_on_answers_only():
    processor = FaceLlavaProcessor(llama_like(), tiny_config(image_token_id=PLACEHOLDER), RELEASED)
    batch = processor(face_clip(), talk(ASK, "It smiles.", "Sure?", "Yes."), training=True)
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    encode = processor.tokenizer.encode
    answers = [[*encode(text, add_special_tokens=False), 2] for text in ("It smiles.", "Yes.")]
    assert labels[labels != -100].tolist() == answers[0] + answers[1]
    assert torch.equal(labels[labels != -100], ids[labels != -100])


def test_a_report_opens_whole_prompts_too():
    """Prefix and question are read apart by the engines, and together by the processor."""
    processor = FaceLlavaProcessor(llama_like(), tiny_config(image_token_id=PLACEHOLDER), RELEASED)
    plain = processor.render(talk(ASK), 1, False).ids
    told = processor.render(talk(ASK), 1, False, "Age: 30").ids
    tail = len(plain) - plain[::-1].index(PLACEHOLDER)
    stated = processor.tokenizer.encode("\nAge: 30", add_special_tokens=False)
    assert told == plain[:tail] + stated + plain[tail:]


def test_folders_without_the_newer_settings_open(tmp_path):
    processor = FaceLlavaProcessor(byte_tokenizer(), tiny_config(), VICUNA)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    settings = json.loads(path.read_text())
    for name in ("begin", "before_all", "between_frames", "whole"):
        del settings["style"][name]
    del settings["config"]["crop"]
    path.write_text(json.dumps(settings))
    again = FaceLlavaProcessor.from_pretrained(tmp_path)
    assert again.style == VICUNA and again.config.crop == "centred"
    before, after = processor(face_clip(3), talk(*TURNS)), again(face_clip(3), talk(*TURNS))
    assert all(torch.equal(before[name], after[name]) for name in before)


# --- conversion ---


@pytest.mark.parametrize("layout", ["official", "official-masked"])
@pytest.mark.parametrize("profile", ["release", "release-landmarks"])
def test_a_profile_is_written_with_the_checkpoint_and_taken_back_bit_by_bit(profile, layout, tmp_path):
    source = world.checkpoint(tmp_path / "theirs", layout, tokenizer=True)
    report = convert(source, tmp_path / "ours", sized(profile))
    assert report.profile == profile and f"profile: {profile}" in report.text()
    config = FaceLlavaConfig.from_pretrained(tmp_path / "ours")
    kind = {"official": "official_simple", "official-masked": "official_masked"}[layout]
    assert config.fusion.kind == (kind if profile == "release-landmarks" else "none")
    assert config.fusion.uses_landmarks == (profile == "release-landmarks")
    assert (config.crop, config.crop_margin, config.vision.pixels) == ("corner", 0.0, "official")
    assert (config.vision.video_cls, config.vision.image_cls, config.vision.frames) == (True, False, 8)
    assert FaceLlavaProcessor.from_pretrained(tmp_path / "ours").style == RELEASED
    generation = GenerationConfig.from_pretrained(tmp_path / "ours")
    assert (generation.do_sample, generation.temperature, generation.max_new_tokens) == (True, 0.1, 1024)
    model, found = FaceLlavaForConditionalGeneration.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(found[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert hasattr(model, "frgca") == hasattr(model, "frlp") == (profile == "release-landmarks")
    assert model.generation_config.temperature == 0.1
    convert(tmp_path / "ours", tmp_path / "back", to=layout)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "back"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@torch.no_grad()
def test_landmarks_are_all_that_the_two_profiles_differ_in(tmp_path):
    source = world.checkpoint(tmp_path, "official")
    plain, landmarked = (load_model(source, sized(name)).model.eval() for name in ("release", "release-landmarks"))
    style = {profile.name: profile.style for profile in PROFILES}
    assert style["release"] == style["release-landmarks"] == RELEASED
    for frames in (1, 8):
        clip = corner_clip(frames)
        batches = [
            FaceLlavaProcessor(byte_tokenizer(), m.config, RELEASED)(clip, talk(ASK)) for m in (plain, landmarked)
        ]
        assert set(batches[1]) - set(batches[0]) == {"landmarks"}
        assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])
        assert batches[0]["pixel_values"].shape[1] == frames
        pixels = batches[0]["pixel_values"]
        unfused = landmarked.projector(landmarked.vision_tower(pixels)).flatten(1, 2)
        seen = plain.encode_visual(pixel_values=pixels).tokens
        close(seen, unfused, 0.0)
        assert not torch.allclose(landmarked(**batches[1]).logits, plain(**batches[0]).logits)


def test_full_sizes_are_those_of_the_profiles():
    for name, landmarks in (("release", False), ("release-landmarks", True)):
        changes = profile_named(name).over({})
        fusion = {"kind": "official_simple", **changes.get("fusion", {})}
        config, known = tiny_config(vision=changes["vision"], fusion=fusion, crop=changes["crop"]), release_7b()
        known = release_7b(landmarks=landmarks)
        assert (config.vision, config.fusion, config.crop) == (known.vision, known.fusion, known.crop)


def test_settings_over_a_profile(tmp_path):
    source = world.checkpoint(tmp_path / "theirs", "official", tokenizer=True)
    changes = {
        "vision": world.VISION,
        "crop": "centred",
        "fusion": {"kind": "official_simple", "landmarks": "cross_attention"},
    }
    convert(source, tmp_path / "ours", Options(changes=changes, profile="release", style="vicuna"))
    processor = FaceLlavaProcessor.from_pretrained(tmp_path / "ours")
    assert processor.config.crop == "centred" and processor.config.fusion.kind == "official_simple"
    assert processor.style == VICUNA and processor.config.vision.pixels == "official"


def test_what_a_profile_is_not_for(tmp_path):
    source = world.checkpoint(tmp_path / "theirs", "official")
    with pytest.raises(UsageError, match="no profile 'paper'; known: release, release-landmarks"):
        convert(source, tmp_path / "ours", sized("paper"))
    with pytest.raises(UsageError, match="leave it out to write 'official'"):
        convert(source, tmp_path / "ours", sized("release"), to="official")
    other = world.checkpoint(tmp_path / "other", "video-llava")
    with pytest.raises(UsageError, match="for layout official or official-masked, not 'video-llava'"):
        inspect(other, sized("release"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "theirs"]


def test_landmark_tensors_are_reported_and_still_needed_to_write_the_release(tmp_path):
    source = world.checkpoint(tmp_path / "theirs", "official")
    report = convert(source, tmp_path / "ours", sized("release"))
    reason = next(why for why in report.dropped if "landmark modules" in why)
    assert len(report.dropped[reason]) == 9 * 2 + 2 + 4 + 2 + 2
    bare = FaceLlavaForConditionalGeneration.from_pretrained(tmp_path / "ours")
    bare.save_pretrained(tmp_path / "bare")  # without what was kept beside the weights
    with pytest.raises(UsageError, match="no place for"):
        convert(tmp_path / "bare", tmp_path / "back", to="official")


# --- what the release computes, as numbers ---


def released_config(profile: str, **vision: int) -> FaceLlavaConfig:
    changes = profile_named(profile).over({"vision": {**vision, "layers": 1, "select_layer": -1, "heads": 4}})
    fusion = {"kind": "official_simple", **changes.get("fusion", {})}
    text = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4}
    return tiny_config(vision=changes["vision"], fusion=fusion, crop=changes["crop"], text=text)


@torch.no_grad()
def test_without_and_with_landmarks_against_the_releases_numbers(parity):
    fixture = parity("official_encode_path")
    features = {"image": fixture.input["image_tower_features"][:, None], "video": fixture.input["video_tower_features"]}
    points = {"image": fixture.input["image_landmarks"][:, None], "video": fixture.input["video_landmarks"]}
    state = model_state(fixture.weight)
    found = {}
    for profile in ("release", "release-landmarks"):
        model = FaceLlavaForConditionalGeneration(released_config(profile, width=48, mlp=48))
        parts = {key: value for key, value in state.items() if hasattr(model, key.split(".")[0])}
        assert not model.load_state_dict(parts, strict=False).unexpected_keys
        for kind in features:
            given = {"landmarks": points[kind].unflatten(-1, (68, 2))} if profile == "release-landmarks" else {}
            found[profile, kind] = model.eval().encode_visual(vision_features=features[kind], **given).tokens
    close(found["release", "image"][:1], fixture.output["image_no_landmarks_first"], 1e-5)
    close(found["release-landmarks", "image"], fixture.output["image"], 1e-5)
    close(found["release-landmarks", "video"], fixture.output["video"].flatten(1, 2), 1e-5)


def test_pixels_and_frames_against_the_releases_numbers(parity):
    fixture = parity("official_preprocess")
    processor = FaceLlavaProcessor(byte_tokenizer(), released_config("release", width=16, mlp=16), RELEASED)
    picture = fixture.input["image_uint8"].numpy()
    for frames, name in ((1, "image_path"), (8, "video_path_frame")):
        clip = dataclasses.replace(face_clip(frames), frames=np.tile(picture, (frames, 1, 1, 1)), crop="corner")
        pixels = processor(clip, talk(ASK))["pixel_values"][0]
        assert len(pixels) == frames
        for frame in pixels:
            close(frame, fixture.output[name], 1e-5)
    processor = FaceLlavaProcessor(byte_tokenizer(), released_config("release", width=16, mlp=16, image_size=28))
    counts = [int(name.removeprefix("frame_indices_")) for name in fixture.output if name.startswith("frame_indices_")]
    for count in sorted(count for count in counts if count > 1)[:4]:
        clip, chosen = corner_clip(count), fixture.output[f"frame_indices_{count}"].long().numpy()
        exact = dataclasses.replace(corner_clip(8), frames=clip.frames[chosen])
        assert torch.equal(processor(clip, talk(ASK))["pixel_values"], processor(exact, talk(ASK))["pixel_values"])


# --- the whole way ---


def require_face_networks() -> None:
    try:
        for name in ("blazeface-short-range", "blazeface-full-range", "face-mesh", "face-blendshapes"):
            weights.resolve(name, offline=True)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face front end: run `facellava weights pull` first ({error})")


@pytest.mark.parametrize("profile", ["release", "release-landmarks"])
@pytest.mark.parametrize("frames", [1, 8, 11])
def test_the_engine_reads_what_the_processor_writes(profile, frames, tmp_path):
    """Prefix once and questions after it, against ``generate`` on the whole prompt."""
    convert(world.checkpoint(tmp_path / "theirs", "official", tokenizer=True), tmp_path / "ours", sized(profile))
    engine, clip = TorchEngine(tmp_path / "ours", Path), corner_clip(frames)
    assert engine.crop == "corner"
    history = [(ASK, "It smiles.")]
    ours = list(engine.ask(engine.look(clip), TURNS[2], history=history, max_new_tokens=8, ignore_stop=True))
    batch = engine._processor(clip, talk(*TURNS))
    with torch.no_grad():
        read = engine._asked(engine.look(clip), TURNS[2], history).logits
        whole = engine._model(**batch).logits[0, -1].numpy()
    np.testing.assert_allclose(read, whole, atol=1e-4)
    out = engine._model.generate(**batch, max_new_tokens=8, do_sample=False)
    assert "".join(ours) == engine.decode(out[0, batch["input_ids"].shape[1] :].tolist()).rstrip("�")


def test_a_real_face_is_cropped_as_the_profile_says(tmp_path):
    """Analyzer and pipeline cut the corner; landmarks come back to the same places of the picture."""
    require_face_networks()
    astronaut = pytest.importorskip("skimage.data").astronaut()
    convert(world.checkpoint(tmp_path / "theirs", "official", tokenizer=True), tmp_path / "ours", sized("release"))
    model = Analyzer(TorchEngine(tmp_path / "ours", Path), weights.resolve)
    _, (clip,) = model.clips(astronaut)
    (usual,) = FaceFrontEnd(weights.resolve).clips(read_media(astronaut))
    assert (clip.crop, usual.crop) == ("corner", "centred")
    places = _source_landmarks(clip, 0)
    np.testing.assert_allclose(places, _source_landmarks(usual, 0), atol=0.01)
    x0, y0, x1, y1 = clip.boxes[0]
    np.testing.assert_allclose(clip.landmarks[0], (places - [x0, y0]) / ((x1 - x0 + y1 - y0) / 2), atol=0.02)
    asked = FaceLlavaProcessor.from_pretrained(tmp_path / "ours")(clip, talk(ASK))
    with torch.no_grad():
        expected = model.engine._model(**asked).logits[0, -1].numpy()
    np.testing.assert_allclose(model.engine._asked(model.engine.look(clip), ASK).logits, expected, atol=1e-4)
    processor = FaceLlavaProcessor.from_pretrained(tmp_path / "ours")
    found, expected = processor(images=astronaut, text=ASK), processor(clip, talk(ASK))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(UsageError, match="the crop is centred, the model expects corner ones"):
        processor(usual, talk(ASK))
