"""The processor: what training and answering read is the same, and labels lie on answers only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_helpers import (
    EXPERT_GRID,
    EXPERT_VISION,
    EXPERT_WIDTH,
    byte_tokenizer,
    face_clip,
    tiny_config,
)
from transformers import AutoProcessor

import facellava.model
from facellava.errors import FileMissing, UsageError
from facellava.model.config import TABLE_6, ClipVisionConfig
from facellava.model.expert_report import ExpertHead
from facellava.model.frames import frame_indices
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.preprocess import pixel_values
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import VICUNA
from facellava.runtime.report import head_spec

ASK = {"role": "user", "content": "Happy?"}
ANSWER = {"role": "assistant", "content": "Yes."}


class MeanEncoder:
    """A small real encoder: means of pixel blocks, and of points and blendshapes."""

    def encode(self, frames, landmarks, blendshapes):
        t = len(frames)
        maps = frames.reshape(t, -1)[:, : EXPERT_GRID**2 * EXPERT_WIDTH].reshape(t, EXPERT_GRID**2, EXPERT_WIDTH)
        values = np.stack([landmarks.mean((1, 2)), blendshapes.mean(1)], axis=1)
        return maps.astype(np.float32), values.astype(np.float32)


def processor(**parts) -> FaceLlavaProcessor:
    return FaceLlavaProcessor(byte_tokenizer(), tiny_config(**parts))


def test_a_question_reads_as_chatml_with_one_placeholder_a_visual_token():
    p = processor()
    batch = p(face_clip(), [ASK])
    ids, mark = batch["input_ids"][0], p.config.image_token_id
    assert set(batch) == {"input_ids", "attention_mask", "pixel_values", "landmarks"}
    assert int((ids == mark).sum()) == p.config.num_visual_tokens(1) == 9
    text = p.tokenizer.decode(ids[ids != mark])
    assert text == "<|im_start|>user\n\nHappy?<|im_end|>\n<|im_start|>assistant\n"
    assert batch["pixel_values"].shape == (1, 1, 3, 12, 12)
    np.testing.assert_array_equal(batch["landmarks"][0].numpy(), face_clip().landmarks)


def test_labels_lie_on_answers_only_in_every_turn():
    p = processor()
    batch = p(face_clip(), [ASK, ANSWER, {"role": "user", "content": "Sure?"}, {**ANSWER, "content": "Very."}],
              training=True)  # fmt: skip
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    learned = labels != -100
    assert torch.equal(labels[learned], ids[learned])
    assert p.tokenizer.decode(ids[learned]) == "Yes.<|im_end|>\nVery.<|im_end|>\n"


def test_training_continues_the_prompt_that_answering_uses():
    p = processor()
    asked, trained = p(face_clip(), [ASK])["input_ids"][0], p(face_clip(), [ASK, ANSWER], training=True)
    assert torch.equal(trained["input_ids"][0, : len(asked)], asked)
    assert bool((trained["labels"][0, : len(asked)] == -100).all())
    assert int(trained["labels"][0, len(asked)]) != -100


@pytest.mark.parametrize(
    ("training", "side", "padded_left"),
    [(True, None, False), (False, None, True), (True, "left", True), (False, "right", False)],
)
def test_padding(training, side, padded_left):
    p = processor()
    tail = [ANSWER] if training else []
    longer = [{"role": "user", "content": "Is this person happy?"}, *tail]
    batch = p([face_clip(seed=1), face_clip(seed=2)], [[ASK, *tail], longer], training=training, padding_side=side)
    mask = batch["attention_mask"]
    assert mask[1].all()
    short = mask[0].bool()
    assert bool(short[0]) != padded_left
    assert bool(short[-1]) == padded_left
    alone = p(face_clip(seed=1), [ASK, *tail], training=training)
    assert torch.equal(batch["input_ids"][0, short], alone["input_ids"][0])
    assert p.config.image_token_id not in batch["input_ids"][0, ~short]
    if training:
        assert bool((batch["labels"][0, ~short] == -100).all())
    assert torch.equal(batch["pixel_values"][:1], alone["pixel_values"])


def test_pad_id_is_never_the_placeholder():
    tokenizer = byte_tokenizer()
    p = FaceLlavaProcessor(tokenizer, tiny_config(image_token_id=tokenizer.pad_token_id))
    batch = p([face_clip(), face_clip()], [[ASK], [{"role": "user", "content": "Longer question?"}]])
    assert (batch["input_ids"] == tokenizer.pad_token_id).sum(1).tolist()[0] >= 9
    padded = batch["attention_mask"] == 0
    assert not (batch["input_ids"][padded] == p.config.image_token_id).any()


def test_long_clips_are_sampled_evenly():
    clip = face_clip(11)
    p = processor(vision=ClipVisionConfig(width=16, layers=2, heads=2, mlp=32, patch=4, image_size=12))
    batch = p(clip, [ASK])
    chosen = frame_indices(11, 8)
    assert chosen.tolist() == [0, 1, 2, 4, 5, 7, 8, 10]
    assert batch["pixel_values"].shape[1] == 8
    np.testing.assert_array_equal(batch["landmarks"][0].numpy(), clip.landmarks[chosen])
    assert int((batch["input_ids"] == p.config.image_token_id).sum()) == 8 * 9


def test_official_pixels_differ_for_videos_only():
    sizes = {"width": 16, "layers": 2, "heads": 2, "mlp": 32, "patch": 4, "image_size": 12, "frames": 3}
    paper, official = (processor(vision=ClipVisionConfig(**sizes, pixels=kind)) for kind in ("paper", "official"))
    image, video = face_clip(1), face_clip(3)
    assert torch.equal(paper(image, [ASK])["pixel_values"], official(image, [ASK])["pixel_values"])
    theirs = official(video, [ASK])["pixel_values"][0]
    assert torch.equal(theirs, pixel_values(video.frames, 12, "official", video=True))
    assert not torch.equal(theirs, paper(video, [ASK])["pixel_values"][0])


def test_baseline_reads_no_landmarks():
    assert "landmarks" not in processor(fusion=TABLE_6["baseline"])(face_clip(), [ASK])


def test_experts_feed_the_model():
    config = tiny_config(vision=EXPERT_VISION)
    p = FaceLlavaProcessor(byte_tokenizer(), config, encoder=MeanEncoder())
    clips = [face_clip(5, seed=1), face_clip(7, seed=2)]
    batch = p(clips, [[ASK, ANSWER], [ASK, ANSWER]], training=True)
    assert batch["vision_features"].shape == (2, 3, EXPERT_GRID**2, EXPERT_WIDTH)
    assert not {"pixel_values", "expert_values"} & batch.keys()
    assert torch.isfinite(FaceLlavaForConditionalGeneration(config)(**batch).loss)
    with pytest.raises(UsageError, match="encoder="):
        processor(vision=EXPERT_VISION)(face_clip(), [ASK])


def test_what_the_experts_find_opens_the_conversation(tmp_path):
    config = tiny_config(vision=EXPERT_VISION)
    spec = head_spec({"age", "AU12"})
    sizes = {"patches": (2, EXPERT_WIDTH), "regions": (1, EXPERT_WIDTH), "hidden": (3, 2 + 2 * EXPERT_GRID**2 + 9)}
    sizes |= {"out": (101, 3), "skip": (101, 2)}
    arrays = {
        f"{kind}_{of}": np.full(n, of == "std", np.float32)
        for kind, n in (("map", EXPERT_WIDTH), ("value", 2))
        for of in ("mean", "std")
    }
    for name, size in sizes.items():
        arrays |= {
            f"heads.0.{name}.weight": np.zeros(size, np.float32),
            f"heads.0.{name}.bias": np.zeros(size[0], np.float32),
        }
    arrays["heads.0.skip.bias"][[30, 100]] = 50, 1
    p = FaceLlavaProcessor(byte_tokenizer(), config, encoder=MeanEncoder(), head=ExpertHead(spec, arrays))
    text = p.decode(p(face_clip(), [ASK])["input_ids"][0])
    assert "Age: 30\nAction units: AU12\nHappy?" in text
    labels = p(face_clip(), [ASK, ANSWER], training=True)["labels"][0]
    assert p.decode(labels[labels >= 0]) == "Yes.\n"
    p.save_pretrained(tmp_path)
    again = FaceLlavaProcessor.from_pretrained(tmp_path, MeanEncoder())
    assert again.look(face_clip()).report == "Age: 30\nAction units: AU12"
    assert again.head.spec == spec
    blind = FaceLlavaProcessor(byte_tokenizer(), config, encoder=MeanEncoder())
    assert "Age" not in blind.decode(blind(face_clip(), [ASK])["input_ids"][0])


def test_model_answers_what_the_processor_made():
    p = processor()
    model = FaceLlavaForConditionalGeneration(p.config).eval()
    batch = p([face_clip(3, seed=1), face_clip(3, seed=2)], [[ASK], [{"role": "user", "content": "Age?"}]])
    out = model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert out.shape == (2, batch["input_ids"].shape[1] + 3)
    assert len(p.batch_decode(out[:, -3:])) == 2


def test_structured_content_and_style():
    parts = [{"type": "image"}, {"type": "text", "text": "Happy?"}]
    p = processor()
    plain, structured = p(face_clip(), [ASK]), p(face_clip(), [{"role": "user", "content": parts}])
    assert torch.equal(plain["input_ids"], structured["input_ids"])
    vicuna = FaceLlavaProcessor(byte_tokenizer(), tiny_config(), style=VICUNA)
    ids = vicuna(face_clip(), [ASK])["input_ids"][0]
    assert vicuna.decode(ids[ids != vicuna.config.image_token_id]) == "USER: \nHappy? ASSISTANT: "


@pytest.mark.parametrize(
    ("clips", "messages", "options", "message"),
    [
        ([face_clip()], [[ASK], [ASK]], {}, "1 clips for 2 conversations"),
        ([], [], {}, "0 clips"),
        ([face_clip(1), face_clip(3)], [[ASK], [ASK]], {}, "clips of 1 and 3 frames"),
        (face_clip(), [ANSWER], {}, "user first; got assistant"),
        (face_clip(), [{"role": "system", "content": "x"}], {}, "got system"),
        (face_clip(), [ASK], {"training": True}, "end with an assistant's answer"),
        (face_clip(), [ASK, ANSWER], {}, "others with a user's question"),
        (face_clip(margin=0.3), [ASK], {}, "margin 0.3, the model expects 0"),
        (face_clip(), [ASK], {"padding_side": "up"}, "choose left or right"),
    ],
)
def test_mistakes_are_usage_errors(clips, messages, options, message):
    with pytest.raises(UsageError, match=message):
        processor()(clips, messages, **options)


def test_save_and_load(tmp_path):
    facellava.model.register()
    p = FaceLlavaProcessor(byte_tokenizer(), tiny_config(crop_margin=0.25), style=VICUNA)
    p.save_pretrained(tmp_path)
    clip = face_clip(margin=0.25)
    for loaded in (FaceLlavaProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is FaceLlavaProcessor
        before, after = p(clip, [ASK]), loaded(clip, [ASK])
        assert set(before) == set(after)
        assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(FileMissing, match=r"no processor_config\.json"):
        FaceLlavaProcessor.from_pretrained(tmp_path / "elsewhere")
