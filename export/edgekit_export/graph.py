"""The graph: an ONNX model with a record of what was done to it.

Steps never edit a graph in place: they take one and return another, with their change added to the record.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from edgekit_runtime.errors import GraphError, OutputError
from edgekit_runtime.tensors import TensorSpec

__all__ = ["Change", "Graph", "Step"]

# protobuf cannot hold 2 GB; the rest of the model needs some room too.
EXTERNAL_DATA_BYTES = 1_900_000_000


@dataclass(frozen=True)
class Change:
    """What one step did: its name, and how many things it changed or a sentence about it."""

    step: str
    detail: str


@dataclass(frozen=True)
class Graph:
    """An ONNX model and how it came to be.

    Attributes:
        model: The model. Treat it as read-only; edit a copy through `changed`.
        changes: What was done so far, oldest first.
    """

    model: ir.Model
    changes: tuple[Change, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """Reads an ``.onnx`` file.

        Raises:
            GraphError: The file is missing, or is not a sound ONNX model.
        """
        try:
            proto = onnx.load(path, load_external_data=False)
            if not proto.graph.node and not proto.graph.output:
                raise ValueError("it holds no graph")
            onnx.checker.check_model(str(path))
            # Weights in files beside it come into memory, so that a graph does not depend on where it was read.
            return cls(ir.external_data.load_to_model(ir.load(path)))
        except FileNotFoundError as error:
            raise GraphError(f"read {path}: there is no such file") from error
        except MemoryError:
            raise
        except Exception as error:
            # protobuf, onnx.checker and onnx_ir raise unrelated types for one thing: the file is not a sound model.
            reason = " ".join(str(error).split())[:300]
            raise GraphError(f"read {path}: not a sound ONNX model: {reason}; export it again, or copy it again") from error

    def changed(self, step: str, edit: Callable[[ir.Model], str | None]) -> "Graph":
        """A copy edited by `edit`, which says what it did, or ``None`` for nothing."""
        model = self.model.clone()
        detail = edit(model)
        return self if detail is None else Graph(model, (*self.changes, Change(step, detail)))

    def noted(self, step: str, detail: str) -> "Graph":
        """The same model with one more line in its record."""
        return replace(self, changes=(*self.changes, Change(step, detail)))

    def save(self, path: Path) -> None:
        """Writes the model; its weights go to ``NAME.data`` beside it where one file cannot hold them.

        Raises:
            OutputError: The file could not be written.
        """
        external = f"{path.name}.data" if self.oversized else None
        try:
            ir.save(self.model, path, external_data=external)
        except OSError as error:
            raise OutputError(f"write {path}: {error.strerror or error}") from error

    @property
    def oversized(self) -> bool:
        """Whether the weights do not fit one file, so that they go to external data."""
        values = [value for graph in self.model.graphs() for value in graph.initializers.values()]
        return sum(value.const_value.nbytes for value in values if value.const_value is not None) > EXTERNAL_DATA_BYTES

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return int(self.model.opset_imports.get("", 0))

    @property
    def inputs(self) -> list[TensorSpec]:
        """What the graph takes; initializers that are listed as inputs, as old files do, are not among them."""
        return _specs([value for value in self.model.graph.inputs if value.name not in self.model.graph.initializers])

    @property
    def outputs(self) -> list[TensorSpec]:
        """What the graph gives."""
        return _specs(self.model.graph.outputs)

    def operators(self) -> dict[str, int]:
        """How many nodes of each operator there are, most frequent first."""
        counts: dict[str, int] = {}
        for node in self.model.graph.all_nodes():
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


Step = Callable[[Graph], Graph]
"""A graph pass."""


def _specs(values: Sequence[Any]) -> list[TensorSpec]:
    specs = []
    for value in values:
        if not isinstance(value.type, ir.TensorType):
            raise GraphError(
                f"graph value {value.name!r} is {value.type or 'of no known type'}, expected a tensor; export it as one"
            )
        if value.shape is None:
            raise GraphError(f"graph value {value.name!r} has no rank; export the model with shapes")
        shape = tuple(
            axis if isinstance(axis, int) else str(axis.value or f"{value.name}_{index}") for index, axis in enumerate(value.shape)
        )
        specs.append(TensorSpec(str(value.name), str(value.dtype.numpy()), shape))
    return specs
