"""Fold BatchNormalization forward, into the convolutions or products behind it, or write it as a convolution.

Behind a ReLU a normalization cannot fold backward, as `fold_batchnorm` does: ``s · max(0, x) + t`` is no function of a scaled and
shifted ``x`` alone where s is negative, and needs a clamp at t where it is not. Left as it is, it costs a static int8 graph a round
trip through float, for which onnxruntime has no integer kernel.

Forward, ``W · (s x + t) + b = (W s) · x + (b + W · t)``, which is exact where every value that the convolution sees went through
the normalization. Zeros that it pads with did not: there only a normalization without shift folds. Means over positions may stand
between. What cannot fold, `batchnorm_as_convolution` writes as a depthwise convolution of size 1, which has an integer kernel.

Requires: constants as initializers. Ensures: the same function of the input up to float rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.rewiring import constant, producer_of, take_place_of

__all__ = ["batchnorm_as_convolution", "fold_batchnorm_forward"]


@dataclass(frozen=True)
class Affine:
    """``scale · x + shift`` by channel: both (channels,)."""

    scale: np.ndarray
    shift: np.ndarray


def fold_batchnorm_forward(graph: Graph) -> Graph:
    """The graph with normalizations folded into all that follows them, where that is exact."""

    def edit(model: ir.Model) -> str | None:
        folded = 0
        for node in [node for node in model.graph if node.op_type == "BatchNormalization"]:
            affine = _affine(node)
            takers = None if affine is None else _takers(node.outputs[0], affine)
            if affine is None or not takers:
                continue
            for taker, end in takers:
                end(taker, affine, model.graph)
            source = node.inputs[0]
            if source is not None:
                node.outputs[0].replace_all_uses_with(source)
            model.graph.remove(node, safe=True)
            folded += 1
        common.RemoveUnusedNodesPass()(model)
        return f"{folded} folded" if folded else None

    return graph.changed("fold BatchNormalization forward", edit)


def batchnorm_as_convolution(graph: Graph) -> Graph:
    """The graph with normalizations of (batch, channels, …) as depthwise convolutions of size 1.

    For static int8 only: where the graph stays float there, a normalization is the cheaper of the two.
    """

    def edit(model: ir.Model) -> str | None:
        written = 0
        for node in [node for node in model.graph if node.op_type == "BatchNormalization"]:
            affine, value = _affine(node), node.inputs[0]
            if affine is None or value is None or value.shape is None or not 3 <= len(value.shape) <= 5:
                continue
            channels, positions = len(affine.scale), len(value.shape) - 2
            weight = add_initializer(model.graph, f"{node.name}_weight", affine.scale.reshape(channels, *[1] * (positions + 1)))
            shift = add_initializer(model.graph, f"{node.name}_shift", affine.shift)
            convolution = ir.node(
                "Conv", [value, weight, shift], {"group": channels, "kernel_shape": [1] * positions}, name=node.name
            )
            model.graph.insert_before(node, convolution)
            take_place_of(node.outputs[0], convolution.outputs[0])
            model.graph.remove(node, safe=True)
            written += 1
        common.RemoveUnusedNodesPass()(model)
        return f"{written} as convolutions" if written else None

    return graph.changed("BatchNormalization as convolution", edit)


def _affine(node: ir.Node) -> Affine | None:
    """What a normalization does when it is not being trained."""
    arrays = [constant(value) for value in node.inputs[1:5]]
    if node.attributes.get_int("training_mode", 0) or len(node.outputs) != 1 or any(array is None for array in arrays):
        return None
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    scale = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    dtype = next(array.dtype for array in arrays if array is not None)
    return Affine(scale.astype(dtype), (bias - mean * scale).astype(dtype))


Fold = Callable[[ir.Node, Affine, ir.Graph], None]


def _takers(value: ir.Value, affine: Affine) -> list[tuple[ir.Node, Fold]] | None:
    """The nodes behind a value that can take an affine map in exactly, each with how; ``None`` where one of them cannot."""
    if value.is_graph_output():
        return None
    found: list[tuple[ir.Node, Fold]] = []
    for use in value.uses():
        node = use.node
        if _averages(node) and use.idx == 0:
            behind = _takers(node.outputs[0], affine)
            if behind is None:
                return None
            found += behind
            continue
        weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        bias_known = len(node.inputs) < 3 or node.inputs[2] is None or constant(node.inputs[2]) is not None
        if use.idx != 0 or weight is None or not bias_known or node.domain != "":
            return None
        if node.op_type == "Conv" and (not affine.shift.any() or not _pads(node)):
            found.append((node, _into_convolution))
        elif node.op_type == "Gemm" and not node.attributes.get_int("transA", 0) and weight.ndim == 2:
            found.append((node, _into_gemm))
        elif node.op_type == "MatMul" and weight.ndim == 2 and value.shape is not None and len(value.shape) == 2:
            found.append((node, _into_matmul))
        else:
            return None
    return found


def _averages(node: ir.Node) -> bool:
    """Whether a node takes means over positions, or drops axes of size 1 that such a mean left: an affine map passes both."""
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type == "ReduceMean":
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else np.asarray(node.attributes.get_ints("axes", []))
        return axes is not None and axes.size > 0 and bool((axes >= 2).all())
    if producer_of(node.inputs[0], "GlobalAveragePool") is None:
        return False
    if node.op_type == "Squeeze":
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        return axes is not None and bool((axes >= 2).all())
    return node.op_type == "Flatten" and node.attributes.get_int("axis", 1) == 1


def _pads(node: ir.Node) -> bool:
    """Whether a convolution adds zeros around its input."""
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return True
    return any(node.attributes.get_ints("pads", []))


def _into_convolution(node: ir.Node, affine: Affine, graph: ir.Graph) -> None:
    """Weight (out, in / groups, …): the input channels of group g are the g-th part of all."""
    weight = _weight(node)
    groups, outputs = node.attributes.get_int("group", 1), weight.shape[0]
    positions = [1] * (weight.ndim - 2)
    by_output = [np.repeat(array.reshape(groups, -1), outputs // groups, axis=0) for array in (affine.scale, affine.shift)]
    scale, shift = (array.reshape(*array.shape, *positions) for array in by_output)
    added = (weight * shift).reshape(outputs, -1).sum(axis=1)
    _put(node, weight * scale, added, graph)


def _into_gemm(node: ir.Node, affine: Affine, graph: ir.Graph) -> None:
    """``alpha · x W + beta · c``: the shift's part is put beside c, divided by what it will be multiplied with."""
    weight, transposed = _weight(node), node.attributes.get_int("transB", 0)
    scaled = weight * (affine.scale if transposed else affine.scale[:, None])
    added = node.attributes.get_float("alpha", 1.0) * ((weight if transposed else weight.T) @ affine.shift)
    _put(node, scaled, added / node.attributes.get_float("beta", 1.0), graph)


def _into_matmul(node: ir.Node, affine: Affine, graph: ir.Graph) -> None:
    weight = _weight(node)
    node.replace_input_with(1, add_initializer(graph, f"{node.name}_folded_weight", weight * affine.scale[:, None]))
    added = add_initializer(graph, f"{node.name}_folded_shift", weight.T @ affine.shift)
    sum_node = ir.node("Add", [node.outputs[0], added])
    graph.insert_after(node, sum_node)
    result = node.outputs[0]
    take_place_of(result, sum_node.outputs[0])
    sum_node.replace_input_with(0, result)


def _put(node: ir.Node, weight: np.ndarray, added: np.ndarray, graph: ir.Graph) -> None:
    """Gives a node a new weight, and a bias that is larger by `added`."""
    dtype = _weight(node).dtype
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    total = (added if bias is None else bias + added).astype(dtype)
    node.replace_input_with(1, add_initializer(graph, f"{node.name}_folded_weight", weight.astype(dtype)))
    value = add_initializer(graph, f"{node.name}_folded_bias", total)
    node.resize_inputs(3)
    node.replace_input_with(2, value)


def _weight(node: ir.Node) -> np.ndarray:
    weight = constant(node.inputs[1])
    if weight is None:
        raise ValueError(f"the weight of {node.op_type} {node.name} is no constant")
    return weight
