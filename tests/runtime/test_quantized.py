"""Trained folders in 8 bits on a processor, and what bitsandbytes is told on a GPU."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from accelerate.utils import check_device_map  # noqa: E402
from model_helpers import TINY_VISION, byte_tokenizer, close, tiny_config  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from synthetic_clip import make_clip  # noqa: E402
from transformers import BitsAndBytesConfig  # noqa: E402
from transformers.quantizers.quantizers_utils import should_convert_module  # noqa: E402

from facellava import tasks  # noqa: E402
from facellava.analyzer import load  # noqa: E402
from facellava.errors import DamagedCheckpoint, MissingExtra, UsageError  # noqa: E402
from facellava.model.config import FaceLlavaConfig  # noqa: E402
from facellava.model.footprint import measure  # noqa: E402
from facellava.model.layouts import paper_7b, release_7b  # noqa: E402
from facellava.model.layouts.plan import on_meta  # noqa: E402
from facellava.model.modeling import FaceLlavaForConditionalGeneration  # noqa: E402
from facellava.model.precision import form_of, quantized_linears  # noqa: E402
from facellava.model.processing import FaceLlavaProcessor  # noqa: E402
from facellava.runtime.quantized import KEPT, Int8Linear, bits_and_bytes, load_model, quantize_rows, spread  # noqa: E402
from facellava.runtime.torch_engine import TorchEngine  # noqa: E402


def configured(**text: Any) -> FaceLlavaConfig:
    text = {"tie_word_embeddings": False, "attention_bias": True, **text}
    return tiny_config(vision=dataclasses.replace(TINY_VISION, temporal=False), text=text)


def write(path: Path, config: FaceLlavaConfig, **options: Any) -> Path:
    torch.manual_seed(0)
    FaceLlavaForConditionalGeneration(config).save_pretrained(path, **options)
    FaceLlavaProcessor(byte_tokenizer(), config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("trained") / "final", configured())


def test_rows_are_off_by_half_a_scale_at_most() -> None:
    weight = torch.randn(7, 33, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 2, 7)[:, None]
    weight[3] = 0
    codes, scale = quantize_rows(weight)
    assert codes.dtype == torch.int8 and scale.shape == (7,)
    assert scale.tolist() == pytest.approx((weight.abs().amax(1) / 127).tolist())
    assert ((codes * scale[:, None] - weight).abs() <= scale[:, None] / 2 * (1 + 1e-5)).all()
    assert not codes[3].any() and codes.abs().amax(1).tolist() == [127, 127, 127, 0, 127, 127, 127]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_computes_with_its_rounded_weights(bias: bool, dtype: torch.dtype) -> None:
    """More rows than are widened at a time, so that the pieces meet."""
    g = torch.Generator().manual_seed(2)
    layer = Int8Linear(24, 600, bias)
    layer.codes, layer.scale = quantize_rows(torch.randn(600, 24, generator=g))
    if bias:
        layer.bias = torch.randn(600, generator=g)
    x = torch.randn(2, 3, 24, generator=g)
    expected = torch.nn.functional.linear(x, layer.codes * layer.scale[:, None], layer.bias)
    found = layer(x.to(dtype))
    assert found.dtype == dtype
    close(found.float(), expected, 1e-5 if dtype == torch.float32 else 0.2)


def test_only_the_language_models_linear_layers_change(folder: Path) -> None:
    whole, small = (load_model(folder, precision, "cpu") for precision in ("fp32", "int8"))
    expected = {name for name, _ in quantized_linears(whole)}
    assert {name for name, part in small.named_modules() if isinstance(part, Int8Linear)} == expected
    assert len(expected) == 2 * 7
    before, after = whole.state_dict(), small.state_dict()
    for name, value in before.items():
        owner, _, kind = name.rpartition(".")
        if owner in expected and kind == "weight":
            codes, scale = after[f"{owner}.codes"], after[f"{owner}.scale"]
            close(codes * scale[:, None], value, float(scale.max()) / 2 * (1 + 1e-5))
        else:
            assert torch.equal(after[name], value), name
    assert not any(parameter.requires_grad for parameter in small.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_memory_is_what_doctor_states(tmp_path: Path, tied: bool) -> None:
    config = configured(tie_word_embeddings=tied)
    model = load_model(write(tmp_path / "final", config), "int8", "cpu")
    kept = {id(value): value for value in [*model.parameters(), *model.buffers()]}
    rotary = sum(b.nbytes for name, b in model.named_buffers() if "inv_freq" in name)
    form = form_of("int8", "cpu")
    assert form is not None
    assert sum(value.nbytes for value in kept.values()) - rotary == measure(config).weights(form)


@pytest.mark.parametrize("frames", [1, 3])
def test_answers_stay_close(folder: Path, frames: int) -> None:
    whole, small = (TorchEngine(folder, Path, device="cpu", precision=p) for p in ("fp32", "int8"))
    clip, task = make_clip(frames, mouth_open=0.5), tasks.get("expression")
    seen = [engine.look(clip) for engine in (whole, small)]
    first, second = (one.state.logits for one in seen)
    assert not np.array_equal(first, second)
    assert np.linalg.norm(first - second) < 0.02 * np.linalg.norm(first)
    np.testing.assert_allclose(seen[0].region_attention, seen[1].region_attention, atol=1e-6)
    words = [task.candidate(name) for name in task.names]
    scored = [
        engine.score(one, task.closed_question(), task.closed.prefix, words)
        for engine, one in zip((whole, small), seen, strict=True)
    ]
    np.testing.assert_allclose(scored[0], scored[1], atol=0.01)


def test_load_takes_a_precision(folder: Path) -> None:
    assert load(str(folder), progress=False).name == "final"
    small = load(str(folder), precision="int8", progress=False)
    assert small.name == "final-int8"
    half = load(str(folder), precision="bf16", progress=False)
    engine = half.engine
    assert isinstance(engine, TorchEngine) and engine._model.dtype == torch.bfloat16 and half.name == "final-bf16"
    assert "".join(engine.ask(engine.look(make_clip()), "What?", max_new_tokens=3, ignore_stop=True))


def test_shards_give_the_same(folder: Path, tmp_path: Path) -> None:
    sharded = write(tmp_path / "shards", configured(), max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 3
    first, second = (load_model(path, "int8", "cpu").state_dict() for path in (folder, sharded))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda state: state.pop("language_model.model.layers.0.mlp.up_proj.weight"), "layers.0.mlp.up_proj.weight"),
        (lambda state: state.pop("frlp.whole.bias"), "lacks frlp.whole.bias"),
        (lambda state: state.update(more=torch.ones(2)), "holds more, which its model has no place for"),
        (lambda state: state.update({"frgca.out.bias": torch.ones(3)}), r"frgca.out.bias has shape \(3,\)"),
    ],
    ids=["a layer", "a bias", "more", "shape"],
)
def test_damaged_folders_are_told(tmp_path: Path, damage: Any, words: str) -> None:
    path = write(tmp_path / "final", configured())
    state = load_file(path / "model.safetensors")
    damage(state)
    save_file(state, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DamagedCheckpoint, match=words):
        load_model(path, "int8", "cpu")


def test_what_is_not_there_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="int4 needs a GPU: on a processor choose int8"):
        load_model(folder, "int4", "cpu")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for precision in ("int8", "int4"):
        with pytest.raises(MissingExtra, match=rf"{precision} on a GPU needs the extra 'quantize'"):
            load_model(folder, precision, "cuda")
    with pytest.raises(UsageError, match="the small default has precision int8 or fp32, not bf16"):
        load(precision="bf16", progress=False)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("make", [configured, paper_7b, release_7b])
def test_what_bitsandbytes_is_told_to_skip(precision: Any, make: Any) -> None:
    """By transformers' own rule, what is left is the language model's linear layers, and nothing else."""
    told = bits_and_bytes(precision)["llm_int8_skip_modules"]
    assert {"vision_tower", "projector", "frlp", "frgca", "lm_head"} == set(told) == set(KEPT)
    model = on_meta(make())
    converted = {
        name
        for name, part in model.named_modules()
        if type(part) is torch.nn.Linear and should_convert_module(name, told)
    }
    assert converted == {name for name, _ in quantized_linears(model)}
    assert len(converted) == 7 * model.config.text_config.num_hidden_layers


def test_settings_of_bitsandbytes() -> None:
    eight = BitsAndBytesConfig(**bits_and_bytes("int8"))
    assert eight.load_in_8bit and not eight.load_in_4bit and eight.llm_int8_skip_modules == list(KEPT)
    four = bits_and_bytes("int4")
    assert four["load_in_4bit"] and four["bnb_4bit_quant_type"] == "nf4" and four["bnb_4bit_use_double_quant"]
    assert four["bnb_4bit_compute_dtype"] == torch.bfloat16


@pytest.mark.parametrize("free", [[24, 24], [20, 30], [16, 8, 8]])
def test_blocks_are_spread_by_free_memory(free: list[int]) -> None:
    config, form = paper_7b(), form_of("int4", "gpu")
    assert form is not None
    places = spread(config, form, [gb * 10**9 for gb in free])
    check_device_map(on_meta(config), places)
    assert {places[part] for part in ("vision_tower", "projector", "frlp", "frgca")} == {0}
    assert places["language_model.model.embed_tokens"] == places["language_model.model.rotary_emb"] == 0
    blocks = [places[f"language_model.model.layers.{i}"] for i in range(32)]
    assert blocks == sorted(blocks) and set(blocks) == set(range(len(free)))
    assert places["language_model.model.norm"] == places["language_model.lm_head"] == blocks[-1]
    weights = measure(config).weights(form)
    block = 202_375_168 * form.linear + 8192 * 2
    for gpu, gigabytes in enumerate(free):
        taken = blocks.count(gpu) * block + (gpu == 0) * (weights - 32 * block)
        assert taken == pytest.approx(weights * gigabytes / sum(free), abs=block)


def test_a_small_first_card_has_no_blocks() -> None:
    """The face's path alone is more than its share."""
    form = form_of("int4", "gpu")
    assert form is not None
    places = spread(paper_7b(), form, [8 * 10**9, 40 * 10**9])
    assert {places[f"language_model.model.layers.{i}"] for i in range(32)} == {1}
    assert places["vision_tower"] == places["language_model.model.embed_tokens"] == 0


def test_a_shared_head_stays_with_the_words() -> None:
    form = form_of("int8", "gpu")
    assert form is not None
    places = spread(configured(tie_word_embeddings=True), form, [1, 1])
    assert places["language_model.lm_head"] == places["language_model.model.embed_tokens"] == 0
    assert places["language_model.model.layers.1"] == 1
