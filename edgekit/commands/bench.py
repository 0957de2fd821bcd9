"""Bench: latency, cold start, memory and size of one bundle or model on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit_runtime.benchmark import Benchmark

__all__ = ["bench"]


def bench(
    path: str | Path,
    feed: Mapping[str, np.ndarray] | None = None,
    *,
    rounds: int = 25,
    threads: int | None = None,
    check_isa: bool = True,
) -> "Benchmark":
    """Measures a bundle or an ``.onnx`` file on this machine.

    Args:
        path: The bundle or model.
        feed: What to run it on; by default the bundle's first golden example, or random values for a plain model.
        rounds: Timed rounds of about 10 ms each.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold on this machine's instruction sets.

    Raises:
        BundleError: The bundle is damaged.
        InputError: The feed does not fit.
    """
    from edgekit_runtime.benchmark import benchmark, example_feed
    from edgekit_runtime.model import load

    model = load(path, threads=threads, check_isa=check_isa)
    return benchmark(model, feed if feed is not None else example_feed(model), rounds=rounds)
