"""CLIP's image tower (ViT-B/16, 8-bit) as one of the face experts: what a large network sees in a whole crop. No torch.

The published file keeps its weights in the full 8-bit range. Processors without VNNI add two products of such weights
in 16 bits and saturate, so that one face would look different on different machines. Here the weights are halved and
their scales doubled: 7 bits, in which no sum saturates. Where nothing saturates, the picture's vector keeps a cosine of
.984 to .993 to the one of the published file (twelve portraits).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from facellava.model.prepared import prepared

SIZE, PATCHES, WIDTH, EMBEDDING = 224, 14, 768, 512
"""Pixels and patches a side, width of a patch's features, width of the whole picture's."""
PREPARED = "clip-vit-b16-7bit-1.onnx"
"""In the cache; the number rises when its making changes."""
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_EMBEDDING_OUTPUT, _PATCHES_OUTPUT = "image_embeds", "onnx::Gather_1524"


class ClipFeatures(NamedTuple):
    """patches float32 (g, g, 768) of the last layer; picture float32 (512,), of unit length."""

    patches: NDArray[np.float32]
    picture: NDArray[np.float32]


class ClipNetwork:
    """The tower behind one call.

    Args:
        path: the registered file ``clip-vit-b16``.
        threads: intra-operator threads.
        grid: patches a side of what is returned; divides 14.
    """

    def __init__(self, path: Path, threads: int, grid: int) -> None:
        assert PATCHES % grid == 0
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # the exporter's unused initialisers are no news
        self._grid = grid
        self._session = ort.InferenceSession(str(halved_once(path)), options, providers=["CPUExecutionProvider"])

    def __call__(self, crop: NDArray[np.uint8]) -> ClipFeatures:
        """Features of a crop (s, s, 3) RGB."""
        image = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        pixels = ((image - _MEAN) / _STD).transpose(2, 0, 1)[None]
        found = self._session.run([_EMBEDDING_OUTPUT, _PATCHES_OUTPUT], {"pixel_values": pixels})
        picture, tokens = (np.asarray(part)[0] for part in found)
        pool = PATCHES // self._grid
        patches = tokens[1:].reshape(self._grid, pool, self._grid, pool, WIDTH).mean((1, 3))
        return ClipFeatures(patches, picture / np.linalg.norm(picture))


def halved_once(path: Path) -> Path:
    """The halved model in the cache.

    Raises:
        NoSpace: the cache cannot be written.
    """
    return prepared(PREPARED, lambda: halved(path))


def halved(path: Path) -> bytes:
    """The file's model with its 8-bit weights in 7 bits (see above)."""
    import onnx  # here: it is needed once
    from onnx import numpy_helper

    model = onnx.load(str(path))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMulInteger":
            continue
        codes, zero = tensors[node.input[1]], tensors[node.input[3]]
        scale = tensors[node.input[1].removesuffix("_quantized") + "_scale"]
        assert not numpy_helper.to_array(zero).any(), "weights are symmetric, so that halving keeps zero"
        small = np.rint(numpy_helper.to_array(codes).astype(np.float32) / 2).astype(np.int8)
        codes.CopyFrom(numpy_helper.from_array(small, codes.name))
        doubled = numpy_helper.to_array(scale) * np.float32(2)
        scale.CopyFrom(numpy_helper.from_array(doubled.astype(np.float32), scale.name))
    return model.SerializeToString()
