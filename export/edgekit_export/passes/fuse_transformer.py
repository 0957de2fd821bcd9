"""Fuse attention with the fusions of ``onnxruntime.transformers``, after writing it the way they look for it.

Those fusions match the graphs of particular exporters node by node and stop matching without a word when an exporter changes:
as torch 2.13 writes a BERT, none of its attentions matches. Three details are in the way, and are rewritten first, on a copy:

- one Unsqueeze of a mask along two axes, where two with an axis each are expected;
- scores times a constant, where the fusion tells the scaling from the mask by its being a division;
- heads split off by a Reshape to ``(batch, tokens, heads, -1)``, from which the size of a head cannot be read.

What pays on processors, measured on all-MiniLM-L6-v2 with onnxruntime 1.31 (one thread, AVX2): Attention. Dynamic int8 then runs
one QAttention instead of three products, four transpositions and their reshapes: 2 to 6 % less time in all.
SkipLayerNormalization does not: its kernel takes six times as long as Add and LayerNormalization (`separate_residuals`). Bias and
GELU stay apart too: a bias costs nothing inside an integer product, and onnxruntime fuses what is left in float on loading. Merging
the three products into one, with a Split behind it, was tried and saves nothing: the Split costs what one quantization less saves.

Requires: constants as initializers. Ensures: outputs agree to 60 dB on the feeds, and something was fused; otherwise the graph
comes back as it was, with the reason on record.
"""

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from edgekit_export.agreement import SAME_DB, agreement_db
from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.quiet import quiet
from edgekit_export.rewiring import constant, only_user, producer_of, take_place_of
from edgekit_runtime.errors import GraphError, SessionError

__all__ = ["FUSED", "fuse_transformer", "fused_counts"]

FUSED = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "LayerNormalization",
    "Gelu",
    "BiasGelu",
    "FastGelu",
    "QuickGelu",
)
"""Operators that the fusions make."""

CONTRIB = "com.microsoft"


def fuse_transformer(graph: Graph, feeds: Sequence[Mapping[str, np.ndarray]], model_type: str = "bert") -> Graph:
    """The graph with its attentions, and layer normalizations and GELUs that are spelled out, each as one operator.

    Args:
        graph: A prepared graph.
        feeds: Inputs to compare outputs on.
        model_type: Family of fusions, as ``onnxruntime.transformers.optimizer`` names them: ``bert``, ``vit``, ``gpt2``, ….

    Raises:
        GraphError: There is no such family.
    """
    step = "fuse transformer"
    if graph.oversized:
        return graph.noted(step, "left out: over 2 GB")
    try:
        fused = _fused(graph, model_type)
        gained = {name: count for name, count in _gained(graph, fused).items() if count > 0}
        if not gained:
            return graph.noted(step, f"left out: no fusion of {model_type!r} matches")
        decibels = agreement_db(graph, fused, feeds)
    except (MemoryError, GraphError):
        raise
    except SessionError as error:
        return graph.noted(step, f"left out: the fused graph does not run: {' '.join(str(error).split())[:200]}")
    except Exception as error:  # noqa: BLE001 - fusions index into what they expect and raise anything; the graph still holds
        return graph.noted(step, f"left out: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if decibels < SAME_DB:
        return graph.noted(step, f"left out: it changed the outputs ({decibels:.0f} dB SQNR)")
    return fused.noted(step, ", ".join(f"{count} {name}" for name, count in gained.items()))


def fused_counts(graph: Graph) -> dict[str, int]:
    """How many nodes of each operator in `FUSED` there are, zero included."""
    operators = graph.operators()
    return {name: operators.get(name, 0) for name in FUSED}


def _gained(before: Graph, after: Graph) -> dict[str, int]:
    then, now = fused_counts(before), fused_counts(after)
    return {name: now[name] - then[name] for name in FUSED}


def _fused(graph: Graph, model_type: str) -> Graph:
    model = graph.model.clone()
    _arrange(model)
    proto = ir.to_proto(model)
    # Shapes of before mislead the fusions' own inference, which starts anew.
    del proto.graph.value_info[:]
    with _fusions() as fusions:
        if model_type not in fusions.families:
            raise GraphError(f"fuse transformer: there is no family {model_type!r}, only {', '.join(sorted(fusions.families))}")
        options = fusions.FusionOptions(model_type)
        options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = options.enable_embed_layer_norm = False
        options.enable_bias_gelu = False
        result = fusions.optimize_by_fusion(proto, model_type, num_heads=0, hidden_size=0, optimization_options=options)
    fused: onnx.ModelProto = result.model
    if all(entry.domain != CONTRIB for entry in fused.opset_import):
        fused.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    return Graph(ir.from_proto(fused), graph.changes)


class _Fusions:
    """The names of the fusion package that are used."""

    def __init__(self) -> None:
        from onnxruntime.transformers.fusion_options import FusionOptions
        from onnxruntime.transformers.optimizer import MODEL_TYPES, optimize_by_fusion

        self.families = frozenset(MODEL_TYPES)
        self.FusionOptions = FusionOptions
        self.optimize_by_fusion = optimize_by_fusion


@contextlib.contextmanager
def _fusions() -> Iterator[_Fusions]:
    """The fusion package: it prints, logs, and puts its folder on ``sys.path``, where its ``metrics`` would shadow others'."""
    path = list(sys.path)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield _Fusions()
    finally:
        sys.path[:] = path


def _arrange(model: ir.Model) -> None:
    """Writes attention as the fusions look for it; the function stays the same to a rounding of the scale."""
    for node in list(model.graph):
        if node.op_type == "Unsqueeze":
            _one_axis_each(node, model.graph)
        elif node.op_type == "Mul":
            _scale_as_division(node, model.graph)
        elif node.op_type == "Reshape":
            _tell_head_size(node, model.graph)


def _one_axis_each(node: ir.Node, graph: ir.Graph) -> None:
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    value = node.inputs[0]
    if value is None or axes is None or axes.size < 2 or axes.min() < 0:
        return
    for axis in sorted(axes.tolist()):
        step = ir.node("Unsqueeze", [value, add_initializer(graph, f"{node.name}_axis_{axis}", np.array([axis], np.int64))])
        graph.insert_before(node, step)
        value = step.outputs[0]
    take_place_of(node.outputs[0], value)
    graph.remove(node, safe=True)


def _scale_as_division(node: ir.Node, graph: ir.Graph) -> None:
    """``scores · c`` as ``scores / (1 / c)`` where a softmax follows, at once or behind a mask."""
    index = next((index for index in (0, 1) if (array := constant(node.inputs[index])) is not None and array.size == 1), None)
    if index is None:
        return
    scores, factor = node.inputs[1 - index], constant(node.inputs[index])
    if producer_of(scores, "MatMul") is None or factor is None or not factor.item() or not _softmax_follows(node):
        return
    divisor = add_initializer(graph, f"{node.name}_divisor", (1.0 / factor).astype(factor.dtype))
    division = ir.node("Div", [scores, divisor])
    graph.insert_before(node, division)
    take_place_of(node.outputs[0], division.outputs[0])
    graph.remove(node, safe=True)


def _softmax_follows(node: ir.Node) -> bool:
    user = only_user(node.outputs[0])
    if user is not None and user[0].op_type == "Add":
        user = only_user(user[0].outputs[0])
    return user is not None and user[0].op_type == "Softmax"


def _tell_head_size(node: ir.Node, graph: ir.Graph) -> None:
    """The last -1 of ``(batch, tokens, heads, -1)`` as a number, from the weight of the projection that is reshaped."""
    target, width = producer_of(node.inputs[1], "Concat"), _projected_width(node.inputs[0])
    if target is None or len(target.inputs) != 4 or width is None:
        return
    heads, size = constant(target.inputs[2]), constant(target.inputs[3])
    if heads is None or size is None or heads.size != 1 or size.tolist() != [-1] or width % heads.item():
        return
    # Every projection that shares this shape has the same width, or could not be split into these heads alike.
    others = {_projected_width(use.node.inputs[0]) for use in target.outputs[0].uses() if use.node.op_type == "Reshape"}
    if others == {width}:
        target.replace_input_with(3, add_initializer(graph, f"{target.name}_head", np.array([width // heads.item()], np.int64)))


def _projected_width(value: ir.Value | None) -> int | None:
    """Width of ``x · W + b``, or of ``x · W``; ``None`` where `value` is something else."""
    added = producer_of(value, "Add")
    products = [producer_of(one, "MatMul") for one in (added.inputs if added is not None else (value,))]
    weight = next((constant(product.inputs[1]) for product in products if product is not None), None)
    return int(weight.shape[1]) if weight is not None and weight.ndim == 2 else None
