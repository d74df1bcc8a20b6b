"""The language model's attention, read off the ONNX decoder: which earlier tokens each token looks at.

The fused operator gives no weights out. They follow from what goes into it and what it caches: queries before rotary
positions, keys after them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from facellava.model.decoder_config import DecoderConfig

__all__ = ["layer_attention", "open_with_queries", "queries"]

_FOLDER = "session.model_external_initializers_file_folder_path"


def queries(config: DecoderConfig) -> list[str]:
    """Names of every layer's packed queries, keys and values (1, S, (H + 2 KV) d) in the graph."""
    return [f"layers.{i}.qkv.out" for i in range(config.num_hidden_layers)]


def open_with_queries(path: Path, config: DecoderConfig, options: ort.SessionOptions) -> ort.InferenceSession:
    """A second session of a built decoder that also gives :func:`queries` out; its weights are mapped from one file."""
    import onnx  # here: whoever does not ask for attention starts without it

    model = onnx.load(str(path), load_external_data=False)
    for name in queries(config):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options.add_session_config_entry(_FOLDER, str(path.parent))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def layer_attention(
    packed: NDArray[np.float32], keys: NDArray[np.float32], config: DecoderConfig
) -> NDArray[np.float32]:
    """Attention (S, T) of one layer, the mean over its heads; every row sums to 1.

    Args:
        packed: (S, (H + 2 KV) d), of the last S tokens. keys: (KV, T, d), cached, of all T.
    """
    new, (groups, total, width) = len(packed), keys.shape
    heads = config.num_attention_heads
    asked = packed[:, : heads * width].reshape(new, heads, width).transpose(1, 0, 2)
    asked = _turned(asked, np.arange(total - new, total), config.rope_theta)
    scores = asked.reshape(groups, -1, width) @ keys.transpose(0, 2, 1) * width**-0.5
    scores = scores.reshape(heads, new, total)
    scores += np.where(np.triu(np.ones((new, total), bool), total - new + 1), np.float32(-np.inf), np.float32(0))
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).mean(0, dtype=np.float32)


def _turned(x: NDArray[np.float32], positions: NDArray[np.int64], theta: float) -> NDArray[np.float32]:
    """Rotary positions on (H, S, d), halves apart."""
    half = x.shape[-1] // 2
    angles = np.outer(positions, theta ** (-np.arange(half, dtype=np.float64) / half))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    one, other = x[..., :half], x[..., half:]
    return np.concatenate([one * cos - other * sin, other * cos + one * sin], -1)
