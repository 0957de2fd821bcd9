"""Run: one call of a bundle or a plain model, on this machine or at another place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit.progress import Progress

__all__ = ["run"]


def run(
    path: str | Path,
    feed: Mapping[str, np.ndarray] | None = None,
    *,
    threads: int | None = None,
    check_isa: bool = True,
    on: str | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Runs a bundle or an ``.onnx`` file once.

    Args:
        path: The bundle or model.
        feed: Arrays by input name; by default the bundle's first golden example, or random values for a plain model.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold on that machine's instruction sets.
        on: A place: an emulated board, a device, or ``host``.
        progress: Told what is going on at a place.

    Raises:
        BundleError: The bundle is damaged.
        InputError: The feed does not fit.
        DeviceError: There is no such place, or it is not reached.
    """
    if on is not None:
        from edgekit.labs.place import find_place
        from edgekit.labs.placed import run_at

        return run_at(find_place(on, progress), Path(path), feed, threads=threads, check_isa=check_isa, progress=progress)

    from edgekit_runtime.benchmark import example_feed
    from edgekit_runtime.model import load

    model = load(path, threads=threads, check_isa=check_isa)
    return model(dict(feed) if feed is not None else example_feed(model))
