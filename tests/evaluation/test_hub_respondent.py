"""A transformers image-text-to-text model that is not ours, tiny and untrained, asked as a baseline."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from eval_world import benchmark
from synthetic_clip import make_clip

from facellava import tasks
from facellava.errors import FileMissing
from facellava.evaluation.respondents import Ask, connect_respondent, read_config
from facellava.evaluation.respondents.make import Access

# not importorskip: importing transformers here would load the model before its tests switch on the checks of shapes
pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs the torch extra")

TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %} ASSISTANT:{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from model_helpers import byte_tokenizer
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    path = tmp_path_factory.mktemp("tiny-llava")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image = tokenizer.convert_tokens_to_ids("<image>")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=16,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer) + 8, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image)
    LlavaForConditionalGeneration(config).save_pretrained(path)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(path)  # fmt: skip
    return path


@pytest.mark.parametrize("frames", [1, 5])
def test_a_foreign_model_sees_the_crops_and_answers(folder: Path, frames: int, tmp_path: Path) -> None:
    config = read_config(f"transformers:{folder}")
    who = connect_respondent(config, benchmark(tmp_path), Access(tmp_path))
    task = tasks.get("expression")
    ask = Ask("a", task, task.names, "image" if frames == 1 else "video")
    first, again = (who.answer(ask, make_clip(frames)) for _ in range(2))
    assert first == again
    assert first.prediction is None
    assert first.text is not None
    assert 0 < first.output_tokens <= 64
    more = who.answer(Ask("a", task, task.names, ask.media, "reasoning"), make_clip(frames))
    assert more.output_tokens > 64 or more.text != first.text
    assert first.input_tokens > 4 * frames, "every frame has its visual tokens"


def test_a_model_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing, match="cannot be loaded by transformers"):
        connect_respondent(read_config(f"transformers:{tmp_path / 'empty'}"), benchmark(tmp_path), Access(tmp_path))
