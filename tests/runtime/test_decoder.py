"""The ONNX decoder against transformers' own LLaMA, and its prefix arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file

from facellava.model.decoder_onnx import build_decoder, save_model
from facellava.model.gguf_weights import read_gguf
from facellava.model.quantization import dequantize_blocks, quantize_blocks
from facellava.runtime.decoder import EmbedTable, OnnxDecoder, Sampler, log_softmax

IDS = [1, 40, 41, 42, 97, 55, 60, 61, 62]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> OnnxDecoder:
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    save_model(build_decoder(tiny.config(), tiny.language_weights(), "fp32"), path)
    return OnnxDecoder(path, tiny.config())


@pytest.fixture(scope="module")
def embeds() -> np.ndarray:
    return tiny.language_weights()["model.embed_tokens.weight"]


def all_logits(decoder: OnnxDecoder, x: np.ndarray) -> np.ndarray:
    return decoder.run(decoder.empty(), x, np.arange(len(x)))[0]


def test_logits_equal_transformers_llama(decoder: OnnxDecoder, embeds: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    from facellava.runtime.torch_model import text_config

    reference = LlamaForCausalLM(text_config(tiny.config())).eval()
    weights = {k: torch.from_numpy(v) for k, v in tiny.language_weights().items()}
    reference.load_state_dict(weights, strict=False)
    with torch.no_grad():
        expected = reference(torch.tensor([IDS])).logits[0].numpy()
    np.testing.assert_allclose(all_logits(decoder, embeds[IDS]), expected, atol=2e-4)


def test_a_prefix_can_be_continued_many_times(decoder: OnnxDecoder, embeds: np.ndarray) -> None:
    whole = all_logits(decoder, embeds[IDS])
    prefix = decoder.extend(decoder.empty(), embeds[IDS[:4]])
    for _ in range(2):
        again = decoder.extend(prefix, embeds[IDS[4:]])
        np.testing.assert_allclose(again.logits, whole[-1], atol=1e-5)
    assert prefix.length == 4


def test_branches_in_one_pass_equal_separate_passes(decoder: OnnxDecoder, embeds: np.ndarray) -> None:
    prefix = decoder.extend(decoder.empty(), embeds[IDS[:4]])
    branches = [embeds[[50, 51, 52]], embeds[[60]], embeds[[70, 71]]]
    together = decoder.branch_logits(prefix, branches)
    for branch, logits in zip(branches, together, strict=True):
        alone, _ = decoder.run(prefix, branch, np.arange(len(branch)))
        np.testing.assert_allclose(logits, alone, atol=1e-5)
    for logits, last in zip(together, decoder.branch_logits(prefix, branches, last_only=True), strict=True):
        np.testing.assert_allclose(last, logits[-1:], atol=1e-5)


def test_a_mapped_table_gives_the_rows_of_the_file(tmp_path: Path, embeds: np.ndarray) -> None:
    codes, scales = quantize_blocks(embeds)
    save_file({"scales": scales, "codes": codes}, tmp_path / "table.safetensors")
    found = EmbedTable.mapped(tmp_path / "table.safetensors")[[50, 3, 50]]
    np.testing.assert_array_equal(found, EmbedTable(codes, scales)[[50, 3, 50]])
    np.testing.assert_allclose(found, embeds[[50, 3, 50]], atol=np.abs(embeds).max() / 250)


def test_greedy_generation_follows_the_argmax_and_stops(decoder: OnnxDecoder, embeds: np.ndarray) -> None:
    table = EmbedTable(*quantize_blocks(embeds))
    state = decoder.extend(decoder.empty(), embeds[IDS])
    ids = list(decoder.generate(state, table, max_new_tokens=5, stop=(), sampler=Sampler()))
    step, expected = state, []
    for _ in range(5):
        expected.append(int(step.logits.argmax()))
        step = decoder.extend(step, table[[expected[-1]]])
    assert ids == expected
    assert list(decoder.generate(state, table, max_new_tokens=5, stop={ids[0]}, sampler=Sampler())) == []


def test_a_token_that_nothing_follows_is_not_read(
    decoder: OnnxDecoder, embeds: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, table, sizes = decoder.extend(decoder.empty(), embeds[IDS]), EmbedTable(*quantize_blocks(embeds)), []
    run = decoder.run
    monkeypatch.setattr(decoder, "run", lambda s, x, *more: sizes.append(len(x)) or run(s, x, *more))
    ids = list(decoder.generate(state, table, max_new_tokens=4, stop=(), sampler=Sampler()))
    assert len(ids) == 4 and sizes == [1, 1, 1]


def test_sampling_is_seeded_and_respects_top_p() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    draws = [Sampler(1.0, 0.75, seed=s)(logits) for s in range(200)]
    assert set(draws) == {0, 1}
    assert draws == [Sampler(1.0, 0.75, seed=s)(logits) for s in range(200)]


def test_blocks_lose_at_most_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 96)).astype(np.float32)
    codes, scales = quantize_blocks(weight)
    assert codes.shape == (8, 3, 32)
    error = np.abs(dequantize_blocks(codes, scales) - weight).reshape(8, 3, 32)
    assert (error <= scales[..., None] / 2 + 1e-6).all()


def test_gguf_gives_back_hugging_face_weights_and_tokens(tiny_gguf: Path) -> None:
    file = read_gguf(tiny_gguf)
    # GGUF keeps the norm's epsilon in single precision.
    assert replace(file.config, rms_norm_eps=1e-5) == tiny.config()
    assert file.config.rms_norm_eps == pytest.approx(1e-5)
    for name, weight in tiny.language_weights().items():
        np.testing.assert_array_equal(file.weights[name], weight, err_msg=name)
    text = "<|im_start|>AU12: 41 yes<|im_end|>"
    ids = file.tokenizer.encode(text, add_special_tokens=False).ids
    assert ids[0] == 1 and ids[-1] == 2
    assert file.tokenizer.decode(ids, skip_special_tokens=False) == text


def test_log_softmax_sums_to_one() -> None:
    assert np.exp(log_softmax(np.array([1000.0, 999.0, -1000.0], np.float32))).sum() == pytest.approx(1)
