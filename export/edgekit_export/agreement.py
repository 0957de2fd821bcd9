"""Agreement: how closely two graphs compute the same, on given feeds."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit_export.graph import Graph
from edgekit_runtime.accuracy import difference
from edgekit_runtime.model import load

__all__ = ["SAME_DB", "agreement_db"]

SAME_DB = 60.0
"""Rewriting reorders float sums; anything that computes something else is far below this."""


def agreement_db(graph: Graph, other: Graph, feeds: Sequence[Mapping[str, np.ndarray]]) -> float:
    """SQNR in dB of `other`'s outputs against `graph`'s, all outputs of all feeds together; infinite where they are equal.

    Raises:
        SessionError: onnxruntime cannot open or run one of them.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        outputs = []
        for name, one in (("before", graph), ("after", other)):
            path = Path(folder) / f"{name}.onnx"
            one.save(path)
            model = load(path)
            outputs.append([model(dict(feed)) for feed in feeds])
    return difference(outputs[1], outputs[0]).sqnr_db
