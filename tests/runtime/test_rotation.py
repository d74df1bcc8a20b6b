"""A turned decoder is the same function, and 8 bits lose less of its activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from facellava.model.decoder_onnx import build_decoder, quantize_columns, save_model
from facellava.model.rotation import Rotated, orthogonal
from facellava.runtime.decoder import OnnxDecoder
from facellava.runtime.saturation import products_saturate

IDS = [1, 40, 41, 42, 97, 55, 60, 61, 62]


def logits(path: Path, weights: object, embeds: np.ndarray, precision: str = "fp32", **how: str) -> np.ndarray:
    save_model(build_decoder(tiny.config(), weights, precision, **how), path)  # type: ignore[arg-type]
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


@pytest.mark.parametrize("scales", ["columns", "blocks"])
def test_eight_bits_stay_close_to_float(tmp_path: Path, scales: str) -> None:
    if scales == "columns" and products_saturate():
        pytest.skip("this processor's 8-bit products saturate, so that the model is built in blocks")
    weights = tiny.language_weights()
    embeds = weights["model.embed_tokens.weight"][IDS]
    exact = logits(tmp_path / "float.onnx", weights, embeds)
    small = logits(tmp_path / "int8.onnx", weights, embeds, "int8", scales=scales)
    assert 0 < np.abs(small - exact).mean() < 0.05 * exact.std()


def test_columns_by_hand() -> None:
    codes, scales = quantize_columns(np.array([[127, -63.5, 1], [0, 0, 0]], np.float32))
    np.testing.assert_array_equal(codes, [[127, 0], [-64, 0], [1, 0]])  # numpy rounds .5 to even
    np.testing.assert_array_equal(scales, [1, 1])


def test_a_processor_with_vnni_adds_products_exactly() -> None:
    info = Path("/proc/cpuinfo")
    if not info.is_file() or "vnni" not in info.read_text(encoding="utf-8"):
        pytest.skip("no processor of which that is known")
    assert not products_saturate()
