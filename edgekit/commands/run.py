"""Run: one call of a bundle or a plain model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["run"]


def run(
    path: str | Path, feed: Mapping[str, np.ndarray] | None = None, *, threads: int | None = None, check_isa: bool = True
) -> dict[str, np.ndarray]:
    """Runs a bundle or an ``.onnx`` file once.

    Args:
        path: The bundle or model.
        feed: Arrays by input name; by default the bundle's first golden example, or random values for a plain model.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold on this machine's instruction sets.

    Raises:
        BundleError: The bundle is damaged.
        InputError: The feed does not fit.
    """
    from edgekit_runtime.benchmark import example_feed
    from edgekit_runtime.model import load

    model = load(path, threads=threads, check_isa=check_isa)
    return model(dict(feed) if feed is not None else example_feed(model))
