"""Whether this processor and this onnxruntime compute int8 exactly: ``python -m edgekit.checkup.integer_probes``.

x86 before VNNI multiplies unsigned activations with signed weights by an instruction that adds two products in 16 bits
and saturates (``vpmaddubsw``): 255 · 127 + 255 · 127 = 64 770 comes out as 32 767. Each probe multiplies the largest
values there are, and random ones, and compares with exact integer arithmetic and with that saturating arithmetic.

The probes run in a process of their own and report line by line, so that one that brings its process down is known by
name and takes nothing else with it.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PROBES", "OnnxruntimeFacts", "Probe", "ProbeResult", "Started", "run_probe"]

DEPTH = 64
ROWS = 4
COLUMNS = 32
LARGEST_16 = 32767

Status = Literal["exact", "saturates", "wrong", "failed"]


class Probe(msgspec.Struct, frozen=True):
    """One product to compute.

    Attributes:
        operator: ``Conv``, ``MatMul`` (both through Q/DQ) or ``MatMulInteger``.
        activations: ``uint8`` or ``int8``.
        weights: ``uint8`` or ``int8``.
        precise: Whether onnxruntime's ``session.x64quantprecision`` is on.
        values: ``full`` range; ``reduced`` weights of 7 bits, which cannot saturate; ``small`` ones, a smoke test.
    """

    operator: Literal["Conv", "MatMul", "MatMulInteger"]
    activations: Literal["uint8", "int8"]
    weights: Literal["uint8", "int8"]
    precise: bool = False
    values: Literal["full", "reduced", "small"] = "full"

    @property
    def name(self) -> str:
        """How messages call it, such as ``Conv u8s8``."""
        kind = "".join("u8" if dtype == "uint8" else "s8" for dtype in (self.activations, self.weights))
        extra = {"full": "", "reduced": " reduced range", "small": " small values"}[self.values]
        return f"{self.operator} {kind}{' precise' if self.precise else ''}{extra}"


class Started(msgspec.Struct, frozen=True, tag="started"):
    """A probe is about to run."""

    name: str


class OnnxruntimeFacts(msgspec.Struct, frozen=True, tag="onnxruntime"):
    """The onnxruntime that the probes run on."""

    version: str
    providers: list[str]
    build: str


class ProbeResult(msgspec.Struct, frozen=True, tag="result"):
    """What one probe saw.

    Attributes:
        name: The probe's name.
        status: ``exact``; ``saturates``, just as 16-bit intermediates would; ``wrong``, some other way; ``failed``.
        kernel: The operators that onnxruntime ran, its conversions left out.
        expected: The exact value where the result is farthest from it; the largest one where the result is exact.
        got: The result there.
        detail: The error where it failed.
    """

    name: str
    status: Status
    kernel: str = ""
    expected: float | None = None
    got: float | None = None
    detail: str = ""


PROBES: tuple[Probe, ...] = (
    Probe("Conv", "uint8", "int8", values="small"),
    Probe("MatMul", "uint8", "int8", values="small"),
    Probe("Conv", "uint8", "int8"),
    Probe("Conv", "uint8", "uint8"),
    Probe("Conv", "int8", "int8"),
    Probe("MatMul", "uint8", "int8"),
    Probe("MatMul", "uint8", "uint8"),
    Probe("MatMul", "int8", "int8"),
    Probe("MatMulInteger", "uint8", "int8"),
    Probe("MatMulInteger", "uint8", "uint8"),
    Probe("Conv", "uint8", "int8", values="reduced"),
    Probe("MatMul", "uint8", "int8", values="reduced"),
    Probe("Conv", "uint8", "int8", precise=True),
    Probe("MatMul", "uint8", "int8", precise=True),
)


def run_probe(probe: Probe) -> ProbeResult:
    """Computes one product and compares it with exact and with saturating arithmetic."""
    import numpy as np

    activations, weights = _values(probe)
    zero = 128 if probe.weights == "uint8" else 0
    exact = activations.astype(np.int64) @ (weights.astype(np.int64) - zero)
    saturated = _saturated(activations, weights) - zero * activations.astype(np.int64).sum(1, keepdims=True)
    step = 1.0 if probe.operator == "MatMulInteger" else float(np.abs(exact).max()) / 100.0
    got, kernel = _compute(probe, activations, weights, zero, step)
    tolerance = 0.0 if probe.operator == "MatMulInteger" else 0.51 * step
    status: Status = "wrong"
    if np.abs(got - exact).max() <= tolerance:
        status = "exact"
    elif np.abs(got - saturated).max() <= tolerance:
        status = "saturates"
    # An exact result is within half a quantization step; its largest value is a whole number of steps.
    telling = np.argmax(np.abs(exact)) if status == "exact" else np.argmax(np.abs(got - exact))
    return ProbeResult(probe.name, status, kernel, float(exact.flat[telling]), round(float(got.flat[telling]), 1))


def _values(probe: Probe) -> tuple[np.ndarray, np.ndarray]:
    """Activations of (rows, depth) and weights of (depth, columns): the largest values, and in the last rows random ones."""
    import numpy as np

    draw = np.random.default_rng(0)
    if probe.values == "small":
        activations = draw.integers(0, 8, (ROWS, DEPTH)).astype(probe.activations)
        return activations, draw.integers(-7, 8, (DEPTH, COLUMNS)).astype(probe.weights)
    of_activations, of_weights = np.iinfo(probe.activations), np.iinfo(probe.weights)
    activations = draw.integers(of_activations.min, of_activations.max + 1, (ROWS, DEPTH)).astype(probe.activations)
    weights = draw.integers(of_weights.min, of_weights.max + 1, (DEPTH, COLUMNS)).astype(probe.weights)
    activations[0] = of_activations.max
    weights[:, 0] = of_weights.max
    if probe.values == "reduced":
        # What onnxruntime's reduce_range gives: 255 · 64 + 255 · 64 still fits 16 bits.
        weights = np.clip(weights, -64, 64)
    return activations, weights


def _saturated(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The product with pairs of neighbours along the depth added in saturating 16 bits.

    Signed activations are shifted to unsigned ones first, as onnxruntime does on x86, and the shift is taken off at the end.
    """
    import numpy as np

    shift = 128 if activations.dtype == np.int8 else 0
    unsigned = activations.astype(np.int64) + shift
    products = unsigned[:, :, None] * weights.astype(np.int64)[None]
    pairs = products.reshape(len(activations), -1, 2, weights.shape[1]).sum(2)
    saturated: np.ndarray = np.clip(pairs, -LARGEST_16 - 1, LARGEST_16).sum(1) - shift * weights.astype(np.int64).sum(0)
    return saturated


def _compute(probe: Probe, activations: np.ndarray, weights: np.ndarray, zero: int, step: float) -> tuple[np.ndarray, str]:
    """What onnxruntime makes of the product, as (rows, columns), and the operators that it ran."""
    import numpy as np
    import onnxruntime as ort

    convolve = probe.operator == "Conv"
    # A 1×1 convolution over one pixel an example is the same product.
    shaped = activations.reshape(ROWS, DEPTH, 1, 1) if convolve else activations
    kernel = weights.T.reshape(COLUMNS, DEPTH, 1, 1).copy() if convolve else weights
    model = (
        _integer_model(probe, shaped, kernel, zero)
        if probe.operator == "MatMulInteger"
        else _qdq_model(probe, shaped, kernel, zero, step)
    )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        saved = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.optimized_model_filepath = str(saved)
        if probe.precise:
            options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        fed = shaped if probe.operator == "MatMulInteger" else shaped.astype(np.float32)
        (output,) = session.run(None, {"x": fed})
        operators = _operators(saved)
    return np.asarray(output).astype(np.float64).reshape(ROWS, COLUMNS), operators


def _operators(saved: Path) -> str:
    import onnx

    conversions = {"QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape"}
    return ", ".join(node.op_type for node in onnx.load(saved).graph.node if node.op_type not in conversions)


def _integer_model(probe: Probe, fed: np.ndarray, weights: np.ndarray, zero: int) -> bytes:
    from onnx import TensorProto, helper

    node = helper.make_node("MatMulInteger", ["x", "w", "x_zero", "w_zero"], ["y"])
    stored = {"w": weights, "x_zero": _scalar(0, probe.activations), "w_zero": _scalar(zero, probe.weights)}
    return _model([node], fed, getattr(TensorProto, probe.activations.upper()), TensorProto.INT32, stored)


def _qdq_model(probe: Probe, fed: np.ndarray, weights: np.ndarray, zero: int, step: float) -> bytes:
    from onnx import TensorProto, helper

    one, out = _scalar(1.0, "float32"), _scalar(step, "float32")
    stored = {
        "w": weights,
        "x_scale": one,
        "x_zero": _scalar(0, probe.activations),
        "w_scale": one,
        "w_zero": _scalar(zero, probe.weights),
        "y_scale": out,
        "y_zero": _scalar(128 if probe.activations == "uint8" else 0, probe.activations),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_quantized"]),
        helper.make_node("DequantizeLinear", ["x_quantized", "x_scale", "x_zero"], ["x_float"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"]),
        helper.make_node(probe.operator, ["x_float", "w_float"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "y_scale", "y_zero"], ["y_quantized"]),
        helper.make_node("DequantizeLinear", ["y_quantized", "y_scale", "y_zero"], ["y"]),
    ]
    return _model(nodes, fed, TensorProto.FLOAT, TensorProto.FLOAT, stored)


def _model(nodes: list[Any], fed: np.ndarray, takes: int, gives: int, stored: dict[str, np.ndarray]) -> bytes:
    from onnx import helper, numpy_helper

    shape = [ROWS, COLUMNS, 1, 1] if fed.ndim == 4 else [ROWS, COLUMNS]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", takes, list(fed.shape))],
        [helper.make_tensor_value_info("y", gives, shape)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def _scalar(value: float, dtype: str) -> np.ndarray:
    import numpy as np

    return np.asarray(value, dtype)


def main() -> int:
    """Runs every probe and prints a line of JSON before and after each."""

    def tell(line: msgspec.Struct) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()

    tell(Started("import onnxruntime"))
    import onnxruntime as ort

    build = ort.get_build_info().removeprefix("ORT Build Info: ")
    tell(OnnxruntimeFacts(ort.__version__, ort.get_available_providers(), build))
    for probe in PROBES:
        if probe.precise and platform.machine().lower() not in ("x86_64", "amd64"):
            continue
        tell(Started(probe.name))
        try:
            tell(run_probe(probe))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here is what the doctor wants to know
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            tell(ProbeResult(probe.name, "failed", detail=reason))
    return 0


if __name__ == "__main__":
    sys.exit(main())
