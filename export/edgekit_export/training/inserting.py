"""Inserting quantizers: a module becomes a fake-quantized one, with first steps from calibration data."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from edgekit_export.calibration.ranges import Method
from edgekit_export.example_feeds import Dynamic
from edgekit_export.schemes import FLAVOURS, Flavour
from edgekit_export.torch_module import as_tensors
from edgekit_export.training.batched_feeds import batched
from edgekit_export.training.batchnorm_folding import fold_batchnorm_into_weights
from edgekit_export.training.captured import Captured, capture, operator_name
from edgekit_export.training.fake_quantized import FakeQuantized
from edgekit_export.training.gates import silu_as_product
from edgekit_export.training.global_pool import means_as_pools, put_global_pools
from edgekit_export.training.quantized_layer import QuantizedLayer
from edgekit_export.training.quantizers import ActivationQuantizer, Grid, SameQuantizer
from edgekit_export.training.residency import Residency, clamp_of, decide
from edgekit_runtime.errors import CompressionError

__all__ = ["WEIGHTS", "quantization_aware"]

Weights = Literal["per-channel", "per-tensor"]
WEIGHTS: tuple[Weights, ...] = ("per-channel", "per-tensor")
# HardSigmoid slopes between −3 and 3 (Howard et al., arXiv:1905.02244); an even number of steps puts its middle on one.
KNEE = 3.0
GATE_STEPS = 254
NON_NEGATIVE = frozenset(["relu", "relu6", "sigmoid"])
# What exporters drop in eval mode, so that steps stated behind it would be stated twice.
DROPPED = frozenset(["dropout", "contiguous", "clone", "detach", "alias"])


def quantization_aware(
    module: nn.Module,
    example: Mapping[str, np.ndarray],
    calibration: Iterable[Mapping[str, np.ndarray]],
    dynamic: Dynamic | None = None,
    outputs: Sequence[str] = (),
    *,
    flavour: str = "u8s8",
    weights: Weights = "per-channel",
    method: Method = "mse",
    skip: Sequence[str] = (),
) -> FakeQuantized:
    """A copy of a module that computes in rounded integers and can be trained so.

    Args:
        module: It is left as it is.
        example: Arrays by the names of forward's parameters, in order.
        calibration: Feeds that give the first steps.
        dynamic: Axes that may vary.
        outputs: Output names, in order.
        flavour: Number formats, by the names of `FLAVOURS` with 8-bit activations.
        weights: Whether each output channel of a weight has a step of its own, or the whole weight one.
        method: How ranges are found in what calibration saw.
        skip: Submodules whose weights stay float, by name.

    Raises:
        TraceError: ``torch.export`` cannot follow the module.
        CalibrationError: There is no calibration data, or it does not fit.
        CompressionError: A setting is unknown, or there is nothing to quantize.
    """
    name = type(module).__name__
    formats = FLAVOURS.get(flavour)
    if formats is None or formats.activation not in ("u8", "s8") or weights not in WEIGHTS:
        known = [found.name for found in FLAVOURS.values() if found.activation in ("u8", "s8")]
        raise CompressionError(
            f"fake-quantize {name}: flavour {flavour!r} with weights {weights!r}; there are flavours {', '.join(known)} and "
            f"weights {', '.join(WEIGHTS)}"
        )
    if isinstance(module, FakeQuantized):
        raise CompressionError(f"fake-quantize {name}: it is fake-quantized already; give the float module")
    captured = capture(module, example, dynamic, outputs)
    fold_batchnorm_into_weights(captured.graph_module)
    graph = captured.graph_module.graph
    means_as_pools(graph)
    silu_as_product(graph)
    residency = decide(graph, _skipped(graph, module, skip))
    if not residency.weighted:
        raise CompressionError(
            f"fake-quantize {name}: it has no convolution of one or two axes and no Linear with a weight of its own to quantize"
        )
    fake = _Insertion(captured, residency, formats, per_channel=weights == "per-channel").done()
    with torch.no_grad():
        for feed in batched(calibration, captured.example, captured.dynamic):
            fake.observe(as_tensors(feed))
    fake.settle(method)
    return fake.train(module.training)


class _Insertion:
    """Works on one captured graph."""

    def __init__(self, captured: Captured, residency: Residency, flavour: Flavour, *, per_channel: bool) -> None:
        self._captured = captured
        self._residency = residency
        self._flavour = flavour
        self._per_channel = per_channel
        self._module = captured.graph_module
        self._graph = captured.graph_module.graph
        self._quantizers: dict[fx.Node, ActivationQuantizer] = {}
        # By the weight's name: the layer that came first, and its bias's name.
        self._first: dict[str, tuple[QuantizedLayer, str]] = {}

    def done(self) -> FakeQuantized:
        self._module.add_module("quantizers", nn.Module())
        self._module.add_module("layers", nn.Module())
        inputs = {node: self._input_of(node) for node in self._residency.weighted}
        for node in (*self._residency.rounded, *self._residency.edges):
            self._quantizers[node] = ActivationQuantizer(node.name, self._grid(node), self._clamp(node))
        layers = {node: self._layer(node, self._quantizers[source]) for node, source in inputs.items()}
        for node in self._residency.rounded:
            self._round(node, list(node.users))
        for node in self._residency.edges:
            self._round(node, [user for user in node.users if user in layers])
        for node, source in self._residency.same.items():
            self._state_again(node, self._quantizers[source])
        for node in self._residency.absorbed:
            assert isinstance(node.args[0], fx.Node)
            node.replace_all_uses_with(node.args[0])
            self._graph.erase_node(node)
        for node, layer in layers.items():
            self._put_layer(node, layer)
        self._release_dropout()
        put_global_pools(self._module)
        return self._assembled()

    def _input_of(self, node: fx.Node) -> fx.Node:
        """The tensor whose quantizer is that of a layer's input."""
        given: Any = node.args[0]
        source: fx.Node = self._residency.same.get(given, given)
        return source

    def _grid(self, node: fx.Node) -> Grid:
        readers = {operator_name(user) for user in node.users}
        low, high, dtype = (0, 255, torch.uint8) if self._flavour.activation == "u8" else (-128, 127, torch.int8)
        if node in self._residency.absorbed or operator_name(node) in NON_NEGATIVE:
            return Grid(low, high, dtype, low)
        if readers == {"hardswish"}:
            return Grid(low, high, dtype, None, start=-KNEE)
        if readers == {"hardsigmoid"}:
            return Grid(low, high, dtype, low + GATE_STEPS // 2, scale=2 * KNEE / GATE_STEPS)
        if operator_name(node) == "hardsigmoid":
            return Grid(low, high, dtype, low, scale=1 / GATE_STEPS)
        return Grid(low, high, dtype, None)

    def _clamp(self, node: fx.Node) -> tuple[float | None, float | None]:
        return (clamp_of(node) or (None, None)) if node in self._residency.absorbed else (None, None)

    def _weight_grid(self, node: fx.Node) -> Grid:
        shape = node.args[1].meta["val"].shape  # type: ignore[union-attr]
        groups = node.args[6] if operator_name(node) != "linear" and len(node.args) > 6 else 1
        depthwise = groups == shape[0] and shape[1] == 1
        if self._flavour.weight == "u8" and not depthwise:
            return Grid(1, 255, torch.uint8, 128)
        # onnxruntime has no fast kernel for unsigned depthwise weights.
        largest = 64 if self._flavour.reduced else 127
        return Grid(-largest, largest, torch.int8, 0)

    def _layer(self, node: fx.Node, quantizer: ActivationQuantizer) -> QuantizedLayer:
        weight, bias = (self._stored(given) for given in (node.args[1], node.args[2] if len(node.args) > 2 else None))
        assert weight is not None
        return QuantizedLayer(
            operator_name(node),
            tuple(node.args[3:]),
            weight,
            bias,
            quantizer,
            self._weight_grid(node),
            per_channel=self._per_channel,
        )

    def _stored(self, given: Any) -> torch.Tensor | None:
        if given is None:
            return None
        path, _, attribute = str(given.target).rpartition(".")
        value: torch.Tensor = getattr(self._module.get_submodule(path), attribute)
        return value

    def _round(self, node: fx.Node, users: list[fx.Node]) -> None:
        """Puts a tensor's quantizer between it and those who read it."""
        name = self._add("quantizers", node.name, self._quantizers[node])
        with self._graph.inserting_after(node):
            call = self._graph.call_module(name, (node,))
        call.meta["val"] = node.meta["val"]
        for user in users:
            user.replace_input_with(node, call)

    def _state_again(self, node: fx.Node, quantizer: ActivationQuantizer) -> None:
        """States the steps behind a reshape and the like, where integers are read from there on."""
        if operator_name(node) in DROPPED or not self._read_in_integers(node):
            return
        users = list(node.users)
        name = self._add("quantizers", f"{node.name}_again", SameQuantizer(quantizer))
        with self._graph.inserting_after(node):
            call = self._graph.call_module(name, (node,))
        call.meta["val"] = node.meta["val"]
        for user in users:
            user.replace_input_with(node, call)

    def _read_in_integers(self, node: fx.Node) -> bool:
        weighted, rounded = set(self._residency.weighted), set(self._residency.rounded)
        return any(
            user in weighted or user in rounded or (user in self._residency.same and self._read_in_integers(user))
            for user in node.users
        )

    def _put_layer(self, node: fx.Node, layer: QuantizedLayer) -> None:
        weight, bias = (str(getattr(given, "target", None)) for given in (node.args[1], (*node.args, None, None)[2]))
        if weight in self._first:  # a layer that is called twice: its weight and its steps are one
            first, its_bias = self._first[weight]
            layer.weight, layer.quantizer = first.weight, first.quantizer
            layer.bias = first.bias if bias == its_bias else layer.bias
        else:
            self._first[weight] = layer, bias
        name = self._add("layers", weight.removesuffix(".weight").replace(".", "_"), layer)
        with self._graph.inserting_before(node):
            call = self._graph.call_module(name, (node.args[0],))
        call.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(call)
        self._graph.erase_node(node)

    def _add(self, part: str, name: str, module: nn.Module) -> str:
        """Adds a module under a name that is still free there, and not one of torch's own; gives its path."""
        place = self._module.get_submodule(part)
        while hasattr(place, name):
            name += "_"
        place.add_module(name, module)
        return f"{part}.{name}"

    def _release_dropout(self) -> None:
        """Dropout as a module, so that it drops in training mode and only there."""
        for node in list(self._graph.nodes):
            if operator_name(node) != "dropout":
                continue
            name = f"{node.name}_in_training"
            self._module.add_module(name, nn.Dropout(float(node.args[1])))
            with self._graph.inserting_before(node):
                call = self._graph.call_module(name, (node.args[0],))
            call.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(call)
            self._graph.erase_node(node)

    def _assembled(self) -> FakeQuantized:
        structure: Any = self._module._out_spec
        # Inputs one by one, by the names of forward's parameters; outputs as the module packs them.
        self._graph.set_codegen(fx.graph.CodeGen())
        for node, name in zip(self._graph.find_nodes(op="placeholder"), self._captured.example, strict=True):
            node.target = name
        end = self._graph.output_node()
        end.args = (pytree.tree_unflatten(list(pytree.tree_leaves(end.args[0])), structure),)
        self._graph.eliminate_dead_code()
        self._graph.lint()
        network = fx.GraphModule(self._module, self._graph, class_name=type(self._captured.model.module).__name__)
        captured = self._captured
        return FakeQuantized(network, captured.example, captured.dynamic, captured.model.outputs, self._flavour)


def _skipped(graph: fx.Graph, module: nn.Module, skip: Sequence[str]) -> frozenset[fx.Node]:
    known = dict(module.named_modules())
    if missing := [name for name in skip if name not in known]:
        raise CompressionError(f"fake-quantize {type(module).__name__}: skip names {missing[0]!r}; it has no such submodule")
    return frozenset(
        node
        for node in graph.nodes
        if operator_name(node) in ("conv1d", "conv2d", "linear")
        and any(str(getattr(node.args[1], "target", "")).startswith(f"{name}.") for name in skip)
    )
