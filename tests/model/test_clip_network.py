"""CLIP's tower with seven-bit weights: halving by hand, and features of real pictures close to the published file's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from facellava import weights
from facellava.errors import FacellavaError, NoSpace
from facellava.model.clip_network import ClipNetwork, halved, halved_once


def tiny(path: Path, zero: int = 0) -> Path:
    """One quantised product, named as the exporter names it."""
    codes = np.array([[127, -127], [1, 64]], np.int8)
    tensors = [
        numpy_helper.from_array(codes, "w_quantized"),
        numpy_helper.from_array(np.array(0.5, np.float32), "w_scale"),
        numpy_helper.from_array(np.array(zero, np.int8), "w_zero_point"),
        numpy_helper.from_array(np.array(0, np.uint8), "x_zero_point"),
    ]
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w_quantized", "x_zero_point", "w_zero_point"], ["product"]),
        helper.make_node("Cast", ["product"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["whole", "w_scale"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=9), str(path))
    return path


def test_weights_are_halved_and_scales_doubled(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m.onnx")
    model = onnx.load_from_string(halved(path))
    found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(found["w_quantized"], [[64, -64], [0, 32]])  # halves round to even
    assert found["w_scale"] == 1.0
    x = np.array([[200, 100]], np.uint8)
    (y,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(y, [[12800, -9600]])
    (exact,) = ort.InferenceSession(str(path)).run(None, {"x": x})
    np.testing.assert_allclose(y, exact, rtol=0.02)


def test_asymmetric_weights_are_not_halved(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="symmetric"):
        halved(tiny(tmp_path / "m.onnx", zero=3))


def test_the_halved_file_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path / "cache"))
    first = halved_once(tiny(tmp_path / "m.onnx"))
    stamp = first.stat().st_mtime_ns
    assert halved_once(tmp_path / "m.onnx") == first and first.stat().st_mtime_ns == stamp
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path / "file"))
    with pytest.raises(NoSpace, match="FACELLAVA_CACHE"):
        halved_once(tmp_path / "m.onnx")


def test_features_are_those_of_the_published_file() -> None:
    try:
        path = weights.resolve("clip-vit-b16")
    except FacellavaError as error:
        pytest.skip(f"needs a pretrained file: {error}")
    skimage = pytest.importorskip("skimage.data")
    crop = np.ascontiguousarray(skimage.astronaut()[:256, 100:356])
    found = ClipNetwork(path, 1, 7)(crop)
    assert found.patches.shape == (7, 7, 768) and found.picture.shape == (512,)
    assert np.linalg.norm(found.picture) == pytest.approx(1, abs=1e-5)
    other = ClipNetwork(path, 1, 7)(np.ascontiguousarray(crop[:, ::-1]))
    # a mirrored picture: nearly the same as a whole, mirrored in its patches
    assert float(found.picture @ other.picture) > 0.9

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))

    centred = found.patches - found.patches.mean((0, 1))
    mirrored = (other.patches - other.patches.mean((0, 1)))[:, ::-1]
    assert alike(centred, mirrored) > alike(centred, mirrored[:, ::-1]) + 0.1
