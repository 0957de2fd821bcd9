"""Prepare: the graph as quantization wants it, still computing the same."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit_export.graph import Graph, Step
from edgekit_export.passes import (
    along_the_width,
    collapse_reshapes,
    fold_batchnorm,
    fold_batchnorm_forward,
    fold_constants,
    infer_shapes,
    name_nodes,
    remove_unused,
    strip_metadata,
    upgrade_opset,
)
from edgekit_export.rewrites import canonical_activations, pooled_means
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import GraphError, SessionError
from edgekit_runtime.model import load

__all__ = ["STEPS", "prepare"]

STEPS: tuple[Step, ...] = (
    remove_unused,
    strip_metadata,
    upgrade_opset,
    fold_constants,
    fold_batchnorm,
    infer_shapes,
    fold_batchnorm_forward,
    canonical_activations,
    pooled_means,
    along_the_width,
    collapse_reshapes,
    name_nodes,
    strip_metadata,
)
# Folding reorders float sums; anything that computes something else is far below this.
LEAST_SQNR_DB = 60.0


def prepare(graph: Graph, feeds: Sequence[Mapping[str, np.ndarray]], steps: Sequence[Step] = STEPS) -> Graph:
    """Runs the steps and compares the result with the graph as it came.

    A step that fails, or after which the graph no longer computes the same, is left out, and that is on record.

    Args:
        graph: As traced or read.
        feeds: Inputs to compare on.
        steps: The passes, in order.

    Raises:
        GraphError: A step says that the graph cannot be used at all.
        SessionError: onnxruntime cannot run the graph as it came.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        wanted = _run(graph, feeds, Path(folder) / "given.onnx")
        for step in steps:
            try:
                candidate = step(graph)
                if candidate.model is graph.model:
                    graph = candidate
                    continue
                decibels = difference(_run(candidate, feeds, Path(folder) / "stepped.onnx"), wanted).sqnr_db
            except GraphError:
                raise
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - a pass of a library may raise anything; the graph before it still holds
                reason = " ".join(str(error).split())[:200]
                graph = graph.noted(step.__name__, f"left out: {type(error).__name__}: {reason}")
                continue
            if decibels < LEAST_SQNR_DB:
                graph = graph.noted(step.__name__, f"left out: it changed the outputs ({decibels:.0f} dB SQNR)")
            else:
                graph = candidate
    return graph


def _run(graph: Graph, feeds: Sequence[Mapping[str, np.ndarray]], path: Path) -> list[dict[str, np.ndarray]]:
    graph.save(path)
    model = load(path)
    try:
        return [model(dict(feed)) for feed in feeds]
    except SessionError as error:
        raise SessionError(f"run the graph before it is quantized: {error}") from error
