"""What benching on an emulated board gives: counts, the graph as it is optimized there, memory; never a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.inspection.surviving_qdq import SurvivingQdq, find_surviving_qdq
from edgekit.inspection.wiring import Wiring, count_operators
from edgekit.labs.count_model import Prediction, by_class, find_count_model, predict
from edgekit.labs.emulated.counts import RUNS, CacheCounts, Counts, InstructionMix, count
from edgekit.labs.place import Kind
from edgekit.progress import Progress, Quiet
from edgekit_runtime.benchmark import example_of, size_bytes
from edgekit_runtime.bundle import is_bundle, read_manifest
from edgekit_runtime.machine import Machine

if TYPE_CHECKING:
    import numpy as np

    from edgekit.labs.emulated.emulator import EmulatedBoard

__all__ = ["PlacedCounts", "PredictedCounts", "bench_counts"]


class PlacedCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One model on an emulated board. Whatever is not here, times above all, an emulator cannot tell.

    Attributes:
        place: The board.
        kind: ``emulated``.
        machine: What the runtime sees there.
        versions: Of what ran there, by package.
        instructions: Of one call: the median of `runs`.
        mix: By class; ``None`` where the emulated instructions are not told apart.
        caches: What went past modelled caches.
        runs: How many calls were counted.
        spread: Most minus fewest instructions of a call, over the median.
        nodes: Nodes after onnxruntime's optimization there.
        operators: Their operators with counts.
        surviving: Q/DQ that are left there, and what blocks them.
        emulated_rss_bytes: Peak resident memory of the process, the emulator and Python included: an upper bound.
        size_bytes: The model's own files.
        provider: The execution provider it ran on.
        threads: Intra-op threads: always one.
    """

    place: str
    kind: Kind
    machine: Machine
    versions: dict[str, str]
    instructions: int
    mix: InstructionMix | None
    caches: CacheCounts | None
    runs: int
    spread: float
    nodes: int
    operators: dict[str, int]
    surviving: SurvivingQdq
    emulated_rss_bytes: int | None
    size_bytes: int
    provider: str
    threads: int


class PredictedCounts(PlacedCounts, frozen=True, kw_only=True):
    """The same, of a board of which a real one was measured: what a model fitted to its times makes of these counts.

    Attributes:
        prediction: A prediction with its error, and no measurement: nothing was timed here.
    """

    prediction: Prediction


def bench_counts(
    place: EmulatedBoard,
    path: Path,
    feed: Mapping[str, np.ndarray] | None = None,
    *,
    runs: int = RUNS,
    check_isa: bool = True,
    progress: Progress | None = None,
) -> PlacedCounts:
    """Counts what one call of a bundle or model executes on an emulated board.

    Args:
        place: The board.
        path: The bundle or model.
        feed: What to call it with; by default its own example.
        runs: Calls to take the median of.
        check_isa: Refuse a bundle whose figures do not hold there.
        progress: Told what is going on.

    Returns:
        Counts; with a predicted time only where `edgekit device calibrate` has fitted a model to a real board.

    Raises:
        DeviceError: There is a model of the board's times, and it does not hold.
        LabError: The lab is not set up, or cannot count.
        BundleError: The bundle is damaged, or was measured for other instruction sets.
        SessionError: The model does not open or run there.
    """
    import onnx

    told = progress or Quiet()
    model_of_times = find_count_model(place.name)
    told.stage(f"open on {place.name}")
    with place.start() as worker:
        welcome = worker.hello()
        model = worker.open(place.put(path), threads=1, check_isa=check_isa)
        feed = feed if feed is not None else example_of(path, model.inputs)
        model(feed)
        memory = worker.memory()
        wiring = Wiring(onnx.load_from_string(worker.optimized(place.put(path))))
    told.stage(f"count instructions on {place.name}")
    counts: Counts = count(place.board, path, feed, runs=runs, caches=True, lab=place.lab)
    file = path / read_manifest(path).model if is_bundle(path) else path
    placed = PlacedCounts(
        place=place.name,
        kind=place.kind,
        machine=welcome.machine,
        versions=welcome.versions,
        instructions=counts.instructions,
        mix=counts.mix,
        caches=counts.caches,
        runs=counts.runs,
        spread=counts.spread,
        nodes=len(wiring.nodes),
        operators=count_operators(wiring.nodes),
        surviving=find_surviving_qdq(wiring),
        emulated_rss_bytes=memory,
        size_bytes=size_bytes(file),
        provider=model.provider,
        threads=model.threads,
    )
    if model_of_times is None:
        return placed
    prediction = predict(model_of_times, by_class(counts.mix, counts.caches))
    return PredictedCounts(**msgspec.structs.asdict(placed), prediction=prediction)
