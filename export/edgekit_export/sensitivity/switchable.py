"""A switchable graph: one session that computes any choice of quantized nodes.

Every tensor that the scheme rounds becomes ``If(on, DequantizeLinear(QuantizeLinear(t)), t)``, and every node with rounded
constants ``If(on, node with them, node with the float ones)``; the ``on`` are inputs. `If` rather than `Where`, since it computes
one branch only, and since constants of a branch stay constants: kernels still pack them beforehand.

The numbers are those of the quantized graph in unfused integer semantics: nothing saturates, whatever the processor.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit_export.calibration import Histogram, ranges_from
from edgekit_export.graph import Graph
from edgekit_export.passes import batchnorm_as_convolution, unshare_weights
from edgekit_export.placement import place
from edgekit_export.quantize import quantize_static
from edgekit_export.schemes import StaticInt8
from edgekit_export.sensitivity.groups import Group, groups_of, rounded_by
from edgekit_export.sensitivity.rounding import Pair, Rounding, round_activations, round_tables, rounding_of
from edgekit_runtime.errors import QuantizationError, SessionError
from edgekit_runtime.session import SessionConfig, open_session, short_reason

__all__ = ["Switchable", "open_switchable", "switchable_graph"]

# What is measured is each pair by itself: onnxruntime must not fuse them into integer kernels.
UNFUSED = {"session.disable_quant_qdq": "1"}
SWITCHED = "_switched"


@dataclass(frozen=True)
class Switches:
    """A switchable graph's inputs: which tensor or node each of them rounds."""

    graph: Graph
    tensors: dict[str, str]
    nodes: dict[str, str]


class Switchable:
    """An open switchable graph.

    Args:
        graph: The float graph.
        rounding: What the scheme rounds.
        groups: Its groups.
        observed: Make every rounded tensor an output, for `run`'s `tensors`.
        threads: Intra-op threads; all that this process may use where left out.

    Attributes:
        groups: Groups of nodes.
        nodes: Names of all nodes that are in one.
        inputs: What it takes.
        outputs: What it gives.
        tensors: For the name of each tensor that the scheme rounds, what `run`'s `tensors` calls it.
    """

    def __init__(
        self, graph: Graph, rounding: Rounding, groups: Sequence[Group], *, observed: bool = False, threads: int | None = None
    ) -> None:
        self.groups = tuple(groups)
        self.nodes = tuple(name for group in groups if group.kind == "node" for name in group.nodes)
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        self._names = [spec.name for spec in graph.outputs]
        self._graph, self._rounding, self._threads = graph, rounding, threads
        self._switches = switchable_graph(graph, rounding, observed=observed)
        self.tensors = {name: name if name in self._names else f"{name}{SWITCHED}" for name in rounding.tensors}
        config = SessionConfig(threads=threads, entries=UNFUSED)
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = Path(folder) / "switchable.onnx"
            self._switches.graph.save(path)
            self._session = open_session(path, config=config).session
        self._sharers = _sharers(graph, rounding)
        self._all = (*self._switches.tensors.values(), *self._switches.nodes.values())
        self._touched = {group.name: rounded_by(graph, rounding, group.nodes) for group in groups}

    def observed(self) -> "Switchable":
        """The same with every rounded tensor among its outputs, which makes it slower and larger."""
        return Switchable(self._graph, self._rounding, self.groups, observed=True, threads=self._threads)

    def neighbours(self, one: Group, other: Group) -> bool:
        """Whether two groups write or read one rounded tensor."""
        return bool(self._touched[one.name] & self._touched[other.name])

    def closed_by(self, on: Collection[str]) -> frozenset[str]:
        """The switches that quantizing just the nodes `on` closes; choices that close the same ones compute the same.

        Raises:
            QuantizationError: A name is none of `nodes`.
        """
        if unknown := sorted(set(on) - set(self.nodes)):
            raise QuantizationError(f"sensitivity: {unknown[0]!r} is none of the nodes that the scheme quantizes")
        rounded = rounded_by(self._graph, self._rounding, on)
        # A weight is rounded for all of its nodes as soon as one of them is quantized.
        weighted = {other for name in on for other in self._sharers.get(name, (name,))}
        tensors = [switch for name, switch in self._switches.tensors.items() if name in rounded]
        return frozenset([*tensors, *(switch for name, switch in self._switches.nodes.items() if name in weighted)])

    def run(self, feed: Mapping[str, np.ndarray], on: Collection[str], tensors: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Runs the graph with just the nodes `on` quantized.

        Args:
            feed: The graph's inputs.
            on: Names of nodes; none is the float graph, `nodes` all of the scheme.
            tensors: Rounded tensors to get besides the outputs; needs an `observed` graph.

        Raises:
            QuantizationError: A name is none of `nodes`.
            SessionError: onnxruntime failed while running.
        """
        closed = self.closed_by(on)
        given = {**feed, **{switch: np.asarray(switch in closed) for switch in self._all}}
        names = [*self._names, *(self.tensors[name] for name in tensors)]
        try:
            return dict(zip((*self._names, *tensors), self._session.run(names, given), strict=True))
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            shapes = {name: list(array.shape) for name, array in feed.items()}
            raise SessionError(f"run the switchable graph with shapes {shapes}: {short_reason(error)}") from error


def open_switchable(
    graph: Graph,
    scheme: StaticInt8,
    histograms: Mapping[str, Histogram],
    *,
    threads: int | None = None,
) -> Switchable:
    """Builds and opens a graph in which each node of a scheme can be quantized by itself.

    Args:
        graph: A prepared float graph.
        scheme: The scheme; its corrections and spared nodes are left aside, since both are chosen by what is found here.
        histograms: What calibration saw of each tensor.
        threads: Intra-op threads.

    Raises:
        QuantizationError: Nothing of the graph can be quantized so.
    """
    # Integer tables and activations are other nodes in the quantized graph: they are looked at by themselves.
    plain = replace(scheme, corrections=(), spared=(), tables=False)
    graph = batchnorm_as_convolution(unshare_weights(graph))
    quantized = quantize_static(graph, plain, histograms, rewritten=False).graph
    rounding = rounding_of(graph, quantized)
    round_activations(graph, quantized, rounding)
    placed = place(graph, plain.placement, ranges_from(histograms, plain.method))
    if scheme.tables:
        round_tables(graph, rounding)
        placed = [*placed, *sorted(rounding.tables - set(placed))]
    return Switchable(graph, rounding, groups_of(graph, placed, rounding), threads=threads)


def switchable_graph(graph: Graph, rounding: Rounding, *, observed: bool = False) -> Switches:
    """The graph with a switch for each tensor and each node that `rounding` names."""
    taken = {spec.name for spec in graph.inputs}
    tensors = {name: _free(f"on_tensor_{index}", taken) for index, name in enumerate(rounding.tensors)}
    weighted = dict.fromkeys(name for name, _ in rounding.constants)
    nodes = {name: _free(f"on_node_{index}", taken) for index, name in enumerate(weighted)}

    def edit(model: ir.Model) -> str:
        inner = {str(node.name): node for node in model.graph}
        values = {str(value.name): value for value in (*model.graph.inputs, *_outputs(model.graph))}
        for name, switch in tensors.items():
            _switch_tensor(model.graph, values[name], _boolean(model.graph, switch), rounding, inner, observed)
        for name, switch in nodes.items():
            _switch_node(model.graph, inner[name], _boolean(model.graph, switch), rounding)
        model.graph.sort()
        return f"{len(tensors)} tensors and {len(nodes)} nodes"

    return Switches(graph.changed("make switchable", edit), tensors, nodes)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _outputs(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in graph for value in node.outputs]


def _boolean(graph: ir.Graph, name: str) -> ir.Value:
    switch = ir.val(name, ir.DataType.BOOL, ())
    graph.inputs.append(switch)
    return switch


def _switch_tensor(
    graph: ir.Graph, value: ir.Value, switch: ir.Value, rounding: Rounding, nodes: Mapping[str, ir.Node], observed: bool
) -> None:
    """Puts an If behind a tensor; those that read the rounded tensor read the If."""
    name = str(value.name)
    chain, last = [], value
    for index, pair in enumerate(rounding.tensors[name]):
        chain += _pair_nodes(pair, last, f"{name}_pair{index}")
        last = chain[-1].outputs[0]
    same = ir.node("Identity", [value], name=f"{name}_kept")
    for node in (chain[-1], same):
        node.outputs[0].name, node.outputs[0].type = f"{node.name}_out", value.type
    constants = list(dict.fromkeys(given for node in chain for given in node.inputs[1:] if given is not None))
    chosen = ir.Value(name=f"{name}{SWITCHED}", shape=value.shape, type=value.type)
    graph.append(_if(switch, ([same], []), (chain, constants), [chosen], f"{name}_switch"))
    for reader, index in rounding.readers.get(name, ()):
        nodes[reader].replace_input_with(index, chosen)
    if name in rounding.outputs:
        # The output keeps its name, so the tensor before it takes another.
        value.name, chosen.name = f"{name}_unrounded", name
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = chosen
    elif observed:
        graph.outputs.append(chosen)


def _pair_nodes(pair: Pair, value: ir.Value, name: str) -> list[ir.Node]:
    """QuantizeLinear and DequantizeLinear of one value; scale and zero point are new constants."""
    scale, zero_point = _initializer(f"{name}_scale", pair.scale), _initializer(f"{name}_zero", pair.zero_point)
    quantize = ir.node("QuantizeLinear", [value, scale, zero_point], {"axis": pair.axis}, domain=pair.domain, name=f"{name}_q")
    quantize.outputs[0].name = f"{name}_q_out"
    dequantize = ir.node(
        "DequantizeLinear", [quantize.outputs[0], scale, zero_point], {"axis": pair.axis}, domain=pair.domain, name=f"{name}_dq"
    )
    dequantize.outputs[0].name = f"{name}_dq_out"
    return [quantize, dequantize]


def _switch_node(graph: ir.Graph, node: ir.Node, switch: ir.Value, rounding: Rounding) -> None:
    """Puts a node into both branches of an If, with its float constants in one and its rounded ones in the other."""
    name = str(node.name)
    rounded = {index: value for (owner, index), value in rounding.constants.items() if owner == name}
    branches = []
    for kind, attributes in (("float", node.attributes), ("rounded", rounding.nodes.get(name, node).attributes)):
        inputs, constants = list(node.inputs), []
        for index in rounded:
            tensor = node.inputs[index].const_value if node.inputs[index] is not None else None  # type: ignore[union-attr]
            if kind == "rounded":
                tensor = ir.tensor(rounded[index], name=f"{name}_{kind}_{index}")
            assert tensor is not None
            inputs[index] = _initializer(f"{name}_{kind}_{index}", tensor)
            constants.append(inputs[index])
        outputs = [
            ir.Value(name=f"{name}_{kind}_out{index}", shape=value.shape, type=value.type)
            for index, value in enumerate(node.outputs)
        ]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(attributes.values()),
            outputs=outputs,
            name=f"{name}_{kind}",
            version=node.version,
        )
        branches.append(([copy], [value for value in constants if value is not None]))
    outputs = [ir.Value(name=value.name, shape=value.shape, type=value.type) for value in node.outputs]
    choice = _if(switch, branches[0], branches[1], outputs, f"{name}_switch")
    graph.insert_before(node, choice)
    for old, new in zip(list(node.outputs), outputs, strict=True):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = f"{old.name}_replaced"
    graph.remove(node, safe=True)


def _if(
    switch: ir.Value,
    otherwise: tuple[list[ir.Node], list[ir.Value]],
    then: tuple[list[ir.Node], list[ir.Value]],
    outputs: Sequence[ir.Value],
    name: str,
) -> ir.Node:
    branches = {}
    for label, (nodes, constants) in (("then_branch", then), ("else_branch", otherwise)):
        last = nodes[-1]
        body = ir.Graph([], list(last.outputs), nodes=nodes, initializers=constants, name=f"{name}_{label}")
        branches[label] = ir.AttrGraph(label, body)
    return ir.Node("", "If", [switch], list(branches.values()), outputs=list(outputs), name=name)


def _initializer(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)


def _sharers(graph: Graph, rounding: Rounding) -> dict[str, set[str]]:
    """For each node with rounded constants the nodes that share one with it, itself among them."""
    users: dict[str, set[str]] = {}
    for node in graph.model.graph:
        for index, value in enumerate(node.inputs):
            if value is not None and (str(node.name), index) in rounding.constants:
                users.setdefault(str(value.name), set()).add(str(node.name))
    sharers: dict[str, set[str]] = {}
    for names in users.values():
        for name in names:
            sharers.setdefault(name, set()).update(names)
    return sharers
