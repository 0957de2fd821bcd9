"""Handing a model to onnx's own C++ functions, which cannot take 2 GB: large weights stay behind and are put back afterwards."""

from collections.abc import Callable

import onnx
import onnx_ir as ir

__all__ = ["through_onnx"]

# Shapes, scales and axes, which those functions do read, are below this.
LARGE_BYTES = 4096


def through_onnx(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """What `function` makes of `model`, which stays as it is; large weights appear to it as inputs."""
    copy = model.clone()
    inputs = [value.name for value in copy.graph.inputs]
    large = {}
    for name, value in list(copy.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= LARGE_BYTES:
            continue
        large[name] = tensor
        value.shape, value.dtype, value.const_value = ir.Shape(tensor.shape.numpy()), tensor.dtype, None
        copy.graph.initializers.pop(name)
        if name not in inputs:
            copy.graph.inputs.append(value)
    result = ir.from_proto(function(ir.to_proto(copy)))
    for value in list(result.graph.inputs):
        if value.name in large:
            value.const_value = large[str(value.name)]
            if value.name not in inputs:
                result.graph.inputs.remove(value)
            result.graph.register_initializer(value)
    return result
