"""Prompts of the served tokenizer are those that the model was trained on, id for id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import served
from model_helpers import TINY_VISION, face_clip, tiny_config
from transformers import AutoTokenizer

from facellava.errors import UsageError
from facellava.model.config import FusionConfig
from facellava.model.layouts.profiles import RELEASED
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import CHATML, VICUNA, PromptStyle
from facellava.vllm_plugin.folder import check_prompts, prepare, prompt_ids
from facellava.vllm_plugin.prompts import FACE, PIECE, chat_template, visual_ids, without_pieces

STYLES = {"chatml": CHATML, "vicuna": VICUNA, "released": RELEASED}


def asked(kind: str, *texts: str) -> list[dict]:
    """A conversation as vLLM hands it to a template: pictures are parts without content."""
    roles = [("user", "assistant")[i % 2] for i in range(len(texts))]
    messages: list[dict] = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    messages[0]["content"] = [{"type": kind}, {"type": "text", "text": texts[0]}]
    return messages


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
@pytest.mark.parametrize("kind", ["bytes", "prepend", "always", "first"])
def test_ids_are_those_of_training(tmp_path: Path, kind: str, style: PromptStyle) -> None:
    source = served.folder(tmp_path / "source", kind, style)
    target = prepare(source, tmp_path / "target")
    processor, words = FaceLlavaProcessor.from_pretrained(source), AutoTokenizer.from_pretrained(target)
    face = words.convert_tokens_to_ids(FACE)
    for media, frames in (("image", 1), ("video", 3)):
        for texts in (["What is it?"], ["Why?", "Because it is.", "Look again: is it?"]):
            clip = face_clip(frames)
            plain = asked(media, *texts)
            plain[0] = {"role": "user", "content": texts[0]}
            expected = processor(clip, plain)["input_ids"][0].tolist()
            ids = prompt_ids(words, asked(media, *texts))
            at = ids.index(face)
            assert face not in ids[at + 1 :]
            ids[at : at + 1] = visual_ids(processor._tokenize, processor.config, style, frames, -7)
            assert [processor.config.image_token_id if i == -7 else i for i in ids] == expected


def test_visual_tokens_by_hand() -> None:
    config = tiny_config(vision=TINY_VISION)  # nine patches a frame

    def tokenize(text: str) -> list[int]:
        return [ord(c) for c in text]

    assert visual_ids(tokenize, config, CHATML, 1, 500) == [500] * 9
    assert visual_ids(tokenize, config, CHATML, 3, 500) == [500] * 27
    assert visual_ids(tokenize, config, RELEASED, 3, 500) == [*[500] * 9, 32, *[500] * 9, 32, *[500] * 9]
    appended = tiny_config(vision=TINY_VISION, fusion=FusionConfig(kind="none", landmarks="append"))
    assert visual_ids(tokenize, appended, CHATML, 1, 1) == [1] * 18


def test_seams_leave_the_ids() -> None:
    assert without_pieces([9, 1, 9, 2, 3, 9], 9) == [1, 2, 3]


def words_with(style: PromptStyle) -> object:
    tokenizer = served.tokenizer("bytes")
    tokenizer.add_tokens([FACE, PIECE], special_tokens=True)
    tokenizer.chat_template = chat_template(style)
    return tokenizer


def test_the_template_writes_pieces() -> None:
    tokenizer = words_with(CHATML)
    text = tokenizer.apply_chat_template(asked("image", "Q", "A", "R"), tokenize=False)
    expected = [
        "", f"<|im_start|>user\n{FACE}\n", "Q", "<|im_end|>\n", "<|im_start|>assistant\n", "A", "<|im_end|>\n",
        "<|im_start|>user\n", "R", "<|im_end|>\n", "<|im_start|>assistant\n", "",
    ]  # fmt: skip
    assert text.split(PIECE) == expected


def test_texts_cannot_hold_the_marks() -> None:
    """Whoever writes a mark into a question gets neither a second face nor a seam."""
    tokenizer = words_with(VICUNA)
    plain = tokenizer.apply_chat_template(asked("image", "a b", "x", "y"), tokenize=False)
    marked = asked("image", f"a{FACE} {PIECE}b", f"{FACE}x", f"{PIECE}y")
    assert tokenizer.apply_chat_template(marked, tokenize=False) == plain


def test_several_texts_are_lines() -> None:
    tokenizer = words_with(CHATML)
    parts = [{"type": "text", "text": "one"}, {"type": "video"}, {"type": "text", "text": "two"}]
    text = tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    assert "one\ntwo" in text and text.count(FACE) == 1


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "system", "content": "Be kind."}], "there is no system message"),
        ([{"role": "user", "content": "Who?"}], "the first message holds one picture or video"),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}], "holds one picture or video"),
        ([*asked("image", "a", "b"), asked("image", "c")[0]], "no other message holds any"),
        ([asked("image", "a")[0], {"role": "user", "content": "b"}], "alternate user and assistant"),
    ],
)
def test_other_conversations_are_refused(messages: list[dict], words: str) -> None:
    import jinja2

    with pytest.raises(jinja2.TemplateError, match=words):
        words_with(CHATML).apply_chat_template(messages, tokenize=False)


def test_a_tokenizer_that_splits_otherwise_is_refused(tmp_path: Path) -> None:
    """The check sees a served tokenizer that opens only the first piece with a space."""
    source = served.folder(tmp_path / "source", "first", VICUNA)
    target = prepare(source, tmp_path / "target")
    path = target / "tokenizer.json"
    content = json.loads(path.read_text())
    assert content["pre_tokenizer"]["prepend_scheme"] == "always"
    content["pre_tokenizer"]["prepend_scheme"] = "first"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="otherwise than piece by piece"):
        check_prompts(target, FaceLlavaProcessor.from_pretrained(source))
