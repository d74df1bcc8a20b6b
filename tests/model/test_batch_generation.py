"""A left-padded batch of conversations of different lengths is answered as each conversation alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_helpers import (
    EXPERT_GRID,
    EXPERT_VISION,
    EXPERT_WIDTH,
    TINY_VISION,
    byte_tokenizer,
    close,
    face_clip,
    tiny_config,
)

from facellava.model.config import TABLE_6, FusionConfig
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import PromptStyle

NEW = 10
TALKS = [
    ["Happy?"],
    ["How old is this person, and what do the eyes say about it?"],
    ["Happy?", "Yes.", "What do you see that tells you so?"],
    ["Is it a photograph?", "It is.", "Sure?"],
]
TOWERS = dataclasses.replace(TINY_VISION, video_cls=True)
WHOLE = PromptStyle(begin="^", before_all="Be kind. ", between_frames=" ", whole=True)


class BlockEncoder:
    """A small real encoder: pixels as maps."""

    def encode(self, frames, landmarks, blendshapes):
        size = EXPERT_GRID**2 * EXPERT_WIDTH
        maps = frames.reshape(len(frames), -1)[:, :size].reshape(len(frames), EXPERT_GRID**2, EXPERT_WIDTH)
        return maps.astype(np.float32) / 255, np.zeros((len(frames), 2), np.float32)


def world(style: PromptStyle = WHOLE, **parts) -> tuple[FaceLlavaForConditionalGeneration, FaceLlavaProcessor]:
    torch.manual_seed(3)
    config = tiny_config(text={"tie_word_embeddings": False}, **parts)
    model = FaceLlavaForConditionalGeneration(config).eval()
    with torch.no_grad():  # a fresh model's answers hardly depend on anything
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    encoder = BlockEncoder() if config.vision.kind == "experts" else None
    return model, FaceLlavaProcessor(byte_tokenizer(), config, style, encoder)


def messages(talk: list[str]) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]


def greedy(model, batch, **options) -> torch.Tensor:
    out = model.generate(**batch, max_new_tokens=NEW, do_sample=False, **options)
    return out[:, batch["input_ids"].shape[1] :]


CONFIGURATIONS = {
    "image-and-video-towers": {"vision": TOWERS},
    "official": {"vision": TOWERS, "fusion": FusionConfig(kind="official_simple")},
    "appended": {"fusion": TABLE_6["append_frlp"]},
    "no-landmarks": {"vision": TOWERS, "fusion": TABLE_6["baseline"]},
    "experts": {"vision": EXPERT_VISION},
    "pooled": {"vision": EXPERT_VISION, "pool_frames": True},
}


@pytest.mark.parametrize("frames", [1, 3], ids=["images", "videos"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_padded_batch_is_answered_as_each_alone(name, frames):
    model, processor = world(**CONFIGURATIONS[name])
    clips = [face_clip(frames, seed=i) for i in range(len(TALKS))]
    talks = [messages(talk) for talk in TALKS]
    batch = processor(clips, talks)
    lengths = batch["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) == len(TALKS) and batch["attention_mask"][:, -1].all()
    together = greedy(model, batch)
    alone = [greedy(model, processor(clip, talk))[0] for clip, talk in zip(clips, talks, strict=True)]
    assert together.tolist() == [row.tolist() for row in alone]
    assert len({tuple(row.tolist()) for row in alone}) > 1  # or the comparison would say nothing
    assert together.tolist() == greedy(model, batch, use_cache=False).tolist()


@torch.no_grad()
def test_padding_does_not_reach_the_logits():
    model, processor = world()
    clips, talks = [face_clip(3, seed=i) for i in range(2)], [messages(talk) for talk in TALKS[:2]]
    batch = processor(clips, talks)
    inputs = model.prepare_inputs_for_generation(**batch, is_first_iteration=True)
    logits = model(**inputs).logits[:, -1]
    for i in range(2):
        close(logits[i], model(**processor(clips[i], talks[i])).logits[0, -1], 1e-4)
    garbage = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 77)
    close(model(**{**inputs, "input_ids": garbage}).logits[:, -1], logits, 1e-5)


def test_rows_that_end_early_do_not_disturb_the_others():
    model, processor = world()
    clips, talks = [face_clip(seed=i) for i in range(4)], [messages(talk) for talk in TALKS]
    alone = [greedy(model, processor(clip, talk))[0].tolist() for clip, talk in zip(clips, talks, strict=True)]
    stop = next(i for i in alone[0][1:-1] if not all(i in row for row in alone))
    together = greedy(model, processor(clips, talks), eos_token_id=stop, pad_token_id=5)
    for row, whole in zip(together.tolist(), alone, strict=True):
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        assert row == whole[:end] + [5] * (len(whole) - end)
