"""The visual half of the small default as an ONNX graph: experts' maps and landmarks to visual tokens.

Projector (eq. 1), FRLP (eq. 2-4) and FRGCA (eq. 5-6, ``fusion="paper"``), from the same weights that the torch modules
load. Inputs: ``maps`` float32 (T, N, C), ``landmarks`` float32 (T, 68, 2). Outputs: ``tokens`` float32 (N, D), the mean
over frames, ``attention`` float32 (T, H, N, 9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facellava.model.regions import N_POINTS, N_REGIONS, REGIONS, patch_centroids

Weights = Mapping[str, NDArray[np.float32]]
MICROSOFT = "com.microsoft"


class _Graph:
    """Nodes and initialisers with generated names."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def const(self, array: NDArray[np.generic] | np.generic | Sequence[int] | float) -> str:
        name = f"c{len(self.initializers)}"
        value = np.asarray(array)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        out = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], domain=domain, **attributes))
        return out

    def linear(self, name: str, x: str) -> str:
        product = self.op("MatMul", x, self.const(self.weights[f"{name}.weight"].T))
        return self.op("Add", product, self.const(self.weights[f"{name}.bias"]))

    def gelu(self, x: str) -> str:
        return self.op("Gelu", x, domain=MICROSOFT)

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.const(np.array(shape, np.int64)))

    def transpose(self, x: str, *perm: int) -> str:
        return self.op("Transpose", x, perm=list(perm))

    def cut(self, x: str, start: int, stop: int, axis: int) -> str:
        return self.op("Slice", x, *(self.const(np.array([v], np.int64)) for v in (start, stop, axis)))

    def standardise(self, x: str, name: str) -> str:
        centred = self.op("Sub", x, self.const(self.weights[f"tower.{name}_mean"]))
        scaled = self.op("Div", centred, self.const(self.weights[f"tower.{name}_std"]))
        return self.op("Clip", scaled, self.const(-4.0), self.const(4.0))


def _frlp(g: _Graph, landmarks: str) -> str:
    """Eq. 2-4: (T, 68, 2) to (T, 9, D)."""
    tokens = []
    for region in REGIONS:
        points = g.cut(landmarks, region.start, region.stop, 1)
        token = g.linear(f"frlp.regions.{region.name}", g.reshape(points, 0, 2 * region.size))
        tokens.append(g.op("Unsqueeze", token, g.const(np.array([1], np.int64))))
    whole = g.linear("frlp.whole", g.reshape(landmarks, 0, 2 * N_POINTS))
    whole = g.op("Unsqueeze", whole, g.const(np.array([1], np.int64)))
    return g.op("Add", g.op("Concat", *tokens, axis=1), whole)


def _proximity(g: _Graph, landmarks: str, grid: int) -> str:
    """Eq. 5: minus the distances of patch centres and region centroids, (T, 1, N, 9)."""
    average = np.zeros((N_REGIONS, N_POINTS))
    for i, region in enumerate(REGIONS):
        average[i, region.start : region.stop] = 1 / region.size
    centroids = g.op("MatMul", g.const(average), landmarks)
    centroids = g.reshape(centroids, 0, 1, N_REGIONS, 2)
    offsets = g.op("Sub", g.const(patch_centroids(grid)[None, :, None, :]), centroids)
    squares = g.op("Mul", offsets, offsets)
    summed = g.op("ReduceSum", squares, g.const(np.array([-1], np.int64)), keepdims=0)
    distances = g.op("Neg", g.op("Sqrt", summed))
    return g.op("Unsqueeze", distances, g.const(np.array([1], np.int64)))


def _frgca(g: _Graph, visual: str, regions: str, mask: str, heads: int, dim: int) -> tuple[str, str]:
    """Eq. 6 with ``heads`` heads: enriched tokens (T, N, D) and attention (T, H, N, 9)."""
    head_dim = dim // heads

    def split(x: str) -> str:
        return g.transpose(g.reshape(x, 0, -1, heads, head_dim), 0, 2, 1, 3)

    q, k = split(g.linear("frgca.query", visual)), split(g.linear("frgca.key", regions))
    v = split(g.linear("frgca.value", regions))
    scores = g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2))
    scores = g.op("Add", g.op("Mul", scores, g.const(head_dim**-0.5)), mask)
    attention = g.op("Softmax", scores, axis=-1)
    context = g.transpose(g.op("MatMul", attention, v), 0, 2, 1, 3)
    return g.op("Add", visual, g.linear("frgca.out", g.reshape(context, 0, -1, dim))), attention


def build_vision(weights: Weights, *, dim: int, heads: int, grid: int) -> onnx.ModelProto:
    """The graph described above.

    Args:
        weights: float32, named as the torch modules: ``projector.*``, ``frlp.*``, ``frgca.*``, ``tower.*``.
        dim: width of the language model; heads: of FRGCA; grid: patches a side.
    """
    g = _Graph(weights)
    patches = grid * grid
    visual = g.linear("projector.second", g.gelu(g.linear("projector.first", g.standardise("maps", "map"))))
    fused, attention = _frgca(g, visual, _frlp(g, "landmarks"), _proximity(g, "landmarks", grid), heads, dim)
    pooled = g.op("ReduceMean", fused, axes=[0], keepdims=0)
    for source, name in ((pooled, "tokens"), (attention, "attention")):
        g.nodes.append(helper.make_node("Identity", [source], [name]))

    def value(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    map_width = len(weights["tower.map_mean"])
    graph = helper.make_graph(
        g.nodes,
        "facellava_vision",
        [
            value("maps", ["T", patches, map_width]),
            value("landmarks", ["T", N_POINTS, 2]),
        ],
        [
            value("tokens", [patches, dim]),
            value("attention", ["T", heads, patches, N_REGIONS]),
        ],
        g.initializers,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="facellava")
