"""PyTorch to ONNX to int8: trace, prepare, calibrate, quantize, pack."""

from edgekit_export.calibration import METHODS, Ranges, Statistics, calibrate, ranges_from
from edgekit_export.graph import Change, Graph
from edgekit_export.optimize_float import optimize_float
from edgekit_export.pack import Contents, pack
from edgekit_export.parity import Parity
from edgekit_export.passes import fix_shapes, infer_shapes
from edgekit_export.prepare import prepare
from edgekit_export.quantize import Quantized, quantize_dynamic, quantize_static
from edgekit_export.schemes import FLAVOURS, PLACEMENTS, DynamicInt8, Flavour, Float32, Scheme, StaticInt8, required_isa
from edgekit_export.trace import Traced, trace
from edgekit_runtime import __version__

__all__ = [
    "FLAVOURS",
    "METHODS",
    "PLACEMENTS",
    "Change",
    "Contents",
    "DynamicInt8",
    "Flavour",
    "Float32",
    "Graph",
    "Parity",
    "Quantized",
    "Ranges",
    "Scheme",
    "StaticInt8",
    "Statistics",
    "Traced",
    "__version__",
    "calibrate",
    "fix_shapes",
    "infer_shapes",
    "optimize_float",
    "pack",
    "prepare",
    "quantize_dynamic",
    "quantize_static",
    "ranges_from",
    "required_isa",
    "trace",
]
