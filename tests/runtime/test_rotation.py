"""A turned decoder is the same function, and 8 bits lose less of its activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import tiny
from onnx import TensorProto, helper

from facellava.model.decoder_config import Precision
from facellava.model.decoder_onnx import MICROSOFT, _Graph, build_decoder, save_model
from facellava.model.quantization import LARGEST, quantize_columns
from facellava.model.rotation import Rotated, orthogonal
from facellava.runtime.decoder import OnnxDecoder

IDS = [1, 40, 41, 42, 97, 55, 60, 61, 62]


def logits(path: Path, weights: object, embeds: np.ndarray, precision: Precision = "fp32") -> np.ndarray:
    save_model(build_decoder(tiny.config(), weights, precision), path)  # type: ignore[arg-type]
    decoder = OnnxDecoder(path, tiny.config())
    return decoder.run(decoder.empty(), embeds, np.arange(len(embeds)))[0]


def test_a_turned_decoder_is_the_same_function(tmp_path: Path) -> None:
    weights = tiny.language_weights()
    embeds = weights["model.embed_tokens.weight"][IDS]
    turned = Rotated(weights, tiny.config().head_dim)
    assert set(turned) == {*weights, "lm_head.weight"} and len(turned) == len(weights) + 1
    assert not np.allclose(
        turned["model.layers.0.self_attn.v_proj.weight"], weights["model.layers.0.self_attn.v_proj.weight"]
    )
    expected = logits(tmp_path / "plain.onnx", weights, embeds)
    found = logits(tmp_path / "turned.onnx", turned, embeds @ turned.turn)
    np.testing.assert_allclose(found, expected, atol=3e-4)


def test_the_turn_is_orthogonal_and_always_the_same() -> None:
    turn = orthogonal(24, 0)
    np.testing.assert_allclose(turn.T @ turn, np.eye(24), atol=1e-6)
    np.testing.assert_array_equal(turn, orthogonal(24, 0))


def test_a_loud_channel_costs_the_others_nothing_after_the_turn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 128)).astype(np.float32)
    x[:, 7] *= 60

    def lost(values: np.ndarray) -> float:
        step = np.ptp(values) / 255  # one scale for the whole array, as DynamicQuantizeLinear takes it
        return float(np.sqrt(np.mean((np.rint(values / step) * step - values) ** 2)))

    assert lost(x @ orthogonal(128, 0)) < lost(x) / 3


def test_eight_bits_stay_close_to_float(tmp_path: Path) -> None:
    weights = tiny.language_weights()
    embeds = weights["model.embed_tokens.weight"][IDS]
    exact = logits(tmp_path / "float.onnx", weights, embeds)
    small = logits(tmp_path / "int8.onnx", weights, embeds, "int8")
    assert 0 < np.abs(small - exact).mean() < 0.05 * exact.std()


def test_silence_stays_silent_in_eight_bits(tmp_path: Path) -> None:
    weights = tiny.language_weights()
    silent = np.zeros((3, tiny.config().hidden_size), np.float32)
    np.testing.assert_array_equal(logits(tmp_path / "int8.onnx", weights, silent, "int8"), 0)


def test_columns_by_hand() -> None:
    codes, scales = quantize_columns(np.array([[126, -63, 1], [0, 0, 0]], np.float32))
    np.testing.assert_array_equal(codes, [[63, 0], [-32, 0], [0, 0]])  # numpy rounds .5 to even
    np.testing.assert_array_equal(scales, [2, 1])


def test_the_largest_products_are_added_exactly_on_every_processor(tmp_path: Path) -> None:
    """x86 processors without VNNI cut the sum of two products off at 32767; on others this cannot fail."""
    width = 64
    graph = _Graph("int8")
    graph.linear("y", "x", np.ones((width, width), np.float32))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, width])
    y = helper.make_tensor_value_info("y.out", TensorProto.FLOAT, [4, width])
    proto = helper.make_graph(graph.nodes, "one", [x], [y], graph.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"x": np.ones((4, width), np.float32)})
    np.testing.assert_allclose(sums, width, rtol=1e-5)
    assert 2 * 255 * LARGEST <= 32767
