"""Makes the models beside this file: ``python tests/runtime/models/make_models.py`` (needs onnx, which the tests do not).

========================  =======================================================================================
``two_inputs.onnx``       ``out = x @ weight + table[ids]``; x float32 (batch, 4), ids int64 (batch), out (batch, 3)
``three_inputs.onnx``     ``total = a + b + c``, each float32 (2, 8): what a call costs, and fixed axes
``qdq.onnx``              ``y = dequantize(quantize(x)) @ dequantize(int8 weight)``; x float32 (batch, 4), y (batch, 3)
``kinds.onnx``            a scalar, a boolean, a string and an axis of size 2 that has no name beside a named one
``bfloat16.onnx``         an input of a dtype that numpy does not have
``crash.onnx``            loads, then fails while running: Gather with an index that depends on the input
``outside.onnx``          a weight in external data at ``../secret.bin``, which no bundle may reach
``nested.onnx``           external data named in a constant inside of a branch, in a function and in a sparse tensor
``beside.onnx``           a weight in external data at ``model.onnx.data``, as a large model has it
========================  =======================================================================================
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


def save(name: str, nodes: list, inputs: list, outputs: list, weights: dict | None = None, raw: tuple = ()) -> None:
    initializers = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, [*initializers, *raw])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def value(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def external(name: str, location: str, count: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", "0"), ("length", str(4 * count))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, text
    return tensor


def save_nested() -> None:
    """No runtime has to open this one: only the places where external data may be named matter."""
    node = helper.make_node
    branch = helper.make_graph(
        [node("Constant", [], ["w"], value=external("w", "in_branch.bin", 4)), node("Add", ["x", "w"], ["b"])],
        "branch",
        [],
        [value("b", FLOAT, [4])],
    )
    function = helper.make_function(
        "local",
        "Twice",
        ["f"],
        ["g"],
        [node("Constant", [], ["w"], value=external("w", "in_function.bin", 4)), node("Add", ["f", "w"], ["g"])],
        [helper.make_opsetid("", 17)],
    )
    graph = helper.make_graph(
        [node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch), node("Twice", ["y"], ["z"], domain="local")],
        "nested",
        [value("x", FLOAT, [4]), value("flag", BOOL, [])],
        [value("z", FLOAT, [4])],
        [external("w", "in_graph.bin", 4)],
    )
    sparse = graph.sparse_initializer.add()
    sparse.values.CopyFrom(external("s", "in_sparse.bin", 2))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)
    (HERE / "nested.onnx").write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    draw = np.random.default_rng(0)
    node = helper.make_node
    save(
        "two_inputs",
        [
            node("MatMul", ["x", "weight"], ["product"]),
            node("Gather", ["table", "ids"], ["rows"]),
            node("Add", ["product", "rows"], ["out"]),
        ],
        [value("x", FLOAT, ["batch", 4]), value("ids", INT64, ["batch"])],
        [value("out", FLOAT, ["batch", 3])],
        {
            "weight": draw.standard_normal((4, 3)).astype(np.float32),
            "table": draw.standard_normal((5, 3)).astype(np.float32),
        },
    )
    save(
        "three_inputs",
        [node("Add", ["a", "b"], ["ab"]), node("Add", ["ab", "c"], ["total"])],
        [value(name, FLOAT, [2, 8]) for name in "abc"],
        [value("total", FLOAT, [2, 8])],
    )
    save(
        "qdq",
        [
            node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_int8"]),
            node("DequantizeLinear", ["x_int8", "x_scale", "x_zero"], ["x_float"]),
            node("DequantizeLinear", ["w_int8", "w_scale", "w_zero"], ["w_float"]),
            node("MatMul", ["x_float", "w_float"], ["y_float"]),
            node("QuantizeLinear", ["y_float", "y_scale", "y_zero"], ["y_int8"]),
            node("DequantizeLinear", ["y_int8", "y_scale", "y_zero"], ["y"]),
        ],
        [value("x", FLOAT, ["batch", 4])],
        [value("y", FLOAT, ["batch", 3])],
        {
            "x_scale": np.float32(0.02),
            "x_zero": np.uint8(128),
            "w_int8": draw.integers(-127, 128, (4, 3)).astype(np.int8),
            "w_scale": np.float32(0.01),
            "w_zero": np.int8(0),
            "y_scale": np.float32(0.05),
            "y_zero": np.uint8(128),
        },
    )
    save(
        "kinds",
        [
            node("Identity", ["scalar"], ["scalar_out"]),
            node("Identity", ["flag"], ["flag_out"]),
            node("Identity", ["words"], ["words_out"]),
            node("Identity", ["anonymous"], ["anonymous_out"]),
        ],
        [
            value("scalar", FLOAT, []),
            value("flag", BOOL, [1]),
            value("words", STRING, ["words"]),
            value("anonymous", FLOAT, [None, 2, "width"]),
        ],
        [
            value("scalar_out", FLOAT, []),
            value("flag_out", BOOL, [1]),
            value("words_out", STRING, ["words"]),
            value("anonymous_out", FLOAT, [None, 2, "width"]),
        ],
    )
    save(
        "bfloat16",
        [node("Cast", ["x"], ["y"], to=FLOAT)],
        [value("x", TensorProto.BFLOAT16, ["n"])],
        [value("y", FLOAT, ["n"])],
    )
    save(
        "crash",
        [node("Gather", ["table", "ids"], ["rows"])],
        [value("ids", INT64, ["n"])],
        [value("rows", FLOAT, ["n", 3])],
        {"table": draw.standard_normal((5, 3)).astype(np.float32)},
    )
    save(
        "outside",
        [node("Add", ["x", "w"], ["y"])],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4])],
        raw=(external("w", "../secret.bin", 4),),
    )
    save(
        "beside",
        [node("Add", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["batch", 4])],
        [value("y", FLOAT, ["batch", 4])],
        raw=(external("w", "model.onnx.data", 4),),
    )
    save_nested()


if __name__ == "__main__":
    main()
