"""What quantizing gives, and the checks that every scheme's graph has to pass."""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.quiet import quiet
from edgekit_export.weights import Weight, float_weights
from edgekit_runtime.errors import QuantizationError, SessionError
from edgekit_runtime.fresh_process import run_in_fresh_process
from edgekit_runtime.model import load
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["UNASKED", "Quantized", "check_names", "check_weights", "judged", "load_test", "through_quantizer"]


UNASKED = "in float, since the scheme does not take them"


@dataclass(frozen=True)
class Quantized:
    """A quantized graph.

    Attributes:
        graph: It.
        left_float: Weights that stayed float.
        notes: What a user should know, in sentences.
        format: What weights are in: ``int8``, ``int4``, ``float16``, ``bfloat16``, or ``mixed`` where that is not one thing.
            Embedding tables are in 8 bits in all integer schemes and do not count.
    """

    graph: Graph
    left_float: tuple[Weight, ...]
    notes: tuple[str, ...]
    format: str = "int8"

    @property
    def kind(self) -> str:
        """The format where every weight has it, ``mixed`` where some stayed float."""
        return "mixed" if self.left_float else self.format


def check_names(graph: Graph, names: Collection[str], scheme: str) -> None:
    """Refuses names of nodes that the graph does not have.

    Raises:
        QuantizationError: There is no such node.
    """
    if unknown := sorted(set(names) - {str(node.name) for node in graph.model.graph}):
        raise QuantizationError(f"{scheme}: the graph has no node {unknown[0]!r}; names are those of the prepared graph")


def check_weights(wanted: Sequence[Weight], name: str, graph: Graph) -> None:
    """Refuses a graph without a weight that the scheme takes.

    Raises:
        QuantizationError: There is none, or they are not float32.
    """
    if not wanted:
        raise QuantizationError(f"{name}: no node that it takes has a constant weight; the graph has {graph.operators()}")
    if others := sorted({weight.dtype for weight in wanted} - {"float32"}):
        raise QuantizationError(
            f"{name}: the weights are {' and '.join(others)}, and onnxruntime quantizes float32 only; export the model in float32"
        )


def through_quantizer(graph: Graph, name: str, insert: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Graph:
    """The graph that one of onnxruntime's quantizers makes of a copy.

    Raises:
        QuantizationError: The quantizer failed; it says why.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "prepared.onnx"
        graph.save(path)
        try:
            with quiet():
                model = ir.from_proto(insert(onnx.load(path)))
        except MemoryError:
            raise
        except Exception as error:  # the quantizers raise whatever their innards do: ValueError, KeyError, AssertionError, …
            reason = " ".join(str(error).split())[:300]
            raise QuantizationError(f"{name}: onnxruntime's quantizer failed: {type(error).__name__}: {reason}") from error
    model.graph.sort()  # onnxruntime's quantizers append what they make
    return Graph(model, graph.changes)


def judged(
    before: Graph, after: Graph, name: str, wanted: Sequence[Weight], notes: Sequence[str] = (), kind: str = "int8"
) -> Quantized:
    """The result, with what became of the weights.

    Args:
        before: The float graph.
        after: What came of it.
        name: The scheme's name.
        wanted: Weights that the scheme takes.
        notes: What is known of it already.
        kind: Format of the weights that are not float.

    Raises:
        QuantizationError: All of the wanted weights are still float.
    """
    left = float_weights(before, after)
    forgotten = [weight for weight in left if weight in wanted]
    if wanted and len(forgotten) == len(wanted):
        raise QuantizationError(
            f"{name}: onnxruntime's quantizer left all {len(wanted)} weights in float without a word; the operators are "
            f"{sorted({weight.operator for weight in forgotten})}"
        )
    said = list(notes)
    if forgotten:
        said.append(f"onnxruntime's quantizer left {_listed(forgotten)} in float, which the scheme asked for")
    # Of tables that stay the notes say why.
    others = [weight for weight in left if weight not in wanted and not any(weight.name in note for note in notes)]
    if others:
        said.append(f"{UNASKED}: {_listed(others)}")
    return Quantized(after.noted("quantize", name), tuple(left), tuple(said), kind)


def load_test(quantized: Quantized, name: str, sample: Sequence[Mapping[str, np.ndarray]] = ()) -> Quantized:
    """The same, once onnxruntime's CPU provider has opened it and run it on the first feed, in a process of its own.

    There are graphs that onnxruntime does not refuse but dies of. Without a feed it is only opened, and in this process.

    Raises:
        QuantizationError: It does not open or run; says which scheme, and onnxruntime's reason.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "quantized.onnx"
        quantized.graph.save(path)
        try:
            if sample:
                run_in_fresh_process(path, dict(sample[0]), Provider(), SessionConfig())
            else:
                load(path)
        except SessionError as error:
            reason = " ".join(str(error).split())
            raise QuantizationError(f"{name}: onnxruntime does not take the graph that came of it: {reason[:400]}") from error
    return quantized


def _listed(weights: list[Weight]) -> str:
    shown = ", ".join(f"{weight.operator} {weight.node} ({weight.size_bytes / 1e3:.0f} kB)" for weight in weights[:3])
    return shown if len(weights) <= 3 else f"{shown} and {len(weights) - 3} more"
