"""Corrections in their order, and with ranges that hold: what moves channels' scales is calibrated anew."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit_export.calibration import Histogram, calibrate
from edgekit_export.corrections import channel_maxima, correct_bias, equalize, learn_rounding, smooth
from edgekit_export.graph import Graph
from edgekit_export.schemes import StaticInt8
from edgekit_runtime.errors import QuantizationError

__all__ = ["Corrected", "debiased", "rescaled", "rounded"]

# They are run through once for each layer of the network; a mean over all positions of these many is known well enough.
BIAS_FEEDS = 12


@dataclass(frozen=True)
class Corrected:
    """A float graph after corrections.

    Attributes:
        graph: It.
        histograms: What calibration sees of its tensors.
        notes: Corrections that found nothing to do, and where ranges come from.
    """

    graph: Graph
    histograms: Mapping[str, Histogram]
    notes: tuple[str, ...] = ()


def rescaled(
    graph: Graph, scheme: StaticInt8, histograms: Mapping[str, Histogram], sample: Sequence[Mapping[str, np.ndarray]]
) -> Corrected:
    """The graph equalized and smoothed, where the scheme says so.

    Both move scales from channel to channel, after which old ranges say nothing: they are collected anew, on the sample.

    Raises:
        QuantizationError: The scheme has corrections, and there is no sample.
        CalibrationError: A feed does not fit, or cannot be run.
    """
    if scheme.corrections and not sample:
        raise QuantizationError(
            f"{scheme.name}: corrections ({', '.join(scheme.corrections)}) look at calibration feeds; give a sample of some dozen"
        )
    notes, before = [], graph
    for name, correct in (("equalized", equalize), ("smoothed", smooth)):
        if name not in scheme.corrections:
            continue
        changed = correct(graph, channel_maxima(graph, sample))
        if changed is graph:
            notes.append(f"{name}: it found nothing in this graph that it could change")
        graph = changed
    if graph is before:
        return Corrected(graph, histograms, tuple(notes))
    return Corrected(graph, calibrate(graph, sample).histograms, tuple(notes))


def rounded(graph: Graph, scheme: StaticInt8, names: Collection[str], sample: Sequence[Mapping[str, np.ndarray]]) -> Graph:
    """The graph with its weights on the quantizer's grid, where the scheme says so; ranges stay as they are.

    Args:
        graph: A float graph.
        scheme: Whose types make the grid.
        names: Nodes that are going to be quantized.
        sample: A few dozen feeds.
    """
    if "rounded" not in scheme.corrections:
        return graph
    return learn_rounding(graph, sample, scheme.flavour, scheme.granularity, nodes=names)


def debiased(graph: Graph, quantized: Graph, scheme: StaticInt8, sample: Sequence[Mapping[str, np.ndarray]]) -> Graph:
    """The quantized graph with the mean error of each channel taken off its bias, where the scheme says so.

    Args:
        graph: The float graph, equalized and smoothed as the quantized one is, and not rounded.
        quantized: What became of it.
        scheme: Which corrections.
        sample: Feeds, of which the first dozen are looked at.
    """
    return correct_bias(graph, quantized, sample[:BIAS_FEEDS]) if "debiased" in scheme.corrections else quantized
