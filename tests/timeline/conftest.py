"""The tiny language model behind the real face experts and the real front end, built once."""

from __future__ import annotations

import pytest
import tiny

from facellava import weights
from facellava.analyzer import Analyzer
from facellava.errors import WeightsUnavailable
from facellava.model.experts import WEIGHTS
from facellava.runtime.build import ensure_built
from facellava.runtime.onnx_engine import OnnxEngine


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Analyzer:
    try:
        for name in (*WEIGHTS, "face-mesh"):
            weights.resolve(name)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the face experts' weights: {error}")
    folder = tmp_path_factory.mktemp("model")
    gguf = tiny.write_gguf(folder / "tiny.gguf", tiny.language_weights())
    built = ensure_built(tiny.write_model(folder / "tiny"), folder, lambda _: gguf)
    return Analyzer(OnnxEngine(built, weights.resolve), weights.resolve)
