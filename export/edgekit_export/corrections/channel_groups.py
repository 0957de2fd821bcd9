"""Channel groups: tensors whose channels can be scaled together without changing what the graph computes.

Between layers that give a tensor and layers that read it, ReLU, residual additions and pooling let a positive factor for each
channel pass. So the layers that give may divide their rows by it if the layers that read multiply their columns by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgekit_export.corrections.layers import Layer, bias_of, constant, layers_of, set_initializer

__all__ = ["ChannelGroup", "channel_groups", "scale_group", "unclip_group"]

# f(s·x) = s·f(x) for positive s, channel by channel.
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


@dataclass
class ChannelGroup:
    """Tensors that share factors.

    Attributes:
        tensors: Their names.
        givers: Layers that give one of them.
        readers: Layers that read one of them.
        constants: Nodes that add a constant to one of them, with it; not the biases of givers.
        clips: Upper bounds of clips from zero inside the group, by the name of the clip's output.
        fixed: Whether something else gives or reads one of them, so that no factor is allowed.
    """

    tensors: set[str] = field(default_factory=set)
    givers: list[Layer] = field(default_factory=list)
    readers: list[Layer] = field(default_factory=list)
    constants: list[tuple[str, str]] = field(default_factory=list)
    clips: dict[str, float] = field(default_factory=dict)
    fixed: bool = False


def channel_groups(model: ir.Model) -> list[ChannelGroup]:
    """The groups that allow factors, in the graph's order."""
    return [group for group in _Search(model).groups() if not group.fixed and group.givers and group.readers]


def scale_group(model: ir.Model, group: ChannelGroup, factors: np.ndarray) -> None:
    """Divides what a group's tensors hold by `factors`, (channels,), in place; what the graph computes stays."""
    nodes = {str(node.name): node for node in model.graph}
    for layer in group.givers:
        node = nodes[layer.name]
        weight = _array(node.inputs[1])
        shape = [1] * weight.ndim
        shape[1 if layer.transposed else 0] = -1
        bias = bias_of(node) if layer.operator != "MatMul" else None
        _replace(model, node, 1, weight / factors.reshape(shape))
        if bias is not None:
            _replace(model, node, 2, _array(bias[1]) / factors)
    for layer in group.readers:
        node = nodes[layer.name]
        weight = _array(node.inputs[1])
        if layer.operator == "Conv":
            inputs = factors.reshape(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
            split = weight.reshape(layer.groups, -1, *weight.shape[1:])
            _replace(model, node, 1, (split * inputs).reshape(weight.shape))
        else:
            _replace(model, node, 1, weight * (factors[:, None] if layer.transposed else factors))
    for name, value in group.constants:
        node = nodes[name]
        (index,) = [index for index, used in enumerate(node.inputs) if used is not None and used.name == value]
        _replace(model, node, index, _array(node.inputs[index]) / factors)


def unclip_group(model: ir.Model, group: ChannelGroup) -> None:
    """Makes the group's clips ReLUs, in place."""
    for node in list(model.graph):
        output = node.outputs[0]
        if node.op_type == "Clip" and output.name in group.clips:
            relu = ir.node("Relu", [node.inputs[0]], name=node.name)
            ir.convenience.replace_nodes_and_values(model.graph, node, [node], [relu], [output], relu.outputs)


class _Search:
    def __init__(self, model: ir.Model) -> None:
        self._parents: dict[str, str] = {}
        self._layers = {layer.name: layer for layer in layers_of(model)}
        self._notes: list[tuple[str, str, object]] = []
        self._fixed: set[str] = {str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)}
        weights = [layer.weight for layer in self._layers.values()]
        self._shared = {name for name in weights if weights.count(name) > 1}
        main = {id(node) for node in model.graph}
        for node in model.graph.all_nodes():
            self._visit(node, inner=id(node) not in main)

    def groups(self) -> Iterator[ChannelGroup]:
        found: dict[str, ChannelGroup] = {}
        pooled: set[str] = set()
        for name in list(self._parents):
            group = found.setdefault(self._root(name), ChannelGroup())
            group.tensors.add(name)
            group.fixed = group.fixed or name in self._fixed
        for kind, name, thing in self._notes:
            group = found[self._root(name)]
            if kind == "giver" and isinstance(thing, Layer):
                group.givers.append(thing)
            elif kind == "reader" and isinstance(thing, Layer):
                group.readers.append(thing)
            elif kind == "clip" and isinstance(thing, float):
                group.clips[name] = thing
            elif kind == "constant" and isinstance(thing, tuple):
                group.constants.append(thing)
            pooled = pooled | {self._root(name)} if kind == "pool" else pooled
        for root, group in found.items():
            # Channels are axis 1 for convolutions and pools, the last axis for products: where both meet, they are not the same.
            kinds = {layer.channel_axis for layer in (*group.givers, *group.readers)} | ({1} if root in pooled else set())
            group.fixed = group.fixed or len(kinds) > 1
            yield group

    def _visit(self, node: ir.Node, *, inner: bool) -> None:
        tensors = [str(value.name) for value in node.inputs if value is not None and not value.is_initializer()]
        tensors += [str(value.name) for value in node.outputs if value.name]
        for name in tensors:
            self._parents.setdefault(name, name)
        layer = self._layers.get(str(node.name))
        if inner or len(node.outputs) != 1:
            self._fixed.update(tensors)
        elif layer is not None and layer.weight not in self._shared and self._bias_known(node, layer):
            self._notes += [("reader", layer.input, layer), ("giver", layer.output, layer)]
        elif node.domain == "" and self._passes(node):
            for name in tensors:
                self._parents[self._root(name)] = self._root(tensors[-1])
        else:
            self._fixed.update(tensors)

    def _passes(self, node: ir.Node) -> bool:
        output = str(node.outputs[0].name)
        if node.op_type == "Clip":
            low, high = (constant(node.inputs[index]) if index < len(node.inputs) else None for index in (1, 2))
            if low is None or low.size != 1 or float(low.item()) != 0.0:
                return False
            bounded = len(node.inputs) > 2 and node.inputs[2] is not None
            if bounded and (high is None or high.size != 1):
                return False
            if high is not None and np.isfinite(high.item()):
                self._notes.append(("clip", output, float(high.item())))
            return True
        if node.op_type == "Add":
            return self._added(node, output)
        if node.op_type == "PRelu":
            return constant(node.inputs[1]) is not None
        if node.op_type in POOLS:
            self._notes.append(("pool", output, None))
            return True
        return node.op_type in HOMOGENEOUS

    def _added(self, node: ir.Node, output: str) -> bool:
        first, second = node.inputs[0], node.inputs[1]
        if first is None or second is None:
            return False
        if not first.is_initializer() and not second.is_initializer():
            return first.shape is not None and second.shape is not None and _alike(first.shape, second.shape)
        value, tensor = (first, second) if first.is_initializer() else (second, first)
        array, giver = constant(value), tensor.producer()
        # A constant along the last axis is one for each channel behind a product only.
        layer = None if giver is None else self._layers.get(str(giver.name))
        if (
            array is None
            or layer is None
            or layer.operator == "Conv"
            or array.size != layer.outputs
            or array.shape[-1] != array.size
        ):
            return False
        self._notes.append(("constant", output, (str(node.name), str(value.name))))
        return True

    def _bias_known(self, node: ir.Node, layer: Layer) -> bool:
        return layer.operator == "MatMul" or len(node.inputs) < 3 or node.inputs[2] is None or layer.bias is not None

    def _root(self, name: str) -> str:
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name


def _alike(first: ir.Shape, second: ir.Shape) -> bool:
    """Whether two tensors are added without repeating one of them along an axis of known size."""
    return len(first) == len(second) and all(
        one == two for one, two in zip(first, second, strict=True) if isinstance(one, int) or isinstance(two, int)
    )


def _array(value: ir.Value | None) -> np.ndarray:
    array = constant(value)
    if array is None:  # the search takes layers with constants only
        raise TypeError(f"{value} is no float32 constant")
    return array.astype(np.float64)


def _replace(model: ir.Model, node: ir.Node, index: int, array: np.ndarray) -> None:
    value = node.inputs[index]
    if value is not None:
        set_initializer(model, value, node, array.astype(np.float32))
