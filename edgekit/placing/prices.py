"""What conversions cost on this machine, per element: to integers, to float, and to the other layout of images."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit_runtime.node_times import node_times
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["Prices", "measure_prices"]

# About the size of a convolution's output early in a network for phones; it stays in the second-level cache, as they do.
SHAPE = (1, 64, 56, 56)
ROUNDS = 10


@dataclass(frozen=True)
class Prices:
    """Nanoseconds for each element of a tensor.

    Attributes:
        quantize_ns: Float to 8-bit integers.
        dequantize_ns: 8-bit integers to float.
        layout_ns: Channels first to channels last, of 8-bit integers: integer convolutions take the one, float ones a blocked form
            of the other.
    """

    quantize_ns: float
    dequantize_ns: float
    layout_ns: float


def measure_prices(config: SessionConfig) -> Prices:
    """Times the conversions by themselves.

    Args:
        config: Session options with which models will run; threads matter most.

    Raises:
        SessionError: onnxruntime does not run them.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, np.ndarray] = {"scale": np.asarray(0.05, np.float32), "zero": np.asarray(128, np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["real", "scale", "zero"], ["quantized"], "quantize"),
        helper.make_node("DequantizeLinear", ["integer", "scale", "zero"], ["dequantized"], "dequantize"),
        helper.make_node("Transpose", ["integer"], ["moved"], "layout", perm=[0, 2, 3, 1]),
    ]
    moved = (SHAPE[0], SHAPE[2], SHAPE[3], SHAPE[1])
    graph = helper.make_graph(
        nodes,
        "prices",
        [
            helper.make_tensor_value_info("real", TensorProto.FLOAT, SHAPE),
            helper.make_tensor_value_info("integer", TensorProto.UINT8, SHAPE),
        ],
        [
            helper.make_tensor_value_info("quantized", TensorProto.UINT8, SHAPE),
            helper.make_tensor_value_info("dequantized", TensorProto.FLOAT, SHAPE),
            helper.make_tensor_value_info("moved", TensorProto.UINT8, moved),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    random = np.random.default_rng(0)
    feed: dict[str, np.ndarray] = {
        "real": random.standard_normal(SHAPE).astype(np.float32),
        "integer": random.integers(0, 255, SHAPE).astype(np.uint8),
    }
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "prices.onnx"
        onnx.save(model, path)
        times = {time.name: time.time_us for time in node_times(path, feed, Provider(), config, rounds=ROUNDS)}
    nanoseconds = {name: 1e3 * spent / float(np.prod(SHAPE)) for name, spent in times.items()}
    return Prices(nanoseconds["quantize"], nanoseconds["dequantize"], nanoseconds["layout"])
