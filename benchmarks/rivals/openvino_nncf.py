"""OpenVINO in float32, with NNCF's int8, and on onnxruntime's QDQ file; one thread, one stream, latency mode."""

# The libraries are in the peer's own environment.
# mypy: disable-error-code="import-not-found"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.serving import Arrays, Material, Opened

__all__ = ["WAYS", "build", "open_model"]

WAYS = {
    "float32": "OpenVINO float32",
    "bf16": "OpenVINO computing in bfloat16, its default where the processor has it",
    "nncf": "OpenVINO with NNCF's post-training int8",
    "nncf-mixed": "the same with preset MIXED, asymmetric activations",
    "nncf-transformer": "the same with model_type TRANSFORMER",
    "qdq": "OpenVINO running onnxruntime's U8S8 QDQ file",
    "qdq-u8s7": "the same with 7-bit weights",
}
SUFFIX = ".xml"
FROM_ONNXRUNTIME = {"qdq": "u8s8", "qdq-u8s7": "u8s7"}


def build(way: str, material: Material, out: Path) -> None:
    """Writes the model of one of `WAYS`; the QDQ files are those of the peer onnxruntime, built before."""
    import openvino as ov

    if way in FROM_ONNXRUNTIME:
        file = out.parents[3] / "onnxruntime" / "models" / out.parent.name / f"{FROM_ONNXRUNTIME[way]}.onnx"
        if not file.exists():
            raise FileNotFoundError(f"onnxruntime's {file.name} of this network could not be built")
    else:
        file = material.onnx
    if way == "bf16" and "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError("this processor has no bfloat16")
    model = ov.convert_model(file)
    feed = material.calibration[0]
    model.reshape({name: array.shape for name, array in feed.items()})
    if way.startswith("nncf"):
        import nncf

        operators = {operator.get_type_name() for operator in model.get_ops()}
        if way == "nncf-transformer" and "MatMul" not in operators:
            raise ValueError("not a transformer")
        feeds = material.calibration
        model = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            preset=nncf.QuantizationPreset.MIXED if way == "nncf-mixed" else None,
            model_type=nncf.ModelType.TRANSFORMER if way == "nncf-transformer" else None,
        )
    ov.save_model(model, out, compress_to_fp16=False)


def open_model(file: Path, material: Material) -> Opened:
    """Compiles a model for the CPU: one thread, float32 where it is neither int8 nor asked to be bfloat16."""
    import openvino as ov

    precision = "bf16" if file.stem == "bf16" else "f32"
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled: Any = ov.Core().compile_model(file, "CPU", settings)
    request = compiled.create_infer_request()
    names = material.outputs

    def bind(feed: Arrays) -> Callable[[], object]:
        # Setting the inputs once and not with each call halves the latency of the smallest networks.
        bound = compiled.create_infer_request()
        for name, array in feed.items():
            bound.set_tensor(name, ov.Tensor(np.ascontiguousarray(array), shared_memory=True))
        return lambda: bound.infer(share_outputs=True)

    def run(feed: Arrays) -> Arrays:
        found = request.infer(feed)
        return {name: np.array(found[index]) for index, name in enumerate(names)}

    return Opened(run, bind)
