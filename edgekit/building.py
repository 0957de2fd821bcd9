"""Building candidates: a model file for each, or the reason why there is none."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.candidates import Candidate
from edgekit.providers import portable as portable_for
from edgekit.recipe import Arrays
from edgekit_runtime.errors import EdgekitError, OutputError
from edgekit_runtime.session import CPU, Provider, SessionConfig

if TYPE_CHECKING:
    from onnx_ir import Node

    from edgekit_export import Graph, Quantized, Scheme, StaticInt8, Statistics

__all__ = [
    "Built",
    "Made",
    "build_float",
    "is_mostly_products",
    "placed_alike",
    "quantize_graph",
    "suits",
    "write_candidate",
    "write_float",
]

# Share of the weights that products have in a graph that is mostly products.
MOSTLY = 0.5
# Share of the weights that each part of a mixture has for itself.
OF_ITS_OWN = 0.05


@dataclass(frozen=True)
class Built:
    """A candidate with its model file.

    Attributes:
        candidate: What it is.
        path: Its model file; ``None`` where it could not be built.
        kind: What a verdict calls it.
        notes: Warnings from building it.
        failure: Why there is no file.
        sha256: Of the file, where it is known.
    """

    candidate: Candidate
    path: Path | None
    kind: str
    notes: tuple[str, ...] = ()
    failure: str | None = None
    sha256: str = ""

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name


class Made(msgspec.Struct, frozen=True):
    """What came of building a candidate.

    Attributes:
        kind: What a verdict calls it.
        notes: Warnings.
        failure: Why there is no file; ``None`` where there is one.
    """

    kind: str
    notes: tuple[str, ...] = ()
    failure: str | None = None


def build_float(graph: "Graph", provider: Provider, folder: Path) -> Built:
    """The float model, with onnxruntime's optimizations done offline where the CPU runs it."""
    from edgekit_export import Float32

    candidate = Candidate(Float32(), provider, SessionConfig())
    path = folder / "float32.onnx"
    write_float(graph, provider, path)
    return Built(candidate, path, "float32")


def write_float(graph: "Graph", provider: Provider, path: Path) -> None:
    """Writes the float model: as onnxruntime would optimize it where its CPU provider runs it, plain for any other."""
    from edgekit_export import optimize_float

    (optimize_float(graph) if provider.name == CPU else graph).save(path)


def write_candidate(
    graph: "Graph", candidate: Candidate, statistics: "Statistics | None", sample: Sequence[Arrays], path: Path
) -> Made:
    """Quantizes the graph in a candidate's way, or says why that cannot be done.

    Args:
        graph: The prepared graph.
        candidate: What to build.
        statistics: What calibration saw; without it no static candidate can be built.
        sample: A few calibration feeds, for corrections.
        path: The file to write.
    """
    from edgekit_export import Float32

    try:
        if isinstance(candidate.scheme, Float32):
            write_float(graph, candidate.provider, path)
            return Made("float32")
        plain = portable_for(candidate.provider)
        quantized = quantize_graph(graph, candidate.scheme, statistics, sample, tested=False, portable=plain)
        quantized.graph.save(path)
        return Made(quantized.kind, tuple(quantized.notes))
    except (OSError, OutputError, MemoryError):
        raise  # a full disk is no fault of the candidate, and would fail all others too
    except EdgekitError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - libraries raise anything on a graph they do not know; the others may still do
        failure = f"{candidate.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Made("int8", failure=failure)


def quantize_graph(
    graph: "Graph",
    scheme: "Scheme",
    statistics: "Statistics | None",
    sample: Sequence[Arrays] = (),
    *,
    tested: bool = True,
    portable: bool = False,
) -> "Quantized":
    """One graph in one scheme, opened by onnxruntime's CPU provider and run once where there is a feed.

    Args:
        graph: The prepared graph.
        scheme: Any but float32.
        statistics: What calibration saw; only static schemes need it.
        sample: A few calibration feeds, for corrections and the load test.
        tested: Whether to open and run it; the lab does that with every candidate anyway.
        portable: Standard operators only, for other providers than the CPU's.

    Raises:
        QuantizationError: It cannot be done.
    """
    from edgekit_export import quantize_as

    return quantize_as(graph, scheme, statistics.histograms if statistics else None, sample, tested=tested, portable=portable)


def suits(graph: "Graph", scheme: "Scheme") -> bool:
    """Whether a graph has what a scheme is for.

    A placement is of no use without its operators, such as convolutions in a transformer. Of a mixture each part has to have
    a twentieth of the weights to itself, or one of them would do alone. Weights in blocks are for graphs whose weights,
    embedding tables aside, are mostly those of products.
    """
    from edgekit_export.schemes import Mixture, StaticInt8, WeightOnly

    if isinstance(scheme, WeightOnly):
        return is_mostly_products(graph)
    if isinstance(scheme, Mixture) and isinstance(scheme.parts[0], StaticInt8):
        placed = {str(node.name) for node in _placed(graph, scheme.parts[0])}
        sizes, ahead = _weight_bytes(graph), _weight_bytes(graph, placed)
        behind = sizes["products"] + sizes["recurrent"] - ahead["products"] - ahead["recurrent"]
        return min(sum(ahead.values()), behind) >= OF_ITS_OWN * sum(sizes.values()) > 0
    return not isinstance(scheme, StaticInt8) or bool(_placed(graph, scheme))


def is_mostly_products(graph: "Graph") -> bool:
    """Whether most of a graph's weights, embedding tables aside, are those of products, as in transformers."""
    sizes = _weight_bytes(graph)
    return sizes["products"] >= MOSTLY * (sum(sizes.values()) - sizes["tables"]) > 0


def _weight_bytes(graph: "Graph", nodes: Collection[str] | None = None) -> Counter[str]:
    """Bytes of float weights by what uses them, of some nodes or all: ``convolutions``, ``products``, ``recurrent``, ``tables``."""
    from edgekit_export.weights import weights

    groups = {
        **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv"), "convolutions"),
        **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), "products"),
        **dict.fromkeys(("LSTM", "GRU", "RNN"), "recurrent"),
    }
    sizes: Counter[str] = Counter()
    for weight in weights(graph):
        if nodes is None or weight.node in nodes:
            sizes[groups.get(weight.operator, "tables")] += weight.size_bytes
    return sizes


def _placed(graph: "Graph", scheme: "StaticInt8") -> "list[Node]":
    from edgekit_export.placement import nodes_in

    return list(graph.model.graph) if scheme.placement == "everything" else nodes_in(graph, scheme.placement)


def placed_alike(graph: "Graph", scheme: "Scheme", statistics: "Statistics | None") -> object:
    """What makes a scheme differ from others: for static ones the nodes, and not the placement's name. Equal ones need one file."""
    from edgekit_export import Mixture, StaticInt8, ranges_from
    from edgekit_export.placement import place

    if isinstance(scheme, Mixture):
        return tuple(placed_alike(graph, part, statistics) for part in scheme.parts)
    if not isinstance(scheme, StaticInt8) or statistics is None or scheme.placement == "everything":
        return scheme
    nodes = place(graph, scheme.placement, ranges_from(statistics.histograms, "minmax"))
    # The order of the nodes is the placement's; which they are is what counts.
    return replace(scheme, placement="everything"), frozenset(nodes)
