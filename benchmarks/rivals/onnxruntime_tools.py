"""onnxruntime's own quantizers, as its documentation shows them, on its CPU provider with one thread."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.rivals.serving import Arrays, Material, Opened

__all__ = ["WAYS", "build", "open_model"]

WAYS = {
    "float32": "the graph as edgekit exports it: what all ratios are over",
    "defaults": "quantize_static with its defaults: S8S8, per tensor",
    "u8s8": "quantize_static per channel, QDQ and U8S8, after quant_pre_process: what its guide advises for x86",
    "u8s7": "the same with reduce_range, as advised for AVX2 without VNNI",
    "dynamic": "quantize_dynamic with its defaults",
    "dynamic-matmul": "quantize_dynamic of MatMul and Gemm alone, per channel",
    "dynamic-matmul-s7": "the same with reduce_range",
}
SUFFIX = ".onnx"


def build(way: str, material: Material, out: Path) -> None:
    """Writes the model of one of `WAYS`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        """The feeds, one at a time."""

        def __init__(self) -> None:
            self._feeds = iter(material.calibration)

        def get_next(self) -> Arrays | None:
            """The next feed, or ``None`` at the end."""
            return next(self._feeds, None)

    if way == "float32":
        out.write_bytes(material.onnx.read_bytes())
    elif way == "defaults":
        quantize_static(material.onnx, out, Reader())
    elif way == "dynamic":
        quantize_dynamic(_without_value_info(material.onnx, out), out)
    elif way.startswith("dynamic-matmul"):
        given, narrow = _without_value_info(material.onnx, out), way.endswith("s7")
        quantize_dynamic(given, out, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, reduce_range=narrow)
    else:
        given = out.with_suffix(".prepared.onnx")
        prepare(material.onnx, given)
        quantize_static(
            given,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=way == "u8s7",
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        given.unlink()


def prepare(model: Path, out: Path) -> None:
    """Runs ``quant_pre_process``, and again without symbolic shapes, on which it fails with several real graphs."""
    from contextlib import chdir

    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder, chdir(folder):  # where it fails, it leaves files in the current folder
        try:
            quant_pre_process(str(model), str(out))
        except Exception:  # noqa: BLE001 - it raises plain Exception; the second try tells if that was the reason
            quant_pre_process(str(model), str(out), skip_symbolic_shape=True)


def _without_value_info(model: Path, out: Path) -> Path:
    """The model without shapes of inner tensors, over which ``quantize_dynamic`` stumbles in graphs that PyTorch exported."""
    import onnx

    loaded = onnx.load(model)
    del loaded.graph.value_info[:]
    given = out.with_suffix(".shapeless.onnx")
    onnx.save(loaded, given)
    return given


def open_model(file: Path, material: Material) -> Opened:
    """Opens a model with default options and one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = material.outputs

    def bind(feed: Arrays) -> Callable[[], object]:
        return lambda: session.run(names, feed)

    def run(feed: Arrays) -> Arrays:
        return dict(zip(names, map(np.asarray, session.run(names, feed)), strict=True))

    return Opened(run, bind)
