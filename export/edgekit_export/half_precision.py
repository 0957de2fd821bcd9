"""16-bit floats: a graph that computes in them, or that only stores its weights so.

What computes in 16 bits keeps float32 inputs and outputs, with a Cast at each; operators whose kernels want float32, or
that would lose what they are for, stay in float32 between Casts.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.quantized import Quantized, check_weights, judged
from edgekit_export.quiet import quiet
from edgekit_export.schemes import BFloat16, Float16
from edgekit_export.weights import weights
from edgekit_runtime.errors import QuantizationError
from edgekit_runtime.session import SessionConfig, session_options

__all__ = ["has_half_kernels", "to_half"]

# Operators that stay in float32: positions and counts do not fit 16 bits, random numbers and ranges are made in the type
# that an attribute names, and the Q/DQ of a mixture has float32 scales.
FLOAT32_OPERATORS = frozenset(
    {
        *("Range", "CumSum", "TopK", "NonMaxSuppression", "RoiAlign", "Resize", "Upsample", "GridSample", "MaxUnpool"),
        *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "EyeLike"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConstantOfShape", "Constant", "OneHot"),
        *("DFT", "STFT", "MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow", "Det", "MatMulIntegerToFloat"),
        *("DynamicQuantizeMatMul", "BatchNormalization"),
    }
)
# onnxruntime 1.31 on x86 crashes in its NchwcTransformer where Casts stand around them.
RECURRENT = frozenset({"GRU", "LSTM", "RNN", "DynamicQuantizeLSTM"})
LARGEST_HALF = 65504.0


def to_half(graph: Graph, scheme: Float16 | BFloat16) -> Quantized:
    """The graph in 16-bit floats; what is integer already stays so.

    Values beyond float16's 65 504, attention masks for one, become 65 504.

    Raises:
        QuantizationError: The graph has no weight to store, has weights in another format than float32, or has subgraphs or, to
            compute in 16 bits, recurrent layers.
    """
    wanted = weights(graph)
    if wanted or scheme.stored:
        check_weights(wanted, scheme.name, graph)
    recurrent = sorted(RECURRENT & graph.operators().keys())
    if recurrent and not scheme.stored:
        raise QuantizationError(
            f"{scheme.name}: onnxruntime has no 16-bit {' or '.join(recurrent)}, and version 1.31 dies of graphs that mix it with "
            f"16-bit layers; {scheme.name}-stored makes the file as small"
        )
    if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in _attributes(graph)):
        raise QuantizationError(f"{scheme.name}: the graph has branches or loops (If, Loop, Scan), which are left in float32 only")
    dtype = ir.DataType.FLOAT16 if isinstance(scheme, Float16) else ir.DataType.BFLOAT16
    convert = _store if scheme.stored else _compute
    after = graph.changed(scheme.name, lambda model: convert(model, dtype))
    kind = "float16" if isinstance(scheme, Float16) else "bfloat16"
    notes = []
    if not scheme.stored and not has_half_kernels(kind):
        notes.append(
            f"onnxruntime's CPU provider multiplies no {kind} matrices on this machine: here it casts, and computes in float32"
        )
    return judged(graph, after, scheme.name, wanted, notes, kind)


@cache
def has_half_kernels(kind: str, provider: str = "CPUExecutionProvider") -> bool:
    """Whether a provider multiplies matrices in a 16-bit float on this machine, by trying.

    Where it does not, onnxruntime's CPU provider puts Casts around float16 nodes and computes in float32, and refuses bfloat16.

    Args:
        kind: ``float16`` or ``bfloat16``.
        provider: Name of the execution provider; one that is not installed has none.
    """
    dtype = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}[kind]
    given = ir.Value(name="x", shape=ir.Shape([4, 8]), type=ir.TensorType(dtype))
    inner = ir.Graph([given], [], nodes=[], opset_imports={"": 17}, name="probe")
    weight = add_initializer(inner, "w", np.ones((8, 8), dtype.numpy()))
    product = ir.node("MatMul", [given, weight], name="product")
    product.outputs[0].name, product.outputs[0].type, product.outputs[0].shape = "y", ir.TensorType(dtype), ir.Shape([4, 8])
    inner.append(product)
    inner.outputs.append(product.outputs[0])
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path, seen = Path(folder) / "probe.onnx", Path(folder) / "seen.onnx"
        ir.save(ir.Model(inner, ir_version=10), path)
        options = session_options(SessionConfig())
        options.optimized_model_filepath = str(seen)
        try:
            with quiet():
                ort.InferenceSession(path, options, providers=[provider], enable_fallback=0)
        except Exception:  # noqa: BLE001 - onnxruntime raises a dozen unrelated types where a provider or a kernel is missing
            return False
        return not any(node.op_type == "Cast" for node in ir.load(seen).graph)


def _attributes(graph: Graph) -> list[ir.Attr]:
    return [attribute for node in graph.model.graph.all_nodes() for attribute in node.attributes.values()]


def _store(model: ir.Model, dtype: ir.DataType) -> str:
    """Float weights in 16 bits with a Cast behind each, which onnxruntime does once, when it opens the model."""
    graph, count = model.graph, 0
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        # Scalars and small vectors gain nothing, and some operators want them constant.
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2 or not value.uses():
            continue
        stored = add_initializer(graph, f"{value.name}_{dtype.name.lower()}", _narrowed(tensor.numpy(), dtype))
        cast = _cast(stored, ir.DataType.FLOAT, f"{value.name}_float32")
        _insert_first(graph, cast)
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del graph.initializers[str(value.name)]
        count += 1
    return f"{count} weights stored in {dtype.name.lower()}"


def _compute(model: ir.Model, dtype: ir.DataType) -> str:
    """Everything in 16 bits that may; a Cast wherever the type changes."""
    graph = model.graph
    narrow: dict[ir.Value, ir.Value] = {}  # a float32 value's 16-bit twin
    wide: dict[ir.Value, ir.Value] = {}  # a 16-bit value's float32 twin
    halves: set[ir.Value] = set()
    count = 0
    for node in list(graph):
        if node.op_type == "Cast":
            if node.attributes["to"].as_int() == ir.DataType.FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", dtype)
                node.outputs[0].type = ir.TensorType(dtype)
                halves.add(node.outputs[0])
            continue
        stays = node.op_type in FLOAT32_OPERATORS or node.op_type.startswith("QLinear")
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if stays and value in halves:
                if value not in wide:
                    cast = _cast(value, ir.DataType.FLOAT, f"{value.name}_float32")
                    graph.insert_before(node, cast)
                    wide[value] = cast.outputs[0]
                node.replace_input_with(index, wide[value])
            elif not stays and value not in halves and value.dtype == ir.DataType.FLOAT:
                if value not in narrow:
                    narrow[value] = _narrow(graph, node, value, dtype)
                    halves.add(narrow[value])
                node.replace_input_with(index, narrow[value])
        if stays:
            continue
        count += 1
        for value in node.outputs:
            # What a contrib operator gives may be unknown: then it is what it takes.
            if value.dtype == ir.DataType.FLOAT or (value.dtype is None and any(given in halves for given in node.inputs)):
                value.type = ir.TensorType(dtype)  # a new one: copies of a graph share theirs
                halves.add(value)
    for index, value in enumerate(list(graph.outputs)):
        if value in halves:
            graph.outputs[index] = _widened_output(graph, value)
    for value in narrow:
        if value.is_initializer() and not value.uses() and not value.is_graph_output():
            del graph.initializers[str(value.name)]
    return f"{count} nodes compute in {dtype.name.lower()}"


def _narrow(graph: ir.Graph, before: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    if value.is_initializer() and value.const_value is not None:
        return add_initializer(graph, f"{value.name}_{dtype.name.lower()}", _narrowed(value.const_value.numpy(), dtype))
    cast = _cast(value, dtype, f"{value.name}_{dtype.name.lower()}")
    graph.insert_before(before, cast)
    return cast.outputs[0]


def _widened_output(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A float32 output by the old name; the 16-bit value takes another one."""
    name, producer = str(value.name), value.producer()
    assert producer is not None  # values in 16 bits are made by nodes
    value.name = f"{name}_16bit"
    cast = _cast(value, ir.DataType.FLOAT, name)
    graph.insert_after(producer, cast)
    return cast.outputs[0]


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": dtype}, name=f"{name}_cast")
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = name, ir.TensorType(dtype), value.shape
    return node


def _insert_first(graph: ir.Graph, node: ir.Node) -> None:
    first = next(iter(graph), None)
    if first is None:
        graph.append(node)
    else:
        graph.insert_before(first, node)


def _narrowed(array: np.ndarray, dtype: ir.DataType) -> np.ndarray:
    if dtype == ir.DataType.FLOAT16:
        # What is finite stays finite.
        array = np.where(np.isfinite(array), np.clip(array, -LARGEST_HALF, LARGEST_HALF), array)
    return array.astype(dtype.numpy())
