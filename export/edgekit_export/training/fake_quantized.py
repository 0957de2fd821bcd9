"""A module that computes as its integer graph will, and that an optimizer can train."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from edgekit_export.calibration.ranges import Method
from edgekit_export.example_feeds import Dynamic
from edgekit_export.graph import Graph
from edgekit_export.parity import Parity
from edgekit_export.passes import name_nodes, remove_unused, strip_metadata
from edgekit_export.saving import save_aside
from edgekit_export.schemes import Flavour
from edgekit_export.trace import Traced, trace
from edgekit_export.training.frozen import FrozenLayer, FrozenQuantizer
from edgekit_export.training.quantized_layer import QuantizedLayer
from edgekit_export.training.quantizers import ActivationQuantizer, SameQuantizer

__all__ = ["FakeQuantized"]

STEPS_8_BIT = 255


class FakeQuantized(nn.Module):
    """A module whose weights and activations are rounded to integers within floats, with steps that are learned.

    It is called, trained, saved and copied like the module that it was made from. Batch normalization is folded into the weights.

    Args:
        network: The flat graph with quantizers in it; called as the module that it was made from.
        example: Arrays by the names of forward's parameters, in order.
        dynamic: Axes that may vary.
        outputs: Output names, in order.
        flavour: Number formats.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        example: Mapping[str, np.ndarray],
        dynamic: Dynamic,
        outputs: Sequence[str],
        flavour: Flavour,
    ) -> None:
        super().__init__()
        self.network = network
        self.example = dict(example)
        self.dynamic = dynamic
        self.outputs = tuple(outputs)
        self.flavour = flavour
        self.register_buffer("output_bounds", torch.zeros(len(self.outputs), 2))

    output_bounds: Tensor

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """As the module that it was made from, with the inputs that the example has."""
        return self.network(*arguments, **named)

    def layers(self) -> Iterator[tuple[str, QuantizedLayer]]:
        """Convolutions and Linears that compute in integers, by name."""
        found = self.network.get_submodule("layers").named_children()
        yield from ((name, part) for name, part in found if isinstance(part, QuantizedLayer))

    def quantizers(self) -> Iterator[tuple[str, ActivationQuantizer]]:
        """Quantizers of tensors between operators, by name."""
        found = self.network.get_submodule("quantizers").named_children()
        yield from ((name, part) for name, part in found if isinstance(part, ActivationQuantizer))

    def observe(self, feed: Mapping[str, Tensor]) -> None:
        """Runs one calibration feed in float; quantizers note what they see."""
        with torch.no_grad():
            outputs = pytree.tree_leaves(self(**feed))
            for index, output in enumerate(outputs):
                if output.is_floating_point():
                    self.output_bounds[index, 0] = min(float(output.min()), float(self.output_bounds[index, 0]))
                    self.output_bounds[index, 1] = max(float(output.max()), float(self.output_bounds[index, 1]))

    def settle(self, method: Method) -> None:
        """Sets all steps by what was observed, and rounds from now on.

        Raises:
            CalibrationError: A quantizer saw nothing.
        """
        for _, quantizer in self.quantizers():
            quantizer.settle(method)
        for _, layer in self.layers():
            layer.make_room_for_bias()

    def frozen(self) -> fx.GraphModule:
        """A copy in eval mode with its integers fixed, as recipes take it: ``replace(recipe, variants={"qat": fake.frozen})``.

        It computes what this module computes. Its ``quantized_output_steps`` are the outputs' steps in 8 bits: what a graph may
        differ from it by, where a value on the edge between two integers was rounded the other way.
        """
        fixed = copy.deepcopy(self.network).eval()
        for name, part in list(fixed.named_modules()):
            if isinstance(part, ActivationQuantizer):
                fixed.set_submodule(name, FrozenQuantizer(part))
            elif isinstance(part, SameQuantizer):
                fixed.set_submodule(name, FrozenQuantizer(part.quantizer))
            elif isinstance(part, QuantizedLayer):
                fixed.set_submodule(name, FrozenLayer(part))
        steps = tuple(float(high - low) / STEPS_8_BIT for low, high in self.output_bounds.tolist())
        fixed.quantized_output_steps = steps  # type: ignore[assignment]  # neither a tensor nor a module
        return fixed.eval().requires_grad_(requires_grad=False)

    def graph(self) -> Traced:
        """The integer graph, compared with this module.

        Raises:
            TraceError: It cannot be exported.
            ParityError: The graph computes something else.
        """
        return trace(self.frozen(), self.example, self.dynamic, self.outputs)

    def export(self, path: str | Path) -> Parity:
        """Writes the integer graph as plain ONNX with QuantizeLinear and DequantizeLinear, once it was compared with this module.

        Raises:
            TraceError: It cannot be exported.
            ParityError: The graph computes something else.
            OutputError: The file could not be written.
        """
        traced = self.graph()
        graph: Graph = traced.graph
        for step in (remove_unused, strip_metadata, name_nodes):
            graph = step(graph)
        save_aside(graph, Path(path))
        assert traced.parity is not None
        return traced.parity
