"""The served folder, and the adapter run on a stand-in for vLLM's interface."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import served
import torch
import vllm_world
from model_helpers import EXPERT_VISION, TINY_VISION, byte_tokenizer, close, face_clip, tiny_config
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

import facellava.vllm_plugin as plugin
from facellava.errors import FileMissing, NoFace, UsageError
from facellava.model.layouts.profiles import RELEASED
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import CHATML, VICUNA, PromptStyle
from facellava.vllm_plugin.__main__ import main
from facellava.vllm_plugin.folder import prepare, prompt_ids
from facellava.vllm_plugin.prompts import FACE, PIECE


def test_what_a_served_folder_holds(tmp_path: Path) -> None:
    source = served.folder(tmp_path / "source", "prepend", VICUNA)
    (source / "generation_config.json").write_text('{"temperature": 0.1, "do_sample": true}')
    target = prepare(source, tmp_path / "target")
    config = json.loads((target / "config.json").read_text())
    assert config["architectures"] == [plugin.ARCHITECTURE] == ["FaceLlavaForConditionalGeneration"]
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    words = AutoTokenizer.from_pretrained(target)
    size = config["text_config"]["vocab_size"]
    assert (words.convert_tokens_to_ids(FACE), words.convert_tokens_to_ids(PIECE)) == (size, size + 1)
    assert config["face_token_id"] == size and AutoConfig.from_pretrained(target).face_token_id == size
    assert json.loads((target / "generation_config.json").read_text()) == {
        "temperature": 0.1,
        "do_sample": True,
        "eos_token_id": [2],
    }
    assert (target / "chat_template.jinja").is_file()
    assert (target / "model.safetensors").samefile(source / "model.safetensors")
    own, there = FaceLlavaProcessor.from_pretrained(source), FaceLlavaProcessor.from_pretrained(target)
    assert (there.style, there.config.to_dict()) == (own.style, own.config.to_dict())
    assert len(own.tokenizer) == size, "the source is as it was"


def test_shards_are_linked_with_their_index(tmp_path: Path) -> None:
    source = served.folder(tmp_path / "source")
    model = FaceLlavaForConditionalGeneration.from_pretrained(source)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="20KB")
    target = prepare(source, tmp_path / "target")
    expected = {path.name for path in source.glob("model*")}
    assert {path.name for path in target.glob("model*")} == expected and len(expected) > 3


def test_what_cannot_be_served_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileMissing, match="holds no model with its processor"):
        prepare(tmp_path, tmp_path / "target")
    source = served.folder(tmp_path / "source")
    with pytest.raises(UsageError, match="has the word"):
        prepare(prepare(source, tmp_path / "once"), tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    config = tiny_config(vision=EXPERT_VISION)
    FaceLlavaForConditionalGeneration(config).save_pretrained(tmp_path / "experts")
    FaceLlavaProcessor(byte_tokenizer(), config).save_pretrained(tmp_path / "experts")
    assert main([str(tmp_path / "experts"), str(tmp_path / "target")]) == UsageError.exit_code
    assert "looks through face experts" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "done")]) == 0
    assert capsys.readouterr().out == f"written to {tmp_path / 'done'}\n"


def test_vllm_finds_the_plugin() -> None:
    """As pyproject.toml declares it; an installation that is older than the declaration knows it after the next one."""
    text = (Path(plugin.__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points."vllm.general_plugins"]\nfacellava = "facellava.vllm_plugin:register"\n' in text
    for point in entry_points(group="vllm.general_plugins"):
        if point.name == "facellava":
            assert point.load() is plugin.register


def test_registration_names_the_adapter(adapter: ModuleType) -> None:
    plugin.register()
    plugin.register()
    place = vllm_world.Registry.models["FaceLlavaForConditionalGeneration"]
    module, _, name = place.partition(":")
    assert importlib.import_module(module) is adapter and name == "FaceLlavaForVllm" and hasattr(adapter, name)


def test_vllm_is_imported_by_the_adapter_alone() -> None:
    folder = Path(plugin.__file__).parent
    for path in folder.glob("*.py"):
        top = [
            n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        names = {alias.name for n in top if isinstance(n, ast.Import) for alias in n.names}
        names |= {n.module or "" for n in top if isinstance(n, ast.ImportFrom)}
        uses = any(name.split(".")[0] == "vllm" for name in names)
        assert uses == (path.name == "adapter.py"), path.name
        assert not any(name.endswith("adapter") for name in names)
    code = (
        "import sys, facellava.vllm_plugin; print([m for m in ('torch', 'vllm', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "[]"


class Served:
    """A prepared folder behind the adapter, as a server would use it."""

    def __init__(self, target: Path, adapter: Any) -> None:
        self.words, config = AutoTokenizer.from_pretrained(target), AutoConfig.from_pretrained(target)
        context = SimpleNamespace(model=str(target), tokenizer=self.words, get_hf_config=lambda kind: config)
        made = adapter.FaceLlavaForVllm.factories
        self.info = made.info(context)
        self.dummy = made.dummy_inputs(self.info)
        self.processor = made.processor(self.info, self.dummy)
        settings = SimpleNamespace(model_config=SimpleNamespace(hf_config=config))
        self.model = adapter.FaceLlavaForVllm(vllm_config=settings).eval()
        self.model.load_weights(load_file(target / "model.safetensors").items())

    def request(self, messages: list[dict], items: dict[str, list[Any]], **kwargs: Any) -> SimpleNamespace:
        text = self.words.apply_chat_template(messages, tokenize=False)
        ids = self.words.encode(text, add_special_tokens=False)
        return self.processor.apply(vllm_world.ProcessorInputs(ids, items, kwargs), None)

    @torch.no_grad()
    def logits(self, done: SimpleNamespace) -> torch.Tensor:
        """Of every position, from the tokens with their placeholders and the tensors of the fields."""
        (modality,) = done.mm_kwargs
        fields = {name: value.data[None] for name, value in done.mm_kwargs[modality][0].items()}
        seen = self.model.embed_multimodal(**fields)
        at, inside = done.mm_placeholders[modality]
        places = torch.zeros(len(done.prompt_token_ids), dtype=torch.bool)
        places[at : at + len(inside)] = torch.tensor(inside)
        embeds = self.model.embed_input_ids(torch.tensor(done.prompt_token_ids), seen, is_multimodal=places)
        hidden = self.model.forward(None, torch.arange(len(embeds)), None, inputs_embeds=embeds)
        return self.model.compute_logits(hidden)


STYLES = [("bytes", CHATML), ("prepend", VICUNA), ("prepend", RELEASED), ("first", RELEASED)]


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize(("kind", "style"), STYLES, ids=["chatml", "vicuna", "released", "first"])
def test_a_request_gives_the_models_own_logits(
    tmp_path: Path, adapter: ModuleType, kind: str, style: PromptStyle, frames: int
) -> None:
    """From messages and a picture or video to logits: the same ids, places and numbers as our own classes give."""
    source = served.folder(tmp_path / "source", kind, style)
    own = FaceLlavaProcessor.from_pretrained(source)
    whole = FaceLlavaForConditionalGeneration.from_pretrained(source).eval()
    there = Served(prepare(source, tmp_path / "target"), adapter)
    clip, name = face_clip(frames), "image" if frames == 1 else "video"
    there.info.items._faces = lambda _: clip
    item = Image.fromarray(clip.frames[0]) if frames == 1 else clip.frames
    texts = ["What is it?", "It is.", "Is it?"]
    messages: list[dict] = [
        {"role": role, "content": text} for role, text in zip(["user", "assistant", "user"], texts, strict=True)
    ]
    parts = [{"type": name}, {"type": "text", "text": texts[0]}]
    done = there.request([{"role": "user", "content": parts}, *messages[1:]], {name: [item]})
    batch = own(clip, messages)
    face, mark = there.words.convert_tokens_to_ids(FACE), own.config.image_token_id
    assert [mark if i == face else i for i in done.prompt_token_ids] == batch["input_ids"][0].tolist()
    at, inside = done.mm_placeholders[name]
    assert sum(inside) == own.config.num_visual_tokens(1 if frames == 1 else TINY_VISION.frames)
    assert done.prompt_token_ids[at] == face and done.mm_kwargs.keys() == {name}
    with torch.no_grad():
        expected = whole(**batch).logits[0]
    close(there.logits(done), expected, 1e-4)
    given = there.request(
        [{"role": "user", "content": parts}, *messages[1:]], {name: [item]}, landmarks={name: clip.landmarks.tolist()}
    )
    assert torch.equal(there.logits(given), there.logits(done))


def test_memory_is_measured_without_a_face(tmp_path: Path, adapter: ModuleType) -> None:
    source = served.folder(tmp_path / "source", "prepend", RELEASED)
    there = Served(prepare(source, tmp_path / "target"), adapter)
    stated = there.info.get_mm_max_tokens_per_item(4096, {"image": 1, "video": 1})
    assert stated == {"image": 9, "video": 3 * 9 + 2 * 1} and there.info.get_supported_mm_limits() == {
        "image": 1,
        "video": 1,
    }
    for name in ("image", "video"):
        done = there.processor.apply(there.dummy.get_dummy_processor_inputs(4096, {name: 1}, {}), None)
        assert len(done.mm_placeholders[name][1]) == stated[name]
        assert there.logits(done).isfinite().all()


def test_a_picture_without_a_face_is_the_requests_fault(tmp_path: Path, adapter: ModuleType) -> None:
    target = prepare(served.folder(tmp_path / "source"), tmp_path / "target")
    there = Served(target, adapter)

    def nobody(_: object) -> None:
        raise NoFace("no face was found in the given image")

    there.info.items._faces = nobody
    parts = [{"type": "image"}, {"type": "text", "text": "Who?"}]
    picture = Image.fromarray(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="no_face: no face was found"):
        there.request([{"role": "user", "content": parts}], {"image": [picture]})
    assert prompt_ids(there.words, [{"role": "user", "content": parts}])
