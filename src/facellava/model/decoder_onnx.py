"""A LLaMA-family decoder as an ONNX graph, built from arrays: no torch, no tracing, no exporter.

The graph takes embeddings, so that visual tokens enter exactly as words do, and keeps keys and values as explicit
inputs and outputs, so that one prefix (a face) can be continued by many questions. Attention, rotary position and
root-mean-square norms are ONNX Runtime's fused operators (``com.microsoft`` domain).

Inputs: ``embeds`` float32 (B, S, D), ``positions`` int64 (K,) indices into S whose logits are wanted,
``seqlens`` int32 (B,) = past + S - 1, ``total`` int32 () = past + S, ``position_ids`` int64 (B, S) rotary positions,
``bias`` float32 (1, 1, S, P + S) added to the attention scores on top of the causal mask (zeros for plain text, minus
infinity between branches when several continuations of one prefix share a pass), ``past.{i}.{k,v}`` float32
(B, KV, P, d).
Outputs: ``logits`` float32 (B, K, V), ``present.{i}.{k,v}`` float32 (B, KV, P + S, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facellava.model.rotation import Rotated, Weights

Precision = Literal["fp32", "int8"]
Scales = Literal["columns", "blocks"]
"""What 8-bit weights share a scale with: the whole output column, or a block of inputs."""
BLOCK, WIDE_BLOCK = 32, 128
"""Weights that share one scale; 32 keeps the embedding's own Q8_0 blocks of the base model exact. Wide ones are read
faster, and serve where a layer is wide enough."""

MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of a LLaMA-family decoder; names follow transformers' ``LlamaConfig``."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rope_theta: float
    rms_norm_eps: float
    max_position_embeddings: int = 2048

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def quantize_blocks(weight: NDArray[np.float32], block: int = BLOCK) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric 8-bit blocks along the input axis, as ``MatMulNBits`` reads them.

    Args:
        weight: (N, K), K a multiple of the block.

    Returns:
        uint8 (N, K / block, block) with zero point 128 and float32 (N, K / block) scales; error at most half a scale a
        weight.
    """
    n, k = weight.shape
    assert k % block == 0, f"input width {k} is not a multiple of {block}"
    blocks = weight.reshape(n, k // block, block)
    scales = _scales(blocks)
    codes = np.rint(blocks / scales[..., None]) + 128
    return codes.astype(np.uint8), scales


def quantize_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric 8-bit columns, as ``DynamicQuantizeMatMul`` reads them: (N, K) to int8 (K, N) and float32 (N,)."""
    scales = _scales(weight)
    return np.rint(weight / scales[:, None]).astype(np.int8).T, scales


def _scales(values: NDArray[np.float32]) -> NDArray[np.float32]:
    scales = np.abs(values).max(axis=-1) / 127.0
    return np.where(scales == 0, 1.0, scales).astype(np.float32)


def dequantize_blocks(codes: NDArray[np.uint8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse of :func:`quantize_blocks`: (..., K / 32, 32) codes and (..., K / 32) scales to (..., K)."""
    values = (codes.astype(np.float32) - 128.0) * scales[..., None]
    return values.reshape(*codes.shape[:-2], -1)


class _Graph:
    """Collects nodes and initialisers; large arrays go to the external data file as they come."""

    def __init__(self, precision: Precision, scales: Scales) -> None:
        self.precision: Precision = precision
        self.scales: Scales = scales
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def norm(self, name: str, x: str, weight: NDArray[np.float32], eps: float) -> str:
        scale = self.constant(f"{name}.weight", weight)
        return self.node(
            "SimplifiedLayerNormalization", [x, scale], [f"{name}.out"], axis=-1, epsilon=eps, stash_type=1
        )

    def add_norm(self, name: str, x: str, skip: str, weight: NDArray[np.float32], eps: float) -> tuple[str, str]:
        """(norm(x + skip), x + skip) in one pass."""
        scale = self.constant(f"{name}.weight", weight)
        outputs = [f"{name}.out", "", "", f"{name}.sum"]
        self.node("SkipSimplifiedLayerNormalization", [x, skip, scale], outputs, MICROSOFT, epsilon=eps)
        return f"{name}.out", f"{name}.sum"

    def linear(self, name: str, x: str, weight: NDArray[np.float32], scales: Scales) -> str:
        """x @ weight.T: in float, or in 8 bits with the given scales."""
        if self.precision == "fp32":
            return self.node("MatMul", [x, self.constant(f"{name}.weight", weight.T)], [f"{name}.out"])
        if scales == "columns":
            return self.columns(name, x, weight)
        return self.blocks(name, x, weight)

    def columns(self, name: str, x: str, weight: NDArray[np.float32]) -> str:
        codes, scales = quantize_columns(weight)
        zeros = np.zeros(len(weight), np.int8)
        constants = {"codes": codes, "scales": scales, "zeros": zeros}
        inputs = [x, *(self.constant(f"{name}.{part}", value) for part, value in constants.items())]
        return self.node("DynamicQuantizeMatMul", inputs, [f"{name}.out"], MICROSOFT)

    def blocks(self, name: str, x: str, weight: NDArray[np.float32]) -> str:
        n, k = weight.shape
        block = BLOCK if k % WIDE_BLOCK else WIDE_BLOCK
        codes, scales = quantize_blocks(weight, block)
        inputs = [x, self.constant(f"{name}.codes", codes), self.constant(f"{name}.scales", scales.reshape(-1))]
        sizes = {"K": k, "N": n, "bits": 8, "block_size": block, "accuracy_level": 4}
        return self.node("MatMulNBits", inputs, [f"{name}.out"], MICROSOFT, **sizes)


def _rotary(config: DecoderConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    angles = np.outer(np.arange(config.max_position_embeddings), frequency)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _layer(graph: _Graph, config: DecoderConfig, weights: Weights, i: int, x: str, res: str) -> tuple[str, str]:
    """One block: ``x`` is normalised, ``res`` the residual stream. Returns the MLP's output and the residual."""
    p, n = f"model.layers.{i}.", f"layers.{i}."
    qkv = np.concatenate([weights[f"{p}self_attn.{part}_proj.weight"] for part in "qkv"])
    packed = graph.linear(f"{n}qkv", x, qkv, graph.scales)
    positions = ["seqlens", "total", "rope.cos", "rope.sin", "position_ids", "bias"]
    attention = graph.node(
        "GroupQueryAttention",
        [packed, "", "", f"past.{i}.k", f"past.{i}.v", *positions],
        [f"{n}attention", f"present.{i}.k", f"present.{i}.v"],
        MICROSOFT,
        num_heads=config.num_attention_heads,
        kv_num_heads=config.num_key_value_heads,
        do_rotary=1,
        rotary_interleaved=0,
        scale=config.head_dim**-0.5,
    )
    out = graph.linear(f"{n}o", attention, weights[f"{p}self_attn.o_proj.weight"], graph.scales)
    h, res = graph.add_norm(f"{n}norm2", out, res, weights[f"{p}post_attention_layernorm.weight"], config.rms_norm_eps)
    gate = graph.linear(f"{n}gate", h, weights[f"{p}mlp.gate_proj.weight"], graph.scales)
    up = graph.linear(f"{n}up", h, weights[f"{p}mlp.up_proj.weight"], graph.scales)
    # x * sigmoid(alpha x) with alpha = 1 is SiLU.
    act = graph.node("QuickGelu", [gate], [f"{n}silu"], MICROSOFT, alpha=1.0)
    inner = graph.node("Mul", [act, up], [f"{n}inner"])
    # some products of gate and up are a hundred times as large as most: one scale for all would round those to nothing
    return graph.linear(f"{n}down", inner, weights[f"{p}mlp.down_proj.weight"], "blocks"), res


def build_decoder(
    config: DecoderConfig,
    weights: Weights,
    precision: Precision,
    *,
    scales: Scales = "blocks",
    progress: Callable[[int, int], None] | None = None,
) -> onnx.ModelProto:
    """The decoder as an ONNX model with its weights inside.

    Args:
        config: sizes.
        weights: Hugging Face names (``model.layers.0.self_attn.q_proj.weight``, ...), float32 (out, in).
        precision: ``fp32``, or ``int8``: weights and activations of 8 bits, in a turned frame (``rotation``).
        scales: of the 8-bit products whose input the turn makes even. Columns are read several times faster by
            processors that add 8-bit products without saturating; elsewhere they would give wrong sums.
        progress: called with (layers done, layers).
    """
    graph = _Graph(precision, scales)
    cos, sin = _rotary(config)
    graph.constant("rope.cos", cos)
    graph.constant("rope.sin", sin)
    eps, layers, res = config.rms_norm_eps, config.num_hidden_layers, "embeds"
    if precision == "int8":
        weights = Rotated(weights, config.head_dim)
        res = graph.node("MatMul", [res, graph.constant("turn", weights.turn)], ["turned"])
    x = graph.norm("layers.0.norm1", res, weights["model.layers.0.input_layernorm.weight"], eps)
    for i in range(layers):
        out, res = _layer(graph, config, weights, i, x, res)
        following = f"model.layers.{i + 1}.input_layernorm.weight" if i + 1 < layers else "model.norm.weight"
        x, res = graph.add_norm(f"layers.{i + 1}.norm1", out, res, weights[following], eps)
        if progress is not None:
            progress(i + 1, layers)
    last = graph.node("Gather", [x, "positions"], ["last"], axis=1)
    head = "lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"
    graph.linear("lm_head", last, weights[head], "blocks")
    graph.node("Identity", ["lm_head.out"], ["logits"])
    return _finish(graph, config)


def _finish(graph: _Graph, config: DecoderConfig) -> onnx.ModelProto:
    def value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    kv, d = config.num_key_value_heads, config.head_dim
    inputs = [
        value("embeds", TensorProto.FLOAT, ["B", "S", config.hidden_size]),
        value("positions", TensorProto.INT64, ["K"]),
        value("seqlens", TensorProto.INT32, ["B"]),
        value("total", TensorProto.INT32, []),
        value("position_ids", TensorProto.INT64, ["B", "S"]),
        value("bias", TensorProto.FLOAT, [1, 1, "S", "T"]),
    ]
    outputs = [value("logits", TensorProto.FLOAT, ["B", "K", config.vocab_size])]
    for i in range(config.num_hidden_layers):
        for part in "kv":
            inputs.append(value(f"past.{i}.{part}", TensorProto.FLOAT, ["B", kv, "P", d]))
            outputs.append(value(f"present.{i}.{part}", TensorProto.FLOAT, ["B", kv, "P + S", d]))
    proto = helper.make_graph(graph.nodes, "facellava_decoder", inputs, outputs, graph.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=9, producer_name="facellava")


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph to ``path`` and its weights to ``path`` + ``.data`` beside it (memory-mapped at load)."""
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=path.name + ".data",
        size_threshold=1024,
    )


def layer_names(config: DecoderConfig) -> Iterator[str]:
    """Names of every weight that :func:`build_decoder` reads (the head may be tied to the embedding)."""
    yield "model.embed_tokens.weight"
    yield "model.norm.weight"
    for i in range(config.num_hidden_layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight"
        yield p + "post_attention_layernorm.weight"
        yield from (f"{p}self_attn.{x}_proj.weight" for x in "qkvo")
        yield from (f"{p}mlp.{x}_proj.weight" for x in ("gate", "up", "down"))
