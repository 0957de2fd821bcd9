"""The tensors that a model file stores: initializers, Constant nodes, sparse ones, and data in files of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import onnx

__all__ = ["StoredTensor", "WeightTotals", "Weights", "dtype_name", "nodes_of", "tensors_of", "weigh"]

RENAMED = {"float": "float32", "double": "float64"}
INTEGER = ("int8", "uint8", "int4", "uint4", "int2", "uint2")
FLOAT = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "float4e2m1",
)


class StoredTensor(msgspec.Struct, frozen=True):
    """One tensor of a model file.

    Attributes:
        name: The value's name.
        dtype: Its dtype.
        shape: Its shape; ``(values,)`` where it is sparse.
        size_bytes: Its bytes, unpacked from protobuf's framing.
        in_constant_node: Whether a Constant node holds it and not an initializer.
        file: The file that holds its data, as the model names it; ``None`` where the model itself does.
        file_end: Where its data ends in that file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    in_constant_node: bool = False
    file: str | None = None
    file_end: int = 0

    @property
    def elements(self) -> int:
        """Number of values."""
        return prod(self.shape)


class WeightTotals(msgspec.Struct, frozen=True):
    """Tensors of one dtype: how many, their values and their bytes."""

    tensors: int
    elements: int
    size_bytes: int


class Weights(msgspec.Struct, frozen=True):
    """All stored tensors of a model.

    Attributes:
        by_dtype: Totals by dtype, most bytes first.
        size_bytes: Bytes in all.
        in_constant_nodes: What Constant nodes hold.
        in_external_files: What files beside the model hold.
        integer_share: Bytes of 8 bits and fewer over these and the float ones; ``None`` without either.
    """

    by_dtype: dict[str, WeightTotals]
    size_bytes: int
    in_constant_nodes: WeightTotals
    in_external_files: WeightTotals
    integer_share: float | None


def weigh(proto: onnx.ModelProto) -> Weights:
    """Adds up the stored tensors of a model."""
    stored = list(tensors_of(proto))
    groups: dict[str, list[StoredTensor]] = {}
    for tensor in stored:
        groups.setdefault(tensor.dtype, []).append(tensor)
    totals = sorted(((dtype, _total(group)) for dtype, group in groups.items()), key=lambda item: -item[1].size_bytes)
    integer = sum(total.size_bytes for dtype, total in totals if dtype in INTEGER)
    floating = sum(total.size_bytes for dtype, total in totals if dtype in FLOAT)
    return Weights(
        by_dtype=dict(totals),
        size_bytes=sum(total.size_bytes for _, total in totals),
        in_constant_nodes=_total([tensor for tensor in stored if tensor.in_constant_node]),
        in_external_files=_total([tensor for tensor in stored if tensor.file is not None]),
        integer_share=integer / (integer + floating) if integer + floating else None,
    )


def tensors_of(proto: onnx.ModelProto) -> Iterator[StoredTensor]:
    """Every stored tensor of a model, those of nested graphs and of functions included."""
    for graph in _graphs(proto.graph):
        for tensor in graph.initializer:
            yield _stored(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            yield _stored(sparse.values.name, sparse.values)
    for node in nodes_of(proto):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield from _constant(node)


def nodes_of(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, those of nested graphs and of functions included."""
    for graph in _graphs(proto.graph):
        yield from graph.node
    for function in proto.functions:
        for node in function.node:
            yield node
            for inner in _nested(node):
                for graph in _graphs(inner):
                    yield from graph.node


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in _nested(node):
            yield from _graphs(inner)


def _nested(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _constant(node: onnx.NodeProto) -> Iterator[StoredTensor]:
    name = node.output[0] if node.output else node.name
    for attribute in node.attribute:
        if attribute.name == "value":
            yield _stored(name, attribute.t, in_constant_node=True)
        elif attribute.name == "sparse_value":
            yield _stored(name, attribute.sparse_tensor.values, in_constant_node=True)
        elif attribute.name in ("value_float", "value_int"):
            dtype = "float32" if attribute.name == "value_float" else "int64"
            yield StoredTensor(name, dtype, (), bits(dtype) // 8, in_constant_node=True)
        elif attribute.name in ("value_floats", "value_ints"):
            dtype, values = ("float32", len(attribute.floats)) if attribute.floats else ("int64", len(attribute.ints))
            yield StoredTensor(name, dtype, (values,), values * bits(dtype) // 8, in_constant_node=True)


def _stored(name: str, tensor: onnx.TensorProto, in_constant_node: bool = False) -> StoredTensor:
    import onnx

    dtype = dtype_name(tensor.data_type)
    shape = tuple(tensor.dims)
    size_bytes = (prod(shape) * bits(dtype) + 7) // 8 if dtype != "string" else sum(map(len, tensor.string_data))
    file, end = None, 0
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = entries.get("location", "")
        offset, length = entries.get("offset", "0"), entries.get("length", "")
        end = (int(offset) if offset.isdigit() else 0) + (int(length) if length.isdigit() else size_bytes)
    return StoredTensor(name, dtype, shape, size_bytes, in_constant_node, file, end)


def dtype_name(elem_type: int) -> str:
    """Numpy's name, as far as numpy has one, of an ONNX element type."""
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    except ValueError:
        return f"type {elem_type}"
    return RENAMED.get(name, name)


def bits(dtype: str) -> int:
    """Bits of one value of `dtype`."""
    number = re.match(r"[a-z]+(\d+)", dtype)
    return int(number.group(1)) if number else 8


def _total(tensors: list[StoredTensor]) -> WeightTotals:
    return WeightTotals(len(tensors), sum(tensor.elements for tensor in tensors), sum(tensor.size_bytes for tensor in tensors))
