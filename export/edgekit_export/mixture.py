"""Any scheme, and several in one graph."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit_export.calibration import Histogram
from edgekit_export.graph import Graph
from edgekit_export.half_precision import to_half
from edgekit_export.quantize import quantize_dynamic, quantize_static, quantize_weights
from edgekit_export.quantized import UNASKED, Quantized, load_test
from edgekit_export.schemes import BFloat16, DynamicInt8, Float16, Float32, Mixture, Part, Scheme, StaticInt8, WeightOnly, parts_of
from edgekit_runtime.errors import QuantizationError

__all__ = ["check_mixture", "quantize_as"]


def quantize_as(
    graph: Graph,
    scheme: Scheme,
    histograms: Mapping[str, Histogram] | None = None,
    sample: Sequence[Mapping[str, np.ndarray]] = (),
    *,
    tested: bool = True,
    portable: bool = False,
) -> Quantized:
    """A prepared graph in any scheme, opened and, where there is a feed, run once by onnxruntime's CPU provider.

    Args:
        graph: A prepared graph.
        scheme: Any but float32.
        histograms: What calibration saw of each tensor; only static schemes need it.
        sample: A few calibration feeds, for corrections and for the load test.
        tested: Whether to open and run it; whoever does that anyway may save the time.
        portable: Leave static schemes in plain Q and DQ nodes around the operators of the graph, as other providers than
            onnxruntime's CPU one fuse them; which other schemes they take is the caller's business.

    Raises:
        QuantizationError: It cannot be done, or onnxruntime does not take the result.
    """
    if isinstance(scheme, Float32):
        raise QuantizationError("float32: nothing to quantize; use export")
    if isinstance(scheme, Mixture):
        check_mixture(scheme)
    done: list[Quantized] = []
    for part in parts_of(scheme):
        done.append(_part(done[-1].graph if done else graph, part, histograms, sample, portable=portable))
    # What a part does not take, a later one may.
    notes = [note for one in done for note in one.notes if one is done[-1] or not note.startswith(UNASKED)]
    formats = {one.format for one in done}
    result = Quantized(
        done[-1].graph if len(done) == 1 else done[-1].graph.noted("quantize", scheme.name),
        done[-1].left_float,
        tuple(notes),
        formats.pop() if len(formats) == 1 else "mixed",
    )
    return load_test(result, scheme.name, sample) if tested else result


def check_mixture(scheme: Mixture) -> None:
    """Refuses parts that do not go together.

    Raises:
        QuantizationError: There are fewer than two, or one would leave nothing, or nothing sound, to the next.
    """
    parts = scheme.parts
    if len(parts) < 2:
        raise QuantizationError(f"{scheme.name}: a mixture has at least two parts, such as static-u8s8-minmax-conv+dynamic-u8s8")
    if any(isinstance(part, StaticInt8) for part in parts[1:]):
        raise QuantizationError(
            f"{scheme.name}: there is one static part at most, and it comes first: it is calibrated on the float graph"
        )
    if any(isinstance(part, (Float16, BFloat16)) for part in parts[:-1]):
        raise QuantizationError(f"{scheme.name}: float16 and bfloat16 come last, since they leave nothing in float32")
    last = parts[-1]
    if isinstance(last, (Float16, BFloat16)) and not last.stored and any(isinstance(part, DynamicInt8) for part in parts):
        raise QuantizationError(
            f"{scheme.name}: the sums of dynamic int8 do not fit 16-bit floats; put a static or weights scheme in its place"
        )


def _part(
    graph: Graph,
    part: Part,
    histograms: Mapping[str, Histogram] | None,
    sample: Sequence[Mapping[str, np.ndarray]],
    *,
    portable: bool,
) -> Quantized:
    if isinstance(part, DynamicInt8):
        return quantize_dynamic(graph, part, sample=sample)
    if isinstance(part, WeightOnly):
        return quantize_weights(graph, part)
    if isinstance(part, (Float16, BFloat16)):
        return to_half(graph, part)
    if histograms is None:
        raise QuantizationError(f"{part.name}: a static scheme needs calibration data; give some, or use a dynamic scheme")
    return quantize_static(graph, part, histograms, sample=sample, rewritten=not portable)
