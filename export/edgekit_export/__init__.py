"""PyTorch to ONNX to int8: trace, prepare, calibrate, quantize, pack."""

from edgekit_export.calibration import METHODS, Ranges, Statistics, calibrate, ranges_from
from edgekit_export.graph import Change, Graph
from edgekit_export.mixture import quantize_as
from edgekit_export.optimize_float import optimize_float
from edgekit_export.pack import Contents, pack
from edgekit_export.parity import Parity
from edgekit_export.passes import fix_shapes, infer_shapes
from edgekit_export.prepare import prepare
from edgekit_export.quantize import Quantized, quantize_dynamic, quantize_static, quantize_weights
from edgekit_export.sample import Sample
from edgekit_export.schemes import (
    CORRECTIONS,
    FLAVOURS,
    PLACEMENTS,
    AsTraced,
    BFloat16,
    DynamicInt8,
    Flavour,
    Float16,
    Float32,
    Mixture,
    Scheme,
    StaticInt8,
    WeightOnly,
    required_isa,
)
from edgekit_export.trace import Traced, trace
from edgekit_export.training import Channel, Distillation, FakeQuantized, Pruned, prune, quantization_aware, remove_channels
from edgekit_runtime import __version__

__all__ = [
    "CORRECTIONS",
    "FLAVOURS",
    "METHODS",
    "PLACEMENTS",
    "AsTraced",
    "BFloat16",
    "Change",
    "Channel",
    "Contents",
    "Distillation",
    "DynamicInt8",
    "FakeQuantized",
    "Flavour",
    "Float16",
    "Float32",
    "Graph",
    "Mixture",
    "Parity",
    "Pruned",
    "Quantized",
    "Ranges",
    "Sample",
    "Scheme",
    "StaticInt8",
    "Statistics",
    "Traced",
    "WeightOnly",
    "__version__",
    "calibrate",
    "fix_shapes",
    "infer_shapes",
    "optimize_float",
    "pack",
    "prepare",
    "prune",
    "quantization_aware",
    "quantize_as",
    "quantize_dynamic",
    "quantize_static",
    "quantize_weights",
    "ranges_from",
    "remove_channels",
    "required_isa",
    "trace",
]
