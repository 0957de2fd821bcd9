"""Building candidates: a model file for each, or the reason why there is none."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.candidates import Candidate
from edgekit.progress import Progress
from edgekit.recipe import Arrays
from edgekit_runtime.errors import EdgekitError, OutputError
from edgekit_runtime.session import Provider, SessionConfig

if TYPE_CHECKING:
    from onnx_ir import Node

    from edgekit_export import Graph, Quantized, Scheme, StaticInt8, Statistics

__all__ = ["Built", "build_candidates", "build_float", "quantize_graph", "suits"]

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
    """

    candidate: Candidate
    path: Path | None
    kind: str
    notes: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name


def build_float(graph: "Graph", provider: Provider, folder: Path) -> Built:
    """The float model, with onnxruntime's optimizations done offline where the CPU runs it."""
    from edgekit_export import Float32, optimize_float

    candidate = Candidate(Float32(), provider, SessionConfig())
    path = folder / "float32.onnx"
    (optimize_float(graph) if provider == Provider() else graph).save(path)
    return Built(candidate, path, "float32")


def build_candidates(
    graph: "Graph",
    candidates: Sequence[Candidate],
    statistics: "Statistics | None",
    folder: Path,
    progress: Progress,
    sample: Sequence[Arrays] = (),
) -> list[Built]:
    """Quantizes the graph in every candidate's way; placements that come to the same nodes are built once.

    Args:
        graph: The prepared graph.
        candidates: What to build.
        statistics: What calibration saw; without it no static candidate can be built.
        folder: Where the files go.
        progress: Told how many are done.
        sample: A few calibration feeds, for corrections.

    A candidate that cannot be built has its reason in `Built.failure`.
    """
    progress.stage("quantize")
    built: list[Built] = []
    seen: set[tuple[object, ...]] = set()
    for index, candidate in enumerate(candidates):
        made = _build(graph, candidate, statistics, folder, seen, sample)
        if made is not None:
            built.append(made)
        progress.advance(index + 1, len(candidates))
    return built


def _build(
    graph: "Graph",
    candidate: Candidate,
    statistics: "Statistics | None",
    folder: Path,
    seen: set[tuple[object, ...]],
    sample: Sequence[Arrays],
) -> Built | None:
    """One candidate, with its failure where there is one; nothing where it names no node, or an equal one was built before."""
    path = folder / f"{candidate.name}.onnx"
    try:
        if not suits(graph, candidate.scheme):
            return None
        key = (_key(graph, candidate.scheme, statistics), repr(candidate.provider), repr(candidate.session))
        if key in seen:
            return None
        seen.add(key)
        quantized = quantize_graph(graph, candidate.scheme, statistics, sample, tested=False)
        quantized.graph.save(path)
        return Built(candidate, path, quantized.kind, quantized.notes)
    except (OSError, OutputError):
        raise  # a full disk is no fault of the candidate, and would fail all others too
    except EdgekitError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - libraries raise anything on a graph they do not know; the others may still do
        failure = f"{candidate.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Built(candidate, None, "int8", failure=failure)


def quantize_graph(
    graph: "Graph",
    scheme: "Scheme",
    statistics: "Statistics | None",
    sample: Sequence[Arrays] = (),
    *,
    tested: bool = True,
) -> "Quantized":
    """One graph in one scheme, opened by onnxruntime's CPU provider and run once where there is a feed.

    Args:
        graph: The prepared graph.
        scheme: Any but float32.
        statistics: What calibration saw; only static schemes need it.
        sample: A few calibration feeds, for corrections and the load test.
        tested: Whether to open and run it; the lab does that with every candidate anyway.

    Raises:
        QuantizationError: It cannot be done.
    """
    from edgekit_export import quantize_as

    return quantize_as(graph, scheme, statistics.histograms if statistics else None, sample, tested=tested)


def suits(graph: "Graph", scheme: "Scheme") -> bool:
    """Whether a graph has what a scheme is for.

    A placement is of no use without its operators, such as convolutions in a transformer. Of a mixture each part has to have
    a twentieth of the weights to itself, or one of them would do alone. Weights in blocks are for graphs whose weights,
    embedding tables aside, are mostly those of products.
    """
    from edgekit_export.schemes import Mixture, StaticInt8, WeightOnly

    if isinstance(scheme, WeightOnly):
        sizes = _weight_bytes(graph)
        return sizes["products"] >= MOSTLY * (sum(sizes.values()) - sizes["tables"]) > 0
    if isinstance(scheme, Mixture) and isinstance(scheme.parts[0], StaticInt8):
        placed = {str(node.name) for node in _placed(graph, scheme.parts[0])}
        sizes, ahead = _weight_bytes(graph), _weight_bytes(graph, placed)
        behind = sizes["products"] + sizes["recurrent"] - ahead["products"] - ahead["recurrent"]
        return min(sum(ahead.values()), behind) >= OF_ITS_OWN * sum(sizes.values()) > 0
    return not isinstance(scheme, StaticInt8) or bool(_placed(graph, scheme))


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


def _key(graph: "Graph", scheme: "Scheme", statistics: "Statistics | None") -> object:
    """What makes a scheme differ from others: for static ones the nodes, and not the placement's name."""
    from edgekit_export import Mixture, StaticInt8, ranges_from
    from edgekit_export.placement import place

    if isinstance(scheme, Mixture):
        return tuple(_key(graph, part, statistics) for part in scheme.parts)
    if not isinstance(scheme, StaticInt8) or statistics is None or scheme.placement == "everything":
        return scheme
    nodes = place(graph, scheme.placement, ranges_from(statistics.histograms, "minmax"))
    # The order of the nodes is the placement's; which they are is what counts.
    return replace(scheme, placement="everything"), frozenset(nodes)
