"""Building candidates: a model file for each, or the reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.candidates import Candidate
from edgekit.progress import Progress
from edgekit_runtime.errors import EdgekitError, OutputError, QuantizationError
from edgekit_runtime.session import Provider, SessionConfig

if TYPE_CHECKING:
    from edgekit_export import Graph, Quantized, Scheme, Statistics

__all__ = ["Built", "build_candidates", "build_float", "quantize_graph"]


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
    graph: "Graph", candidates: Sequence[Candidate], statistics: "Statistics | None", folder: Path, progress: Progress
) -> list[Built]:
    """Quantizes the graph in every candidate's way; placements that come to the same nodes are built once.

    A candidate that cannot be built has its reason in `Built.failure`.
    """
    progress.stage("quantize")
    built: list[Built] = []
    seen: set[tuple[object, ...]] = set()
    for index, candidate in enumerate(candidates):
        made = _build(graph, candidate, statistics, folder, seen)
        if made is not None:
            built.append(made)
        progress.advance(index + 1, len(candidates))
    return built


def _build(
    graph: "Graph", candidate: Candidate, statistics: "Statistics | None", folder: Path, seen: set[tuple[object, ...]]
) -> Built | None:
    """One candidate, with its failure where there is one; nothing where it names no node, or an equal one was built before."""
    path = folder / f"{candidate.name}.onnx"
    try:
        if _names_no_node(graph, candidate):
            return None
        key = _key(graph, candidate, statistics)
        if key in seen:
            return None
        seen.add(key)
        quantized = quantize_graph(graph, candidate.scheme, statistics)
        quantized.graph.save(path)
        return Built(candidate, path, quantized.kind, quantized.notes)
    except (OSError, OutputError):
        raise  # a full disk is no fault of the candidate, and would fail all others too
    except EdgekitError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - libraries raise anything on a graph they do not know; the others may still do
        failure = f"{candidate.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Built(candidate, None, "int8", failure=failure)


def quantize_graph(graph: "Graph", scheme: "Scheme", statistics: "Statistics | None") -> "Quantized":
    """One graph in one scheme.

    Raises:
        QuantizationError: It cannot be done.
    """
    from edgekit_export import DynamicInt8, Float32, quantize_dynamic, quantize_static

    if isinstance(scheme, Float32):
        raise QuantizationError("float32: nothing to quantize; use export")
    if isinstance(scheme, DynamicInt8):
        return quantize_dynamic(graph, scheme)
    if statistics is None:
        raise QuantizationError(f"{scheme.name}: a static scheme needs calibration data; give some, or use a dynamic scheme")
    return quantize_static(graph, scheme, statistics.histograms)


def _names_no_node(graph: "Graph", candidate: Candidate) -> bool:
    """Whether a placement is of operators that the graph does not have, such as convolutions in a transformer."""
    from edgekit_export import StaticInt8
    from edgekit_export.placement import nodes_in

    scheme = candidate.scheme
    return isinstance(scheme, StaticInt8) and scheme.placement != "everything" and not nodes_in(graph, scheme.placement)


def _key(graph: "Graph", candidate: Candidate, statistics: "Statistics | None") -> tuple[object, ...]:
    """What makes a candidate differ from others: for static ones the nodes, and not the placement's name."""
    from edgekit_export import StaticInt8, ranges_from
    from edgekit_export.placement import place

    scheme = candidate.scheme
    if not isinstance(scheme, StaticInt8) or statistics is None or scheme.placement == "everything":
        return (candidate.name, repr(candidate.provider), repr(candidate.session))
    nodes = place(graph, scheme.placement, ranges_from(statistics.histograms, "minmax"))
    return (scheme.flavour, scheme.method, tuple(nodes), repr(candidate.provider), repr(candidate.session))
