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
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facellava.model.decoder_config import DecoderConfig, Precision
from facellava.model.quantization import BLOCK, quantize_blocks, quantize_columns
from facellava.model.rotation import Rotated, Weights, within_mlp

MICROSOFT = "com.microsoft"


class _Graph:
    """Collects nodes and initialisers; large arrays go to the external data file as they come."""

    def __init__(self, precision: Precision) -> None:
        self.precision: Precision = precision
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

    def linear(self, name: str, x: str, weight: NDArray[np.float32]) -> str:
        """x @ weight.T: in float, or in 8 bits with a scale for every output."""
        if self.precision == "fp32":
            return self.node("MatMul", [x, self.constant(f"{name}.weight", weight.T)], [f"{name}.out"])
        codes, scales = quantize_columns(weight)
        constants = {"codes": codes, "scales": scales, "zeros": np.zeros(len(weight), np.int8)}
        inputs = [x, *(self.constant(f"{name}.{part}", value) for part, value in constants.items())]
        return self.node("DynamicQuantizeMatMul", inputs, [f"{name}.out"], MICROSOFT)

    def vocabulary(self, name: str, x: str, weight: NDArray[np.float32]) -> str:
        """As :meth:`linear`; in 8 bits with a scale for every block of inputs, since it reads one token at a time."""
        if self.precision == "fp32":
            return self.linear(name, x, weight)
        n, k = weight.shape
        codes, scales = quantize_blocks(weight)
        inputs = [x, self.constant(f"{name}.codes", codes), self.constant(f"{name}.scales", scales.reshape(-1))]
        sizes = {"K": k, "N": n, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        return self.node("MatMulNBits", inputs, [f"{name}.out"], MICROSOFT, **sizes)

    def by_rows(self, name: str, x: str, weight: NDArray[np.float32]) -> str:
        """As :meth:`linear` of an input with loud tokens, beside which one scale for all would drown the others."""
        if self.precision == "fp32":
            return self.linear(name, x, weight)
        sizes = self.node("Abs", [x], [f"{name}.sizes"])
        most = self.node("ReduceMax", [sizes], [f"{name}.most"], axes=[-1], keepdims=1)
        least = self.constant(f"{name}.least", np.array(np.finfo(np.float32).tiny))  # silence stays silent
        loudest = self.node("Max", [most, least], [f"{name}.loudest"])
        even = self.node("Div", [x, loudest], [f"{name}.even"])
        return self.node("Mul", [self.linear(name, even, weight), loudest], [f"{name}.restored"])

    def turn_groups(self, name: str, x: str, turn: NDArray[np.float32]) -> str:
        """x (B, S, K) with every group of g channels turned by (g, g)."""
        grouped = self.constant(f"{name}.grouped", np.array([0, 0, -1, len(turn)]))
        flat = self.constant(f"{name}.flat", np.array([0, 0, -1]))
        x = self.node("Reshape", [x, grouped], [f"{name}.groups"])
        x = self.node("MatMul", [x, self.constant(f"{name}.turn", turn)], [f"{name}.turned"])
        return self.node("Reshape", [x, flat], [f"{name}.joined"])


def _rotary(config: DecoderConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    angles = np.outer(np.arange(config.max_position_embeddings), frequency)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _layer(graph: _Graph, config: DecoderConfig, weights: Weights, i: int, x: str, res: str) -> tuple[str, str]:
    """One block: ``x`` is normalised, ``res`` the residual stream. Returns the MLP's output and the residual."""
    p, n = f"model.layers.{i}.", f"layers.{i}."
    qkv = np.concatenate([weights[f"{p}self_attn.{part}_proj.weight"] for part in "qkv"])
    packed = graph.linear(f"{n}qkv", x, qkv)
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
    out = graph.linear(f"{n}o", attention, weights[f"{p}self_attn.o_proj.weight"])
    h, res = graph.add_norm(f"{n}norm2", out, res, weights[f"{p}post_attention_layernorm.weight"], config.rms_norm_eps)
    gate = graph.linear(f"{n}gate", h, weights[f"{p}mlp.gate_proj.weight"])
    up = graph.linear(f"{n}up", h, weights[f"{p}mlp.up_proj.weight"])
    # x * sigmoid(alpha x) with alpha = 1 is SiLU.
    act = graph.node("QuickGelu", [gate], [f"{n}silu"], MICROSOFT, alpha=1.0)
    inner = graph.node("Mul", [act, up], [f"{n}inner"])
    if isinstance(weights, Rotated):
        inner = graph.turn_groups(f"{n}inner", inner, within_mlp(config.intermediate_size))
    return graph.by_rows(f"{n}down", inner, weights[f"{p}mlp.down_proj.weight"]), res


def build_decoder(
    config: DecoderConfig,
    weights: Weights,
    precision: Precision,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> onnx.ModelProto:
    """The decoder as an ONNX model with its weights inside.

    Args:
        config: sizes.
        weights: Hugging Face names (``model.layers.0.self_attn.q_proj.weight``, ...), float32 (out, in).
        precision: ``fp32``, or ``int8``: weights of 7 and activations of 8 bits, in a turned frame (``rotation``).
        progress: called with (layers done, layers).
    """
    graph = _Graph(precision)
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
    graph.vocabulary("lm_head", last, weights[head])
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
