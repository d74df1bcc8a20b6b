"""What an answer attends to: equal to transformers' own weights, and summed up by what it falls on."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from facellava.model.decoder_onnx import build_decoder, save_model
from facellava.runtime.decoder import OnnxDecoder
from facellava.runtime.trace import PARTS, Trace

IDS = [1, 40, 41, 42, 97, 55, 60, 61, 62]


@pytest.fixture(scope="module")
def embeds() -> np.ndarray:
    return tiny.language_weights()["model.embed_tokens.weight"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> OnnxDecoder:
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    save_model(build_decoder(tiny.config(), tiny.language_weights(), "fp32"), path)
    return OnnxDecoder(path, tiny.config())


def test_attention_equals_that_of_transformers(decoder: OnnxDecoder, embeds: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    from facellava.runtime.torch_engine import TorchDecoder
    from facellava.runtime.torch_model import text_config

    model = LlamaForCausalLM(text_config(tiny.config())).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tiny.language_weights().items()}, strict=False)
    usual = model.config._attn_implementation
    theirs = TorchDecoder(model)
    whole = theirs.attention(theirs.empty(), embeds[IDS])
    assert model.config._attn_implementation == usual != "eager"
    np.testing.assert_allclose(decoder.attention(decoder.empty(), embeds[IDS]), whole, atol=1e-5)
    for one in (decoder, theirs):
        prefix = one.extend(one.empty(), embeds[IDS[:4]])
        np.testing.assert_allclose(one.attention(prefix, embeds[IDS[4:]]), whole[4:], atol=1e-5)


def test_attention_is_summed_up_by_what_it_falls_on() -> None:
    prefix = ["user", "\n", None, None, None, "\n", "Age", ": 44", "\n", "Expression: happiness", "\n"]
    attention = np.arange(2 * 15, dtype=np.float32).reshape(2, 15)
    nothing = np.zeros(2)
    trace = Trace.of(["Yes", "Yes."], prefix, 3, attention, nothing, nothing)
    assert trace.pieces == ("Yes", ".")
    assert trace.lines == ("Age: 44", "Expression: happiness")
    shares = dict(zip(PARTS, trace.shares[0], strict=True))
    assert shares == {"face": 2 + 3 + 4, "report": 6 + 7 + 8 + 9 + 10, "frame": 0 + 1 + 5, "question": 36, "answer": 14}
    np.testing.assert_array_equal(trace.shares.sum(1), attention.sum(1))
    np.testing.assert_array_equal(trace.patches, attention[:, 2:5])
    np.testing.assert_array_equal(trace.on_lines[0], [6 + 7 + 8, 9 + 10])


def test_a_conversation_without_a_report_has_no_lines() -> None:
    trace = Trace.of(["a"], ["user", None, None, "\n"], 1, np.ones((1, 5), np.float32), np.zeros(1), np.zeros(1))
    assert trace.lines == ()
    assert trace.on_lines.shape == (1, 0)
    assert trace.shares.sum() == 5


def test_a_letter_of_several_tokens_comes_with_its_last() -> None:
    grown = ["caf", "caf\ufffd", "café", "café!"]
    trace = Trace.of(grown, [None], 0, np.ones((4, 1), np.float32), np.zeros(4), np.zeros(4))
    assert trace.pieces == ("caf", "", "é", "!")
