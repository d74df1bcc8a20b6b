"""transformers' own pipeline and Auto classes drive the model, by the same path as clips."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_helpers import EXPERT_VISION, byte_tokenizer, face_clip, tiny_config
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

import facellava.model
from facellava import weights
from facellava.errors import FacellavaError, NoFace, UsageError, WeightsUnavailable
from facellava.face import FaceFrontEnd, read_media
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import VICUNA, PromptStyle
from facellava.types import FaceClip

MARGIN = 0.3
ASK = "Is this person happy?"
FRONT_END = ("blazeface-short-range", "blazeface-full-range", "face-mesh", "face-blendshapes")


@pytest.fixture(scope="module")
def front_end() -> None:
    try:
        for name in FRONT_END:
            weights.resolve(name, offline=True)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face front end: run `facellava weights pull` first ({error})")


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(pytest.importorskip("skimage.data").astronaut())


@pytest.fixture(scope="module")
def two_faces(astronaut: Image.Image) -> Image.Image:
    """The same face at two thirds of its size on the left, and as it is on the right."""
    picture = Image.new("RGB", (900, 512), (90, 90, 90))
    picture.paste(astronaut.resize((341, 341)), (20, 100))
    picture.paste(astronaut, (388, 0))
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny model whose answers depend on what it sees."""
    facellava.model.register()
    path = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    config = tiny_config(crop_margin=MARGIN)
    model = FaceLlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    model.save_pretrained(path)
    FaceLlavaProcessor(byte_tokenizer(), config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> FaceLlavaForConditionalGeneration:
    return AutoModelForImageTextToText.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def processor(folder: Path, front_end: None) -> FaceLlavaProcessor:
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def pipe(folder: Path, front_end: None) -> Any:
    return pipeline("image-text-to-text", model=str(folder), device="cpu")


def clip_of(picture: Image.Image | np.ndarray, margin: float = MARGIN) -> FaceClip:
    """The largest face, found without any of the code that is tested here."""
    clips = FaceFrontEnd(weights.resolve, margin=margin).clips(read_media(np.asarray(picture)))
    return max(clips, key=lambda clip: float(np.prod(clip.boxes[0, 2:] - clip.boxes[0, :2])))


def chat(picture: Any, question: str = ASK, kind: str = "image") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind, kind: picture}, {"type": "text", "text": question}]}]


def same(one: Any, other: Any) -> None:
    assert set(one) == set(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def answer(model: Any, processor: FaceLlavaProcessor, clip: FaceClip, question: str = ASK, new: int = 8) -> str:
    """By clips and ``generate`` alone."""
    batch = processor(clip, [{"role": "user", "content": question}])
    out = model.generate(**batch, max_new_tokens=new, do_sample=False)
    return processor.decode(out[0, batch["input_ids"].shape[1] :])


# --- the pipeline ---


def test_the_pipeline_answers_chats_and_pairs_as_clips_do(pipe, model, processor, astronaut):
    expected = answer(model, processor, clip_of(astronaut))
    assert len(set(expected)) > 1
    (record,) = pipe(text=chat(astronaut), max_new_tokens=8)
    assert record["generated_text"][:-1] == chat(astronaut)
    assert record["generated_text"][-1] == {"role": "assistant", "content": expected}
    (record,) = pipe(images=astronaut, text=ASK, max_new_tokens=8, return_full_text=False)
    assert record["generated_text"] == expected
    (record,) = pipe(astronaut, text=ASK, max_new_tokens=8)
    assert record["generated_text"] == ASK + expected


def test_the_model_and_processor_in_memory(model, processor, astronaut):
    pipe = pipeline("image-text-to-text", model=model, processor=processor, device="cpu")
    (record,) = pipe(text=chat(astronaut), max_new_tokens=8, return_full_text=False)
    assert record["generated_text"] == answer(model, processor, clip_of(astronaut))


def test_the_pipeline_does_not_call_the_model_unsupported(folder, front_end, monkeypatch):
    from transformers.pipelines import base

    said: list[str] = []
    monkeypatch.setattr(base.logger, "error", said.append)
    pipeline("image-text-to-text", model=str(folder), device="cpu")
    assert not said


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_pipeline_batches_questions_of_different_lengths(pipe, model, processor, astronaut, two_faces, batch_size):
    long = "What do the mouth and the eyes of this person say about the mood?"
    chats = [chat(astronaut, "Happy?"), chat(two_faces, long)]
    records = pipe(text=chats, max_new_tokens=8, return_full_text=False, batch_size=batch_size)
    expected = [answer(model, processor, clip_of(astronaut), "Happy?")]
    expected.append(answer(model, processor, clip_of(two_faces), long))
    assert [record["generated_text"] for (record,) in records] == expected
    together = pipe(images=[astronaut, two_faces], text=["Happy?", long], max_new_tokens=8, return_full_text=False)
    assert [record["generated_text"] for record in together] == expected


def test_the_pipeline_goes_on_with_an_answer_that_has_begun(pipe, model, processor, astronaut):
    begun = [*chat(astronaut), {"role": "assistant", "content": "Yes, "}]
    (record,) = pipe(text=begun, max_new_tokens=6)
    batch = processor(clip_of(astronaut), [{"role": "user", "content": ASK}])
    start = torch.tensor([processor.tokenizer.encode("Yes, ", add_special_tokens=False)])
    batch["input_ids"] = torch.cat([batch["input_ids"], start], 1)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    out = model.generate(**batch, max_new_tokens=6, do_sample=False)
    rest = processor.decode(out[0, batch["input_ids"].shape[1] :])
    assert record["generated_text"][-1] == {"role": "assistant", "content": "Yes, " + rest}


def test_the_pipeline_asks_about_the_face_that_was_continued_over_several_turns(pipe, model, processor, astronaut):
    told = [*chat(astronaut), {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Very?"}]
    (record,) = pipe(text=told, max_new_tokens=6, return_full_text=False)
    plain = [{"role": "user", "content": ASK}, *told[1:]]
    batch = processor(clip_of(astronaut), plain)
    out = model.generate(**batch, max_new_tokens=6, do_sample=False)
    assert record["generated_text"] == processor.decode(out[0, batch["input_ids"].shape[1] :])


def test_what_the_pipeline_saves_opens_again(pipe, astronaut, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = pipeline("image-text-to-text", model=str(tmp_path), device="cpu")
    asked = {"text": chat(astronaut), "max_new_tokens": 4}
    assert again(**asked) == pipe(**asked)


def test_a_picture_without_a_face_is_our_error(pipe, processor):
    grey = Image.new("RGB", (320, 240), (128, 128, 128))
    with pytest.raises(NoFace, match="no face was found"):
        pipe(text=chat(grey))
    with pytest.raises(NoFace, match="no face was found"):
        pipe(images=grey, text=ASK)
    with pytest.raises(UsageError, match="0 pictures or videos"):
        pipe(text="What is a face?")


# --- the processor ---


def test_every_form_of_a_picture_becomes_the_clip_of_its_largest_face(processor, two_faces, tmp_path):
    expected = processor(clip_of(two_faces), [{"role": "user", "content": ASK}])
    path = tmp_path / "picture.png"
    two_faces.save(path)
    text = base64.b64encode(path.read_bytes()).decode()
    parts = [
        {"type": "image", "image": two_faces},
        {"type": "image", "image": np.asarray(two_faces)},
        {"type": "image", "path": str(path)},
        {"type": "image", "url": str(path)},
        {"type": "image", "image": path},
        {"type": "image", "base64": text},
        {"type": "image", "url": f"data:image/png;base64,{text}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}},
        {"type": "image", "image": clip_of(two_faces)},
    ]
    for part in parts:
        talk = [{"role": "user", "content": [part, {"type": "text", "text": ASK}]}]
        same(processor.apply_chat_template(talk, tokenize=True, return_dict=True, return_tensors="pt"), expected)
    for picture in (two_faces, np.asarray(two_faces), path, str(path), path.read_bytes(), [two_faces], [[two_faces]]):
        same(processor(images=picture, text=ASK, return_tensors="pt"), expected)
    marked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ASK}]}]
    same(processor(images=two_faces, messages=marked), expected)
    smaller = clip_of(two_faces.crop((0, 0, 380, 512)))
    other = processor(smaller, [{"role": "user", "content": ASK}])
    assert not torch.equal(other["pixel_values"], expected["pixel_values"])


def test_pictures_are_turned_upright(processor, astronaut):
    sideways = astronaut.transpose(Image.Transpose.ROTATE_90)
    sideways.getexif()[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    buffer = io.BytesIO()
    sideways.save(buffer, "PNG", exif=sideways.getexif())
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    expected = processor(clip_of(astronaut), [{"role": "user", "content": ASK}])
    same(processor(images=opened, text=ASK), expected)
    same(processor(images=buffer.getvalue(), text=ASK), expected)


def test_videos_as_arrays_and_as_lists_of_frames(processor, astronaut):
    frames = [np.roll(np.asarray(astronaut), 4 * i, axis=1) for i in range(4)]
    expected = processor(clip_of(np.stack(frames)), [{"role": "user", "content": ASK}])
    assert expected["pixel_values"].shape[1] == 3  # the tiny model's frames
    pictures = [Image.fromarray(frame) for frame in frames]
    for video in (np.stack(frames), frames, pictures):
        talk = chat(video, kind="video")
        same(processor.apply_chat_template(talk, tokenize=True, return_dict=True), expected)
        same(processor(videos=video, text=ASK), expected)
    same(processor(videos=[np.stack(frames)], text=[ASK]), expected)
    both = processor(videos=[pictures, frames], text=[ASK, ASK])
    assert torch.equal(both["input_ids"][0], expected["input_ids"][0]) and len(both["input_ids"]) == 2
    with pytest.raises(UsageError, match="2 sizes"):
        processor(videos=[pictures[0], pictures[1].resize((100, 100))], text=ASK)


@pytest.mark.parametrize(
    "style",
    [PromptStyle(), VICUNA, PromptStyle(before_all="Be kind. ", begin="^", between_frames=" ", whole=True)],
    ids=["chatml", "vicuna", "whole"],
)
def test_written_prompts_are_read_back(style):
    """``apply_chat_template`` without tokens, and then the processor, as model cards show it."""
    p = FaceLlavaProcessor(byte_tokenizer(), tiny_config(), style)
    turns = ["Happy?", "Yes.", "Is <image> or <video> a word?", "No.", "Old?"]
    talk = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    for kind, frames in (("image", 1), ("video", 3)):
        clip = face_clip(frames)
        talk[0]["content"] = [{"type": kind}, {"type": "text", "text": "Happy?"}]
        for n in range(1, 6):
            asked = n % 2 == 1
            prompt = p.apply_chat_template(talk[:n], add_generation_prompt=asked)
            assert prompt.count(f"<{kind}>") == 1 + (n > 2)
            expected = p(clip, talk[:n], training=not asked, padding_side="left")
            expected.pop("labels", None)
            same(p(images=clip, text=prompt), expected)
            begun = p.apply_chat_template(talk[:n], continue_final_message=True) if not asked else ""
            if begun:
                opening = p(clip, talk[: n - 1])["input_ids"]
                goes_on = p(images=clip, text=begun)["input_ids"]
                assert torch.equal(goes_on[:, : opening.shape[1]], opening)
                assert p.decode(goes_on[0, opening.shape[1] :]) == turns[n - 1]


def test_lists_of_chats(processor, astronaut, two_faces):
    chats = [chat(astronaut, "Happy?"), chat(two_faces)]
    batch = processor.apply_chat_template(chats, tokenize=True, return_dict=True, padding=True)
    expected = processor([clip_of(astronaut), clip_of(two_faces)],
                         [[{"role": "user", "content": q}] for q in ("Happy?", ASK)])  # fmt: skip
    same(batch, expected)
    assert torch.equal(processor.apply_chat_template(chats, tokenize=True), expected["input_ids"])
    prompts = processor.apply_chat_template(chats)
    same(processor(images=[astronaut, two_faces], text=prompts), expected)


def test_texts_of_what_was_generated(processor):
    clip = face_clip(margin=MARGIN)
    ids = processor(clip, [{"role": "user", "content": ASK}])["input_ids"]
    (text,) = processor.post_process_image_text_to_text(ids)
    assert text == f"user\n\n{ASK}\nassistant\n"
    (text,) = processor.post_process_image_text_to_text(ids, skip_special_tokens=False)
    assert text == f"<|im_start|>user\n\n{ASK}<|im_end|>\n<|im_start|>assistant\n"
    tail = ids[:, -11:]
    assert processor.decode(tail[0]) == processor.batch_decode(tail)[0] == "assistant\n"
    assert processor.batch_decode(tail, skip_special_tokens=False) == ["<|im_start|>assistant\n"]


def test_experts_are_asked_where_the_model_looks_through_them(front_end, astronaut):
    """Without an encoder of the caller's, pictures bring the package's own face experts."""
    from facellava.model.config import ExpertVisionConfig
    from facellava.model.experts import GRID, MAP_WIDTH, WEIGHTS, ExpertEncoder

    try:
        for name in WEIGHTS:
            weights.resolve(name, offline=True)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face experts: run `facellava weights pull` first ({error})")
    config = tiny_config(vision=ExpertVisionConfig(MAP_WIDTH, GRID), crop_margin=MARGIN)
    found = FaceLlavaProcessor(byte_tokenizer(), config)(images=astronaut, text=ASK)
    own = FaceLlavaProcessor(byte_tokenizer(), config, encoder=ExpertEncoder(weights.resolve))
    same(found, own(clip_of(astronaut), [{"role": "user", "content": ASK}]))


class OneClip:
    """Finds the same face in everything, and counts how often it is asked."""

    def __init__(self, clip: FaceClip) -> None:
        self.clip, self.asked = clip, 0

    def __call__(self, source: Any) -> FaceClip:
        self.asked += 1
        return self.clip


def test_another_finder_of_faces_and_its_crop():
    finder = OneClip(face_clip())
    p = FaceLlavaProcessor(byte_tokenizer(), tiny_config(), faces=finder)
    same(p(images="anything.jpg", text=ASK), p(finder.clip, [{"role": "user", "content": ASK}]))
    assert finder.asked == 1
    wider = FaceLlavaProcessor(byte_tokenizer(), tiny_config(crop_margin=0.5), faces=finder)
    with pytest.raises(UsageError, match=r"margin 0, the model expects 0\.5"):
        wider(images="anything.jpg", text=ASK)
    corner = FaceLlavaProcessor(byte_tokenizer(), tiny_config(crop="corner"), faces=finder)
    with pytest.raises(UsageError, match="the crop is centred, the model expects corner ones"):
        corner(images="anything.jpg", text=ASK)


def test_the_padding_side_that_transformers_reads_is_left_and_saved_settings_are_plain(tmp_path):
    tokenizer = byte_tokenizer()
    assert tokenizer.padding_side == "right"
    p = FaceLlavaProcessor(tokenizer, tiny_config(vision=EXPERT_VISION))
    p.save_pretrained(tmp_path)
    assert FaceLlavaProcessor.from_pretrained(tmp_path).tokenizer.padding_side == "left"
    assert "EXPERT" not in repr(p) and '"kind": "experts"' in repr(p)


PLAIN = [{"role": "user", "content": ASK}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give text or messages"),
        ({"text": ASK, "messages": PLAIN, "images": "x"}, "give text or messages"),
        ({"text": ASK}, "0 pictures or videos"),
        ({"messages": PLAIN}, "0 pictures or videos"),
        ({"text": [], "images": []}, "no conversation"),
        ({"text": [ASK, ASK], "images": ["a"]}, "1 pictures for 2 conversations"),
        ({"text": ASK, "images": ["a", "b"]}, "2 pictures for 1 conversations"),
        ({"text": ASK, "images": ["a"], "videos": ["b"]}, "images and videos in one batch"),
        ({"messages": chat("a"), "images": "b"}, "in the messages and beside them"),
        ({"messages": [*chat("a"), {"role": "assistant", "content": "Yes."}, *chat("b")]}, "2 pictures or videos"),
        ({"messages": chat("a", kind="audio")}, "a part of type 'audio'"),
        ({"text": ASK, "images": "data:image/png;base64,%%"}, "no base64"),
        ({"text": ASK, "images": "a", "truncation": True}, "truncation=True is not available"),
        ({"text": ASK, "images": "a", "return_tensors": "np"}, "return_tensors='np' is not available"),
        ({"text": ASK, "images": "a", "resolution": 3}, "no option 'resolution'"),
        ({"text": ASK, "images": 3}, "int holds no picture"),
        ({"clips": face_clip(), "messages": PLAIN, "images": "a"}, "clips go with messages"),
        ({"clips": face_clip(), "text": ASK}, "clips go with messages"),
    ],
)
def test_mistakes_are_told(given, message):
    p = FaceLlavaProcessor(byte_tokenizer(), tiny_config())
    with pytest.raises(FacellavaError, match=message):
        p(**given)


@pytest.mark.parametrize(
    ("talk", "options", "message"),
    [
        (chat("a"), {"continue_final_message": True}, "only an assistant's message can be continued"),
        (chat("a"), {"tools": [{}]}, "tools="),
        ([{"role": "system", "content": "Hi"}, *chat(face_clip())], {}, "user first; got system, user"),
    ],
)
def test_mistakes_in_chats_are_told(talk, options, message):
    p = FaceLlavaProcessor(byte_tokenizer(), tiny_config())
    with pytest.raises(UsageError, match=message):
        p.apply_chat_template(talk, tokenize=True, **options)
