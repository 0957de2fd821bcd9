"""Redundant Q/DQ: what is removed changes nothing, or only leaves a rounding out; what serves an integer kernel stays."""

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgekit_export import Graph
from edgekit_export.agreement import agreement_db
from edgekit_export.passes import remove_redundant_qdq

FEED = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
STEP = 1 / 32


class Chain:
    """Nodes in a row on a value of (batch, 8)."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.arrays: dict[str, np.ndarray] = {"zero": np.array(128, np.uint8), "minus": np.array(-1, np.int64)}
        self.value = "x"

    def then(self, operator: str, *inputs: str, **attributes: object) -> "Chain":
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.value, *inputs], [output], name=output, **attributes))
        self.value = output
        return self

    def quantized(self, scale: float = STEP) -> "Chain":
        return self.then("QuantizeLinear", self.scale(scale), "zero")

    def back(self, scale: float = STEP) -> "Chain":
        return self.then("DequantizeLinear", self.scale(scale), "zero")

    def product(self) -> "Chain":
        """A MatMul with an integer weight, between integers."""
        number = len(self.arrays)
        self.arrays |= {
            f"weight{number}": np.random.default_rng(number).integers(-60, 60, (8, 8)).astype(np.int8),
            f"zeros{number}": np.array(0, np.int8),
        }
        float_weight = f"float{number}"
        self.nodes.append(
            helper.make_node("DequantizeLinear", [f"weight{number}", self.scale(1 / 200), f"zeros{number}"], [float_weight])
        )
        return self.then("MatMul", float_weight)

    def scale(self, value: float) -> str:
        name = f"scale_{value}"
        self.arrays[name] = np.array(value, np.float32)
        return name

    def graph(self) -> Graph:
        floats = TensorProto.FLOAT
        self.nodes[-1].output[0] = self.value = "y"  # type: ignore[attr-defined]
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", floats, ["batch", 8])],
            [helper.make_tensor_value_info(self.value, floats, None)],
            [numpy_helper.from_array(array, name) for name, array in self.arrays.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        proto.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "batch"
        proto.graph.output[0].type.tensor_type.shape.dim.add()
        return Graph(ir.from_proto(proto))


def counts(graph: Graph) -> tuple[int, int]:
    operators = graph.operators()
    return operators.get("QuantizeLinear", 0), operators.get("DequantizeLinear", 0)


def test_equal_pairs_go_and_nothing_changes() -> None:
    graph = Chain().quantized().back().product().quantized(0.1).back(0.1).quantized(0.1).back(0.1).product().graph()
    cleaned = remove_redundant_qdq(graph)
    assert cleaned.changes[-1].detail == "1 equal pairs, 0 around data that is only moved; 0 requantizations left"
    assert (counts(graph), counts(cleaned)) == ((3, 5), (2, 4))
    # Equal to the bit: integers pass as they are.
    assert agreement_db(graph, cleaned, [FEED]) == np.inf


def test_other_parameters_stay_and_are_counted() -> None:
    """Their rounding is part of the function."""
    graph = Chain().quantized().back().product().quantized(0.1).back(0.1).quantized(0.2).back(0.2).product().graph()
    assert remove_redundant_qdq(graph) is graph
    chain = Chain().quantized().back().quantized().back().product().quantized(0.1).back(0.1).quantized(0.2).back(0.2).product()
    cleaned = remove_redundant_qdq(chain.graph())
    assert cleaned.changes[-1].detail == "1 equal pairs, 0 around data that is only moved; 1 requantizations left"


def test_integers_that_are_only_moved_go() -> None:
    """Float → Q → DQ → Transpose → Q → DQ → float: two conversions and a rounding for nothing."""
    graph = Chain().then("Tanh").quantized().back().then("Transpose").quantized().back().then("Exp").graph()
    cleaned = remove_redundant_qdq(graph)
    assert cleaned.operators() == {"Tanh": 1, "Transpose": 1, "Exp": 1}
    assert cleaned.changes[-1].detail.startswith("0 equal pairs, 2 around data that is only moved")
    unquantized = Chain().then("Tanh").then("Transpose").then("Exp").graph()
    assert agreement_db(unquantized, cleaned, [FEED]) == np.inf
    # And what it was before is that with a rounding to 1/32.
    assert 20 < agreement_db(unquantized, graph, [FEED]) < 60


def test_integers_on_their_way_to_a_kernel_stay() -> None:
    moved = Chain().then("Tanh").quantized().back().then("Transpose").then("Transpose").quantized(0.1).back(0.1).product()
    assert remove_redundant_qdq(moved.graph()).changes == ()


def test_integers_from_a_kernel_stay_although_float_follows() -> None:
    """The product before gives integers, with the ReLU in it."""
    graph = Chain().quantized().back().product().then("Relu").quantized(0.1).back(0.1).then("Tanh").graph()
    assert remove_redundant_qdq(graph) is graph


def test_a_pair_at_the_end_keeps_the_name_of_the_output() -> None:
    graph = Chain().then("Tanh").quantized().back().graph()
    cleaned = remove_redundant_qdq(graph)
    assert counts(cleaned) == (0, 0)
    assert [spec.name for spec in cleaned.outputs] == [spec.name for spec in graph.outputs]
