"""How each output's errors against float are distributed: a small plot per output and candidate, on one scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from edgekit.deployment import CandidateResult, Deployment, ErrorHistogram
from edgekit.report.numbers import plain, share, significant
from edgekit.report.svg import CHOSEN, INK, LINE, MUTED, REJECTED, inline_svg, plot_style

__all__ = ["OutputErrors", "Panel", "error_panels"]

MAX_PANELS = 60
"""More small plots than this on a page help nobody."""

WIDTH, HEIGHT = 256.0, 124.0

REACH = 4.0
"""The scale of an output reaches at most this many times as far as the chosen candidate's errors."""

BINS = 61
"""Bins of every plot, an odd number so that one is centred on zero."""


@dataclass(frozen=True)
class Panel:
    """One candidate's errors on one output; without a plot where they cannot be drawn, and then `summary` says why."""

    number: int
    name: str
    status: str
    plot: Markup | None
    summary: str


@dataclass(frozen=True)
class OutputErrors:
    """All candidates' errors on one output."""

    output: str
    panels: list[Panel]


def error_panels(deployment: Deployment) -> tuple[list[OutputErrors], int]:
    """The small plots, the chosen candidate first, and how many outputs were left out for want of room."""
    numbered = list(enumerate(deployment.candidates, 1))
    numbered.sort(key=lambda pair: pair[1].status != "chosen")
    with_errors = [(number, candidate) for number, candidate in numbered if candidate.errors][:MAX_PANELS]
    outputs = list(dict.fromkeys(errors.output for _, candidate in with_errors for errors in candidate.errors))
    shown = outputs[: max(1, MAX_PANELS // max(1, len(with_errors)))]
    return [_output(output, place, with_errors) for place, output in enumerate(shown)], len(outputs) - len(shown)


def _output(output: str, place: int, candidates: Sequence[tuple[int, CandidateResult]]) -> OutputErrors:
    found = [
        (number, candidate, errors) for number, candidate in candidates for errors in candidate.errors if errors.output == output
    ]
    limit = _limit([errors for _, _, errors in found])
    values = max((sum(errors.counts) for _, _, errors in found), default=1)
    decades = min(6, max(2, math.ceil(math.log10(max(1, values)))))
    panels = []
    for index, (number, candidate, errors) in enumerate(found):
        exact = candidate.measurement.max_abs_diff == 0
        problem = "no error: every value equals float's" if exact else _problem(errors)
        if problem:
            panels.append(Panel(number, candidate.name, candidate.status, None, problem))
            continue
        shares, outside = _rebinned(errors, limit)
        summary = f"99 % within ±{significant(_extent(errors, 0.99), 2)}"
        if outside > 1e-9:
            summary += f"; {share(outside)} beyond the plot"
        label = f"Histogram of the errors of {candidate.name} on output {output}: {summary}"
        colour = {"chosen": CHOSEN, "rejected": REJECTED}.get(candidate.status, MUTED)
        plot = _plot(shares, limit, decades, colour, f"e{place}-{index}", label)
        panels.append(Panel(number, candidate.name, candidate.status, plot, summary))
    return OutputErrors(output, panels)


def _usable(errors: ErrorHistogram) -> bool:
    edges = errors.edges
    return (
        len(edges) == len(errors.counts) + 1 > 1
        and all(math.isfinite(edge) for edge in edges)
        and all(low <= high for low, high in pairwise(edges))
    )


def _problem(errors: ErrorHistogram) -> str:
    if not _usable(errors):
        return "no plot, because these errors have no usable bins"
    if sum(errors.counts) == 0:
        return "no values were compared"
    return "" if _extent(errors) > 0 else "no error: every value equals float's"


def _extent(errors: ErrorHistogram, part: float = 1.0) -> float:
    """How far from zero the errors reach, or the given part of them that is nearest to zero."""
    if not _usable(errors) or sum(errors.counts) == 0:
        return 0.0
    edges, counts = np.asarray(errors.edges), np.asarray(errors.counts, dtype=float)
    far = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    order = np.argsort(far, kind="stable")
    reached = np.cumsum(counts[order]) / counts.sum()
    return float(far[order][int(np.searchsorted(reached, part - 1e-12))])


def _limit(found: Sequence[ErrorHistogram]) -> float:
    """One scale for all candidates of an output.

    It reaches as far as the worst, unless that would hide the chosen one's shape, and never less far than half of them.
    """
    extents = [extent for extent in (_extent(errors) for errors in found) if extent > 0]
    if not extents:
        return 1.0
    return min(max(extents), max(REACH * _extent(found[0]), float(np.median(extents))))


def _rebinned(errors: ErrorHistogram, limit: float) -> tuple[np.ndarray, float]:
    """Shares of the values in this page's own bins, ``(BINS,)``, and the share outside of them.

    Candidates come with bins of their own width, and shares of unlike bins cannot be compared by eye.
    """
    counts = np.asarray(errors.counts, dtype=float)
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    at_edges = np.interp(np.linspace(-limit, limit, BINS + 1), errors.edges, below)
    shares = np.diff(at_edges)
    return shares, max(0.0, 1.0 - float(shares.sum()))


def _plot(shares: np.ndarray, limit: float, decades: int, colour: str, prefix: str, label: str) -> Markup:
    """The shares on a logarithmic scale, symmetric about zero."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    bottom = 10.0**-decades
    with plot_style(prefix):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        axes = figure.add_axes((52 / WIDTH, 26 / HEIGHT, (WIDTH - 72) / WIDTH, (HEIGHT - 36) / HEIGHT))
        axes.set_yscale("log")
        axes.set_xlim(-limit, limit)
        axes.set_ylim(bottom, 1.6)
        edges = np.linspace(-limit, limit, BINS + 1)
        axes.stairs(np.maximum(shares, bottom), edges, baseline=bottom, fill=True, color=colour, alpha=0.8, linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.8, alpha=0.5, zorder=0.5)
        axes.yaxis.set_major_locator(FixedLocator([1.0, 10.0 ** -(decades // 2), bottom]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{plain(100 * value)} %")
        axes.xaxis.set_major_locator(FixedLocator([-limit, 0, limit]))
        axes.xaxis.set_major_formatter(lambda value, _: significant(value, 2))
        axes.tick_params(length=0, pad=4, labelsize=10.5)
        axes.tick_params(axis="x", pad=8)
        axes.grid(axis="y", color=LINE)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        return inline_svg(figure, prefix, label)
