"""Embedding tables in 8 bits: a scale for each row, and plain ONNX operators to read them.

A lookup becomes ``Gather`` of int8 rows, ``Cast``, and ``Mul`` with the rows' gathered scales. Measured on a table of 30 522 × 384
with onnxruntime 1.31 (one x86 core, 128 and 1 024 lookups): float 20 and 96 µs, this 30 and 156 µs at 42.8 dB SQNR,
`GatherBlockQuantized` in blocks of 128 31 and 205 µs at 43.7 dB, one scale for the table 20 and 90 µs at 38.3 dB. The contrib
operator is slower and not in every build, and one scale for all rows is at the mercy of the largest row, so rows it is.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.weights import SMALLEST_TABLE_BYTES

__all__ = ["LEAST_SQNR_DB", "Tables", "integer_tables"]

# Rows whose largest entry dwarfs the others lose too much; 30 dB is an error of a thirtieth of the size of an entry.
LEAST_SQNR_DB = 30.0
LARGEST = 127


@dataclass(frozen=True)
class Tables:
    """What became of a graph's embedding tables.

    Attributes:
        graph: The graph with integer tables.
        converted: Names of the tables that are in 8 bits.
        kept: Names of those that stay float since 8 bits would lose too much, with the SQNR in dB that they would have.
    """

    graph: Graph
    converted: tuple[str, ...]
    kept: dict[str, float]


def integer_tables(graph: Graph, *, spared: Collection[str] = (), only: Collection[str] | None = None) -> Tables:
    """Stores the tables (at least 64 kB) that nothing but Gather reads in 8 bits, a scale a row.

    Requires: no table that a MatMul reads as well (`unshare_weights`); such a one stays, since it would not go away.

    Args:
        graph: Any graph; tables that are integers already stay as they are.
        spared: Names of Gather nodes whose tables stay float.
        only: Names of Gather nodes whose tables to convert; all where it is ``None``.
    """
    converted: list[str] = []
    kept: dict[str, float] = {}

    def edit(model: ir.Model) -> str | None:
        for table in list(model.graph.initializers.values()):
            readers = _readers(table, model.graph)
            names = {str(node.name) for node in readers}
            if not readers or names & set(spared) or (only is not None and not names <= set(only)):
                continue
            assert table.const_value is not None  # it has readers, so it is one
            rows, steps, decibels = _quantized(table.const_value.numpy())
            if decibels < LEAST_SQNR_DB:
                kept[str(table.name)] = decibels
                continue
            _read_integers(model.graph, table, readers, rows, steps)
            converted.append(str(table.name))
        return ", ".join(converted) if converted else None

    changed = graph.changed("integer tables", edit)
    return Tables(changed, tuple(converted), kept)


def _readers(value: ir.Value, graph: ir.Graph) -> list[ir.Node]:
    """The Gather nodes that read an embedding table; none where the value is not one, or something else reads it, too."""
    tensor, uses = value.const_value, list(value.uses())
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < SMALLEST_TABLE_BYTES or len(tensor.shape) != 2:
        return []
    reading = [
        node
        for node, index in uses
        if node.op_type == "Gather" and node.domain == "" and index == 0 and node.graph is graph and _axis(node) in (0, -2)
    ]
    narrow = tensor.shape[1] == 1  # the scales of a table that is integer already are such a column
    return [] if narrow or value.is_graph_output() or len(reading) < len(uses) else reading


def _axis(node: ir.Node) -> int:
    return node.attributes.get_int("axis", 0)


def _quantized(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows in int8, their scales as a column, and the SQNR in dB."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    steps = np.where(largest > 0, largest / LARGEST, 1.0).astype(np.float32)
    rows = np.clip(np.rint(table / steps), -LARGEST, LARGEST).astype(np.int8)
    noise = float(np.square(table - rows * steps, dtype=np.float64).sum())
    signal = float(np.square(table, dtype=np.float64).sum())
    return rows, steps, float(10 * np.log10(signal / noise)) if noise > 0 else np.inf


def _read_integers(graph: ir.Graph, table: ir.Value, readers: list[ir.Node], rows: np.ndarray, steps: np.ndarray) -> None:
    integers = add_initializer(graph, f"{table.name}_int8", rows)
    scales = add_initializer(graph, f"{table.name}_row_scale", steps)
    for reader in readers:
        # The first node keeps the name, by which a user or another scheme knows it.
        got = ir.node("Gather", [integers, reader.inputs[1]], {"axis": 0}, name=reader.name)
        wide = ir.node("Cast", [got.outputs[0]], {"to": ir.DataType.FLOAT}, name=f"{reader.name}_wide")
        scale = ir.node("Gather", [scales, reader.inputs[1]], {"axis": 0}, name=f"{reader.name}_scale")
        product = ir.node("Mul", [wide.outputs[0], scale.outputs[0]], name=f"{reader.name}_float")
        for node, dtype in ((got, ir.DataType.INT8), (wide, ir.DataType.FLOAT), (scale, ir.DataType.FLOAT)):
            node.outputs[0].name = f"{node.name}_rows"
            node.outputs[0].dtype = dtype
        ir.convenience.replace_nodes_and_values(
            graph, reader, [reader], [got, wide, scale, product], [reader.outputs[0]], [product.outputs[0]]
        )
    del graph.initializers[str(table.name)]
