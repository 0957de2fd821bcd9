"""Bias correction: the mean error of each output channel is taken off its bias.

Rounding and clipping do not average out: they shift the mean of a layer's outputs, channel by channel, and the shifts add up
through the network. Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction* (arXiv:1906.04721,
section 4.2 and appendix D), measure them on data, one layer after another, each with all layers before it corrected already:
measured all at once, a layer would make up again for what the layers before it make up for themselves.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.calibration.checked_feeds import Feed, checked
from edgekit_export.corrections.integer_bias import absorb
from edgekit_export.corrections.layers import Layer, layers_of
from edgekit_export.graph import Graph
from edgekit_runtime.errors import CalibrationError
from edgekit_runtime.session import SessionConfig, open_session

__all__ = ["correct_bias"]

SHIFT = "/shift"
# Depths that share a model which ends behind the last of them: one for each would be opened all the time, one for all runs on
# to the end of the network to correct its first layer.
STAGE = 8
# Positions of an example that its mean errors are taken over, evenly spread; neighbours say much the same.
POSITIONS = 1024
# Errors beyond this many median deviations of their channel count as if they lay there: six standard deviations of a normal one.
REACH = 9.0


@dataclass(frozen=True)
class _Target:
    """A layer of the float graph whose weight is integer in the quantized one."""

    layer: Layer
    depth: int

    @property
    def shift(self) -> str:
        """The probe's input for what is added to the layer's output."""
        return f"{self.layer.output}{SHIFT}"


def correct_bias(graph: Graph, quantized: Graph, feeds: Sequence[Feed]) -> Graph:
    """The quantized graph with biases that undo the mean error of each output channel.

    Integer biases are changed by whole steps of theirs, which are far below a step of the output; a MatMul's constant behind
    it is changed in float. Where there is no bias, one is added, unless that would tear apart two integer operators.

    Args:
        graph: The float graph that was quantized.
        quantized: What became of it, with Q/DQ nodes; its nodes have the names that they have in `graph`.
        feeds: A few feeds; they are run through once for each depth of the network.

    Returns:
        The quantized graph; unchanged where nothing in it corresponds to a layer of `graph`.

    Raises:
        CalibrationError: A feed does not fit, or cannot be run.
    """
    targets = _targets(graph, quantized)
    if not targets or not feeds:
        return quantized
    shifts = {target.shift: np.zeros(target.layer.outputs, np.float32) for target in targets}
    probe = _probe(quantized, targets)
    names = {target.layer.name: _output(quantized, target) for target in targets}
    depths = sorted({target.depth for target in targets})
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        wanted = _wanted(graph, targets, feeds, Path(folder) / "float.onnx")
        for start in range(0, len(depths), STAGE):
            stage = depths[start : start + STAGE]
            seen = [names[target.layer.name] for target in targets if target.depth in stage]
            opened = _Opened(_cut(probe, seen), Path(folder) / "probe.onnx")
            for depth in stage:
                level = [target for target in targets if target.depth == depth]
                means: dict[str, list[np.ndarray]] = {target.shift: [] for target in level}
                for index, feed in enumerate(feeds):
                    got = opened.values([names[target.layer.name] for target in level], {**feed, **shifts}, index)
                    for target, value in zip(level, got, strict=True):
                        errors = wanted[index][target.layer.name] - target.layer.thinned(value, POSITIONS)
                        means[target.shift].append(steady_mean(errors))
                for shift, each in means.items():
                    shifts[shift] = certain_mean(np.stack(each))

    def edit(model: ir.Model) -> str:
        nodes = {str(node.name): node for node in model.graph}
        done = sum(absorb(model, nodes[target.layer.name], shifts[target.shift]) for target in targets)
        left = f", {len(targets) - done} without a bias left as they are" if done < len(targets) else ""
        return f"{done} layers{left}"

    return quantized.changed("correct bias", edit)


def _targets(graph: Graph, quantized: Graph) -> list[_Target]:
    """In the graph's order, with depths: a layer lies deeper than all that it depends on."""
    integer = {
        str(node.name)
        for node in quantized.model.graph
        if len(node.inputs) > 1 and (weight := node.inputs[1]) is not None and _dequantized(weight)
    }
    layers = {layer.name: layer for layer in layers_of(graph) if layer.name in integer}
    depths: dict[str, int] = {}
    targets = []
    for node in graph.model.graph:
        depth = max((depths.get(str(value.name), 0) for value in node.inputs if value is not None), default=0)
        layer = layers.get(str(node.name))
        if layer is not None:
            depth += 1
            targets.append(_Target(layer, depth))
        depths.update({str(value.name): depth for value in node.outputs})
    return targets


def _dequantized(value: ir.Value) -> bool:
    node = value.producer()
    return (
        node is not None and node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].is_initializer()
    )


def _output(graph: Graph, target: _Target) -> str:
    (name,) = [node.outputs[0].name for node in graph.model.graph if node.name == target.layer.name]
    return str(name)


def _probe(quantized: Graph, targets: Sequence[_Target]) -> Graph:
    """The quantized graph with an input for each target that is added to its output, and the outputs before that to be read."""

    def edit(model: ir.Model) -> str:
        nodes = {str(node.name): node for node in model.graph}
        for target in targets:
            output = nodes[target.layer.name].outputs[0]
            shape = ir.Shape([target.layer.outputs, *[1] * (target.layer.values.ndim - 2)])
            shift = ir.Value(name=target.shift, shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
            model.graph.inputs.append(shift)
            shifted = ir.node("Add", [output, shift], name=f"shift {target.layer.name}")
            shifted.outputs[0].name = f"{output.name}/shifted"
            shifted.outputs[0].type = output.type
            model.graph.insert_after(nodes[target.layer.name], shifted)
            for use in list(output.uses()):
                if use.node is not shifted:
                    use.node.replace_input_with(use.idx, shifted.outputs[0])
            for index, given in enumerate(model.graph.outputs):
                if given is output:
                    model.graph.outputs[index] = shifted.outputs[0]
            output.type = output.type or ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(output)
        return f"{len(targets)} shifts"

    return quantized.changed("probe", edit)


def _cut(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with these tensors for outputs, and nothing that they do not need."""

    def edit(model: ir.Model) -> str:
        values = {value.name: value for node in model.graph for value in node.outputs}
        model.graph.outputs.clear()
        model.graph.outputs.extend(values[name] for name in names)
        common.RemoveUnusedNodesPass()(model)
        return f"{len(names)} outputs"

    return graph.changed("cut", edit)


def _wanted(graph: Graph, targets: Sequence[_Target], feeds: Sequence[Feed], path: Path) -> list[dict[str, np.ndarray]]:
    """What each layer gives in float, by feed and layer: (positions, outputs)."""
    names = [target.layer.output for target in targets]
    opened = _Opened(_cut(graph, names), path)
    found = []
    for index, feed in enumerate(checked(feeds, graph.inputs)):
        values = opened.values(names, feed, index)
        found.append(
            {
                target.layer.name: np.array(target.layer.thinned(value, POSITIONS))
                for target, value in zip(targets, values, strict=True)
            }
        )
    return found


class _Opened:
    """A graph opened for its outputs and what was shifted.

    Args:
        graph: With the tensors to read among its outputs.
        path: Where the model file is written.
    """

    def __init__(self, graph: Graph, path: Path) -> None:
        graph.save(path)
        # Basic optimization leaves Q and DQ as they are: exact on every processor, whatever its integer kernels do.
        self._session = open_session(path, config=SessionConfig(graph_optimization="basic")).session
        self._shapes = {value.name: value.shape for value in self._session.get_inputs() if value.name.endswith(SHIFT)}

    def values(self, names: list[str], feed: Feed, index: int) -> list[np.ndarray]:
        """The tensors on one feed; `index` is told in errors."""
        given = {name: array.reshape(self._shapes[name]) if name in self._shapes else array for name, array in feed.items()}
        try:
            return list(self._session.run(names, given))
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            reason = " ".join(str(error).split())[:200]
            raise CalibrationError(f"correct bias on example {index}: onnxruntime could not run it: {reason}") from error


def steady_mean(errors: np.ndarray) -> np.ndarray:
    """Mean of (positions, outputs), float64, where what lies far outside counts no more than the edge: (outputs,).

    A token whose activation is clipped is wrong by hundreds of steps. Its share of the tokens differs from text to text, so a bias
    that took it over would be wrong for all others, and by more than it was: MiniLM went from 15 dB to 8 dB so.
    """
    columns = np.ascontiguousarray(errors.T)
    middle = np.median(columns, axis=1, keepdims=True)
    reach = REACH * np.median(np.abs(columns - middle), axis=1, keepdims=True)
    return np.asarray(np.clip(columns, middle - reach, middle + reach).mean(axis=1, dtype=np.float64))


def certain_mean(differences: np.ndarray) -> np.ndarray:
    """The mean of (feeds, outputs) that is more than chance: (outputs,).

    Each channel's is shrunk by the share of its square that its own sampling variance explains (James and Stein's idea): what one
    feed says and the next denies would otherwise be built into the bias.
    """
    mean = differences.mean(axis=0)
    if len(differences) < 2:
        return np.asarray(mean, np.float32)
    variance = differences.var(axis=0, ddof=1) / len(differences)
    square = np.maximum(mean**2, np.finfo(np.float64).tiny)
    return np.asarray(mean * np.maximum(0.0, 1.0 - variance / square), np.float32)
