"""Following channels from operator to operator: what each weight does with the channels that come in and go out."""

from typing import Any

import numpy as np
import torch
from torch import fx

from edgekit_export.training.captured import Captured, operator_name, shape_of
from edgekit_export.training.channel_shapes import RULES, TensorCells, blank, fix_all
from edgekit_export.training.channels import NONE, Cells, Work

__all__ = ["follow"]

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
PRODUCTS = ("matmul", "bmm", "mm", "scaled_dot_product_attention")


def follow(captured: Captured) -> Cells:
    """Cells of all parameters, tied as the graph ties them, with the multiply-adds of its operators."""
    return _Flow(captured).run()


class _Flow:
    def __init__(self, captured: Captured) -> None:
        self.cells = Cells()
        self._captured = captured
        # A parameter that has several names goes by the first.
        module = captured.model.module
        first: dict[int, str] = {}
        stored = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
        self._names = {name: first.setdefault(id(value), name) for name, value in stored}
        self._parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        self._tensors: dict[fx.Node, TensorCells] = {}
        self._examples = _examples_in_feed(captured)

    def run(self) -> Cells:
        for node in self._captured.nodes:
            if node.op == "output":
                fix_all(self.cells, [self._tensors[given] for given in node.all_input_nodes if given in self._tensors])
                continue
            found = self._of(node)
            if found is not None:
                self._tensors[node] = found
        return self.cells

    def _of(self, node: fx.Node) -> TensorCells | None:
        if node.op == "get_attr":
            return self._stored(node)
        shape = shape_of(node)
        inputs = [self._tensors[given] for given in _tensor_arguments(node) if given in self._tensors]
        if shape is None:
            fix_all(self.cells, inputs)
            return None
        called = operator_name(node)
        if called in CONVOLUTIONS and self._is_parameter(node.args[1]):
            return self._convolution(node)
        if called == "linear" and self._is_parameter(node.args[1]):
            return self._linear(node)
        if called == "batch_norm":
            return self._batch_norm(node)
        if called == "embedding" and self._is_parameter(node.args[0]):
            table = self._tensors[node.args[0]]  # type: ignore[index]  # a node, as just checked
            fix_all(self.cells, [table[:1]])
            return [*blank(shape[:-1]), table[1]]
        if called in RULES and inputs:
            return RULES[called](self.cells, node, inputs)
        if called in PRODUCTS:
            self._count_product(node, shape)
        fix_all(self.cells, inputs)
        return blank(shape)

    def _stored(self, node: fx.Node) -> TensorCells:
        name = str(node.target)
        value = _attribute(self._captured.graph_module, name)
        if name not in self._parameters:
            return blank(tuple(value.shape))
        return [self.cells.of(self._names[name], axis, size) for axis, size in enumerate(value.shape)]

    def _is_parameter(self, given: Any) -> bool:
        return isinstance(given, fx.Node) and given.op == "get_attr" and str(given.target) in self._parameters

    def _convolution(self, node: fx.Node) -> TensorCells:
        given: Any = node.args[0]
        x, weight = self._tensors[given], self._tensors[node.args[1]]  # type: ignore[index]
        groups = node.args[6] if len(node.args) > 6 else 1
        shape = shape_of(node) or ()
        spatial = len(weight) - 2
        channels = x[-spatial - 1]
        out, into = weight[0], weight[1]
        assert channels is not None
        assert out is not None
        assert into is not None
        fix_all(self.cells, [weight[2:], x[-spatial:]])
        ties = [out, into]
        if groups == 1:
            self.cells.tie(channels, into)
        elif groups == len(channels) == len(out):  # depthwise
            self.cells.fix(into)
            self.cells.tie(channels, out)
            ties = [out]
        else:
            self.cells.fix(channels, out, into)
        self._tie_bias(node, out)
        kernel = int(np.prod([len(axis) for axis in weight[2:] if axis is not None]))
        constant = _count([*shape[: -spatial - 1], *shape[-spatial:]]) * kernel * (len(into) if len(ties) == 1 else 1)
        self._work(node.args[1], constant, ties)
        return [*x[: -spatial - 1], out, *blank(shape[-spatial:])]

    def _linear(self, node: fx.Node) -> TensorCells:
        given: Any = node.args[0]
        x, weight = self._tensors[given], self._tensors[node.args[1]]  # type: ignore[index]
        out, into, last = weight[0], weight[1], x[-1]
        assert out is not None
        assert into is not None
        if last is None:
            self.cells.fix(into)
        else:
            self.cells.tie(last, into)
        self._tie_bias(node, out)
        self._work(node.args[1], _count((shape_of(node) or ())[:-1]), [out, into])
        return [*x[:-1], out]

    def _batch_norm(self, node: fx.Node) -> TensorCells:
        given: Any = node.args[0]
        x = self._tensors[given]
        channels = x[1]
        for stored in node.args[1:5]:
            if not isinstance(stored, fx.Node):
                continue
            name = self._names.get(str(stored.target)) if stored.op == "get_attr" else None
            if channels is None or name is None:
                fix_all(self.cells, [self._tensors[stored], x])
            else:
                self.cells.tie(channels, self.cells.of(name, 0, len(channels)))
        return x

    def _tie_bias(self, node: fx.Node, out: np.ndarray) -> None:
        bias = node.args[2] if len(node.args) > 2 else None
        if isinstance(bias, fx.Node):
            own = self._tensors[bias][0]
            self.cells.tie(out, own if self._is_parameter(bias) and own is not None else np.full(len(out), NONE))

    def _count_product(self, node: fx.Node, shape: tuple[Any, ...]) -> None:
        given: Any = node.args[0]
        contracted = _count((shape_of(given) or (1,))[-1:])
        if operator_name(node) == "scaled_dot_product_attention":
            key: Any = node.args[1]
            keys = _count((shape_of(key) or (1, 1))[-2:-1])
            self._work(node, _count(shape[:-1]) * keys * (contracted + _count(shape[-1:])), [])
        else:
            self._work(node, _count(shape) * contracted, [])

    def _work(self, named: Any, constant: int, axes: list[np.ndarray]) -> None:
        name = self._names[str(named.target)] if named.op == "get_attr" else str(named.name)
        self.cells.work.append(Work(name, constant // self._examples, tuple(axes)))


def _tensor_arguments(node: fx.Node) -> list[fx.Node]:
    """Its inputs in order; one that is given twice counts twice."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


def _attribute(module: torch.nn.Module, name: str) -> torch.Tensor:
    path, _, attribute = name.rpartition(".")
    value: torch.Tensor = getattr(module.get_submodule(path), attribute)
    return value


def _count(sizes: Any) -> int:
    """Product of sizes; a free one counts as in the feed that the graph was captured on."""
    return int(np.prod([size if isinstance(size, int) else size.node.hint for size in sizes], dtype=np.int64))


def _examples_in_feed(captured: Captured) -> int:
    """Examples in that feed: the size of a free leading axis."""
    return next((captured.feed[name].shape[0] for name, axes in captured.dynamic.items() if 0 in axes), 1)
