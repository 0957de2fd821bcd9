"""Trace: a PyTorch module becomes a graph, by the first route that works, and is compared with the module."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.example_feeds import Dynamic, check_example, resized, tracing_sizes
from edgekit_export.graph import Graph
from edgekit_export.parity import SEEDS, Parity, check_parity, size_refused
from edgekit_export.routes import ROUTES, quiet_torch
from edgekit_export.torch_module import TorchModel
from edgekit_export.trace_errors import translate
from edgekit_export.user_code import error_chain
from edgekit_runtime.errors import ParityError, TraceError

__all__ = ["Traced", "trace"]


@dataclass(frozen=True)
class Traced:
    """A module as a graph.

    Attributes:
        graph: The graph, with named inputs, outputs and free axes.
        model: The module, callable on arrays.
        route: The export route that gave the graph.
        failed_routes: Why earlier routes did not, by name.
        parity: The comparison with the module; ``None`` where it was not asked for.
    """

    graph: Graph
    model: TorchModel
    route: str
    failed_routes: dict[str, str]
    parity: Parity | None


def trace(
    module: object,
    example: Mapping[str, np.ndarray],
    dynamic: Dynamic | None = None,
    outputs: Sequence[str] = (),
    *,
    parity: bool = True,
) -> Traced:
    """Exports a module.

    Args:
        module: A ``torch.nn.Module`` in eval mode.
        example: Arrays by the names of forward's parameters, in order.
        dynamic: Axes that may vary, ``{"image": {0: "batch"}}``.
        outputs: Output names, in order.
        parity: Compare the graph with the module, and take no route whose graph differs.

    Raises:
        RecipeError: The example, the names or the axes do not fit the module.
        TraceError: No route works; says which line of the module is in the way and what to change.
        ParityError: A route works, and its graph computes something else.
    """
    from edgekit_export.training.fake_quantized import FakeQuantized  # it traces itself
    from edgekit_export.training.own_weights import own_weights

    dynamic = dynamic or {}
    example = check_example(example, dynamic)
    if isinstance(module, FakeQuantized):  # what is deployed has its integers fixed
        module = module.frozen()
    model = TorchModel(module, example, outputs)
    sizes = _workable_sizes(model, example, dynamic)
    feed = resized(example, dynamic, sizes)
    shapes = _output_shapes(model, example, dynamic, sizes)
    failures: dict[str, Exception] = {}
    for route in ROUTES:
        try:
            with quiet_torch():
                exported = route.export(model, feed, dynamic)
            graph = own_weights(_named(exported, example, dynamic, shapes).noted("trace", route.name))
            found = _parity(graph, model, example, dynamic) if parity else None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - exporters raise dozens of unrelated types; every one is reported
            failures[route.name] = error
            continue
        reasons = {name: _one_line(error) for name, error in failures.items()}
        return Traced(graph, model, route.name, reasons, found)
    first = next(iter(failures.values()))
    if isinstance(first, (ParityError, TraceError)):
        raise first
    raise translate(first, model, feed, dynamic) from first


def _parity(graph: Graph, model: TorchModel, example: Mapping[str, np.ndarray], dynamic: Dynamic) -> Parity:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "traced.onnx"
        graph.save(path)
        return check_parity(path, model, example, dynamic)


def _named(
    model: ir.Model, example: Mapping[str, np.ndarray], dynamic: Dynamic, shapes: Mapping[str, Sequence[int | str]]
) -> Graph:
    """Gives inputs, outputs and free axes the recipe's names; exporters rename some of them."""
    # An output that is an input's or another output's own value gets a node, so that each can have its name.
    common.OutputFixPass()(model)
    graph = model.graph
    wanted, outputs = list(example), list(shapes)
    present = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(present) != len(wanted) or len(graph.outputs) != len(outputs):
        raise TraceError(
            f"trace: the graph has inputs {[value.name for value in present]} and outputs "
            f"{[value.name for value in graph.outputs]}, expected {wanted} and {outputs}; an input that forward() does not "
            "use, or one that it returns as it is, is dropped by the exporter: leave it out"
        )
    _step_aside(graph, {*wanted, *outputs})
    for value, name in zip(present, wanted, strict=True):
        value.name = name
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name
    for value in present:
        size = list(example[str(value.name)].shape)
        value.shape = ir.Shape([dynamic.get(str(value.name), {}).get(axis, size[axis]) for axis in range(len(size))])
    for value in graph.outputs:
        value.shape = ir.Shape(shapes[str(value.name)])
    # Shapes in between still carry the tracer's symbols, and are wrong for LSTM outputs: `prepare` infers them anew.
    for node in graph.all_nodes():
        for value in node.outputs:
            if value not in graph.outputs:
                value.shape = None
    return Graph(model)


def _step_aside(graph: ir.Graph, names: set[str]) -> None:
    """Renames inner values and weights that carry a name which an input or output is about to take, such as ``embedding``."""
    inner = [value for node in graph.all_nodes() for value in node.outputs if not value.is_graph_output()]
    inner += [value for part in (graph, *graph.subgraphs()) for value in (*part.initializers.values(), *part.inputs)]
    taken = {str(value.name) for value in inner} | names
    for value in inner:
        if value.name in names and value not in graph.inputs:
            name = f"{value.name}_inner"
            while name in taken:
                name += "_"
            taken.add(name)
            value.name = name


def _workable_sizes(model: TorchModel, example: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, int]:
    """Sizes to trace at: the first that forward() takes."""
    first: tuple[Mapping[str, int], Exception] | None = None
    for sizes in tracing_sizes(example, dynamic):
        try:
            model(resized(example, dynamic, sizes))
        except Exception as error:  # noqa: BLE001 - whatever forward() raises, it does not take this size
            first = first or (sizes, error)
        else:
            return sizes
    assert first is not None
    raise size_refused(model, ", ".join(f"{label}={size}" for label, size in first[0].items()), first[1]) from first[1]


def _output_shapes(
    model: TorchModel, example: Mapping[str, np.ndarray], dynamic: Dynamic, sizes: Mapping[str, int]
) -> dict[str, list[int | str]]:
    """Output shapes as the module shows them when one named axis after the other grows; exporters' own symbols say little.

    An output's axis that is as long as a named axis takes its name; one that varies in another way is named after the output.
    """
    small = model(resized(example, dynamic, sizes))
    shapes: dict[str, list[int | str]] = {name: list(array.shape) for name, array in small.items()}
    for seed in SEEDS:
        for name, array in model(resized(example, dynamic, sizes, seed)).items():
            for axis, (one, two) in enumerate(zip(small[name].shape, array.shape, strict=True)):
                if one != two:  # as long as the values make it
                    shapes[name][axis] = f"{name}_{axis}"
    for label, size in sizes.items():
        larger, grown = _grown(model, example, dynamic, sizes, label) or (size, small)
        for name, array in small.items():
            for axis, (one, two) in enumerate(zip(array.shape, grown[name].shape, strict=True)):
                if one != two:
                    follows = (one, two) == (size, larger) and isinstance(shapes[name][axis], int)
                    shapes[name][axis] = label if follows else f"{name}_{axis}"
    return shapes


def _grown(
    model: TorchModel, example: Mapping[str, np.ndarray], dynamic: Dynamic, sizes: Mapping[str, int], label: str
) -> tuple[int, dict[str, np.ndarray]] | None:
    """A larger size of one axis that forward() takes, and its outputs there; parity speaks where it takes none."""
    for larger in (sizes[label] + 1, 2 * sizes[label]):  # the double, since some take no odd sizes
        try:
            return larger, model(resized(example, dynamic, {**sizes, label: larger}))
        except Exception:  # noqa: BLE001, S112 - whatever forward() raises, it does not take this size
            continue
    return None


def _one_line(error: BaseException) -> str:
    innermost = list(error_chain(error))[-1]
    return " ".join(f"{type(innermost).__name__}: {innermost}".split())[:200]
