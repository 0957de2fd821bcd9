"""Bench: latency, cold start, memory and size of one bundle or model, on this machine or at another place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit.labs.placed import PlacedBenchmark
    from edgekit.labs.placed_counts import PlacedCounts
    from edgekit.progress import Progress
    from edgekit_runtime.benchmark import Benchmark

__all__ = ["bench"]


def bench(
    path: str | Path,
    feed: Mapping[str, np.ndarray] | None = None,
    *,
    rounds: int = 25,
    threads: int | None = None,
    check_isa: bool = True,
    on: str | None = None,
    progress: Progress | None = None,
) -> Benchmark | PlacedBenchmark | PlacedCounts:
    """Measures a bundle or an ``.onnx`` file.

    Args:
        path: The bundle or model.
        feed: What to run it on; by default the bundle's first golden example, or random values for a plain model.
        rounds: Timed rounds of about 10 ms each.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold on that machine's instruction sets.
        on: A place: an emulated board, which counts instructions and never gives times, a device, or ``host``.
        progress: Told what is going on at a place.

    Returns:
        Latency, cold start, memory and size; at a place, with what it is; on an emulated board, counts.

    Raises:
        BundleError: The bundle is damaged.
        InputError: The feed does not fit.
        DeviceError: There is no such place, or it is not reached.
    """
    if on is not None:
        from edgekit.labs.emulated.emulator import EmulatedBoard
        from edgekit.labs.place import find_place
        from edgekit.labs.placed import bench_at

        place = find_place(on, progress)
        if isinstance(place, EmulatedBoard):
            from edgekit.labs.placed_counts import bench_counts

            return bench_counts(place, Path(path), feed, check_isa=check_isa, progress=progress)
        return bench_at(place, Path(path), feed, rounds=rounds, threads=threads, check_isa=check_isa, progress=progress)

    from edgekit_runtime.benchmark import benchmark, example_feed
    from edgekit_runtime.model import load

    model = load(path, threads=threads, check_isa=check_isa)
    return benchmark(model, feed if feed is not None else example_feed(model), rounds=rounds)
