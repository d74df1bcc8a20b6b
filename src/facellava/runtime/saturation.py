"""Asks the processor whether its products of 8-bit numbers can be trusted."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from facellava.model.decoder_onnx import MICROSOFT, quantize_columns

_WIDTH, _ROWS = 64, 4


@cache
def products_saturate() -> bool:
    """Whether two products of an unsigned and a signed 8-bit number are cut off when they are added.

    x86 processors without VNNI add pairs in 16 bits; then 255 x 127 + 255 x 127 comes out as half of it. Others are
    exact. The largest numbers are multiplied and the sum is looked at.
    """
    codes, scales = quantize_columns(np.ones((_WIDTH, _WIDTH), np.float32))
    constants = {"codes": codes, "scales": scales, "zeros": np.zeros(_WIDTH, np.int8)}
    inits = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    node = helper.make_node("DynamicQuantizeMatMul", ["x", *constants], ["y"], domain=MICROSOFT)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [_ROWS, _WIDTH]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    graph = helper.make_graph([node], "probe", [x], [y], inits)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"x": np.ones((_ROWS, _WIDTH), np.float32)})
    return bool((np.asarray(sums) < 0.9 * _WIDTH).any())
