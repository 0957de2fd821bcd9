"""New constants for a graph."""

import numpy as np
import onnx_ir as ir

__all__ = ["add_initializer"]


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A constant of the graph with that name, or where it is taken, one like it."""
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(np.asarray(array), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
