"""The trade-off in one picture: what each candidate loses of the metric against how long a call takes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from edgekit.deployment import Deployment
from edgekit.report.axes_range import DropRange, drop_range, needs_log
from edgekit.report.label_placement import Box, place_labels
from edgekit.report.numbers import drop_decimals, fixed, plain
from edgekit.report.off_scale import band_height, draw_band
from edgekit.report.points import Point, Untested, front_line, untested_of
from edgekit.report.svg import CHOSEN, MUTED, PAGE, REJECTED, ZONE, inline_svg, plot_style
from edgekit.report.words import LATENCY_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["tradeoff"]

WIDE = 600
"""From this width on, points are labelled with names and not with numbers alone."""

LETTER = 6.4
"""Width in pixels of a letter of a label, rather too much than too little."""

CROWD = 15
"""With more points than this, the interval bars fade."""

SHAPES = {"float": "s", "chosen": "o", "beaten": "o", "rejected": "D", "failed": "D"}


def tradeoff(deployment: Deployment, points: Sequence[Point], width: int, prefix: str) -> Markup:
    """The plot as inline SVG, `width` pixels wide; `prefix` goes before its ids."""
    from matplotlib.figure import Figure

    limits = drop_range([(point.drop, point.drop_ci) for point in points], deployment.max_drop)
    near = [point for point in points if not limits.beyond(point.drop)]
    beyond = [point for point in points if limits.beyond(point.drop)]
    named = width >= WIDE
    ticks = _drop_ticks(limits)
    left = 14.0 + 7.0 * max([len(_tick_label(tick)) for tick in ticks], default=5)
    right, top, bottom = 14.0, 34.0, 46.0
    main, band = (330.0 if named else 300.0), band_height(len(beyond))
    height = top + main + band + bottom
    with plot_style(prefix):
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((left / width, bottom / height, (width - left - right) / width, (main + band) / height))
        axes.set_ylim(limits.worst + band * (limits.worst - limits.best) / main, limits.best)
        _latency_axis(axes, points, deployment.measured)
        _drop_axis(axes, ticks)
        _budget(axes, points, limits, deployment, named)
        _front(axes, points, limits)
        _marks(axes, near, limits)
        frame = Box(left + 4, bottom + band + 4, width - right, height - top)
        _labels(axes, near, limits, frame, deployment.max_drop, named)
        if beyond:
            draw_band(axes, beyond, limits, main, drop_decimals(deployment.max_drop), named)
        untested = untested_of(deployment, points)
        _rug(axes, untested)
        titles = {point.gid: point.tooltip for point in points} | {one.gid: one.tooltip for one in untested}
        label = f"Scatter plot of metric drop against latency for {len(points)} models. The candidates table has its figures."
        return inline_svg(figure, prefix, label, titles)


def _latency_axis(axes: "Axes", points: Sequence[Point], measured: str) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    latencies = [point.latency_ms for point in points]
    low, high = min(latencies), max(latencies)
    if needs_log(latencies):
        low, high = low / 1.35, high * 1.6
        steps = (1.0, 2.0, 5.0) if high / low < 60 else (1.0, 3.0)
        decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = max(0.14 * (high - low), 0.08 * high)
        axes.set_xlim(max(0.0, low - margin), high + 1.5 * margin)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    axes.tick_params(length=0, pad=6)
    axes.set_xlabel(f"{LATENCY_LABELS.get(measured, 'latency')} of one call, ms   (← faster)", labelpad=8)


def _tick_label(value: float) -> str:
    return plain(round(value, 12))


def _drop_ticks(limits: DropRange) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(limits.best, limits.worst)
    return [float(tick) for tick in ticks if limits.best <= tick <= limits.worst]


def _drop_axis(axes: "Axes", ticks: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator

    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(lambda value, _: _tick_label(value))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.annotate(
        "metric drop against float   (↑ less is lost)",
        (0, 1),
        xycoords=("figure fraction", "axes fraction"),
        xytext=(6, 18),
        textcoords="offset points",
        color=MUTED,
        va="center",
    )


def _budget(axes: "Axes", points: Sequence[Point], limits: DropRange, deployment: Deployment, named: bool) -> None:
    """The budget as a line, and the corner where a candidate ships: inside the budget and, unless for size, faster."""
    budget = deployment.max_drop
    low, high = axes.get_xlim()
    floats = [point.latency_ms for point in points if point.role == "float"]
    by_size = deployment.optimize == "size"
    if floats:
        span = [limits.best, limits.worst]
        axes.plot([floats[0]] * 2, span, color=MUTED, linewidth=0.9, linestyle=(0, (1, 3)), zorder=1)
    if not math.isfinite(budget):
        return
    edge = floats[0] if floats and not by_size else high
    axes.fill_between([low, edge], [budget] * 2, [limits.best] * 2, color=ZONE, linewidth=0, zorder=0.5, gid="zone")
    axes.plot([low, high], [budget] * 2, color=REJECTED, linewidth=1.4, linestyle=(0, (5, 3)), zorder=1.5, gid="budget")
    small: dict[str, Any] = {"textcoords": "offset points", "va": "center", "size": 11}
    axes.annotate(
        f"budget {plain(budget)}",
        (1, budget),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -9),
        ha="right",
        color=REJECTED,
        **small,
    )
    if named and (floats or by_size):
        words = "inside the budget" if by_size else "faster than float and inside the budget"
        axes.annotate(words, (low, limits.best), xytext=(8, -11), color=MUTED, **small)


def _front(axes: "Axes", points: Sequence[Point], limits: DropRange) -> None:
    """The front as steps: whoever wants less lost, or less latency, than a corner of it has to pay for it."""
    line = front_line(points)
    if len(line) < 2:
        return
    xs, ys = [line[0][0]], [limits.worst]
    for latency_ms, drop in line:
        xs += [latency_ms, latency_ms]
        ys += [ys[-1], limits.clipped(drop)]
    xs.append(axes.get_xlim()[1])
    ys.append(ys[-1])
    axes.plot(xs, ys, color=CHOSEN, linewidth=1.5, alpha=0.55, zorder=1.8, solid_joinstyle="miter", gid="front")


def _rug(axes: "Axes", untested: Sequence[Untested]) -> None:
    """A tick on the latency axis for each candidate whose metric was not measured."""
    for one in untested:
        axes.plot(
            [one.latency_ms],
            [0.0],
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            marker="|",
            markersize=9,
            markeredgecolor=MUTED,
            markeredgewidth=1.2,
            gid=one.gid,
        )


def _marks(axes: "Axes", points: Sequence[Point], limits: DropRange) -> None:
    for point in points:
        drop = limits.clipped(point.drop)
        bar: dict[str, Any] = {"color": point.ink, "linewidth": 1.3, "alpha": 0.5 if len(points) <= CROWD else 0.2, "zorder": 2}
        if point.drop_ci is not None:
            axes.plot([point.latency_ms] * 2, [limits.clipped(end) for end in point.drop_ci], **bar)
        if point.latency_ci is not None:
            axes.plot(point.latency_ci, [drop] * 2, **bar)
        # Filled is sure: float, and what is certified.
        solid = point.role == "float" or (point.certainty == "certified" and point.role in ("chosen", "beaten"))
        axes.plot(
            [point.latency_ms],
            [drop],
            marker="^" if point.drop < limits.best else SHAPES[point.role],
            markersize=12 if point.role == "chosen" else 8,
            markerfacecolor=point.ink if solid else PAGE,
            markeredgecolor=PAGE if solid else point.ink,
            markeredgewidth=1.0 if solid else 3.0 if point.role == "chosen" else 1.6,
            zorder=4 if point.role == "chosen" else 3,
            gid=point.gid,
        )


def _labels(axes: "Axes", points: Sequence[Point], limits: DropRange, frame: Box, max_drop: float, named: bool) -> None:
    """Names beside the points where all of them find room, otherwise numbers."""

    def pixels(latency_ms: float, drop: float) -> tuple[float, float]:
        x, y = axes.transData.transform((latency_ms, limits.clipped(drop)))
        return float(x), float(y)

    centres = [pixels(point.latency_ms, point.drop) for point in points]
    avoid = []
    for point in points:
        corners = [pixels(point.latency_ms, end) for end in point.drop_ci or ()]
        corners_across = [pixels(end, point.drop) for end in point.latency_ci or ()]
        avoid += [_around(ends) for ends in (corners, corners_across) if ends]
    if math.isfinite(max_drop):
        line = pixels(points[0].latency_ms, max_drop)[1] if points else 0.0
        avoid.append(Box(frame.left, line - 2, frame.right, line + 2))
    texts: list[str] = []
    places = []
    for with_names in [True, False] if named else [False]:
        texts = [_label(point, limits, max_drop, with_names) for point in points]
        places = place_labels(centres, [(LETTER * len(text) + 4, 13.0) for text in texts], frame, avoid)
        if not any(place.covers for place in places):
            break
    for point, text, place in zip(points, texts, places, strict=True):
        far = math.hypot(place.dx, place.dy) > 18
        axes.annotate(
            text,
            (point.latency_ms, limits.clipped(point.drop)),
            xytext=(place.dx, place.dy),
            textcoords="offset points",
            ha=place.align,
            va="center",
            size=12 if point.role == "chosen" else 11,
            weight="bold" if point.role == "chosen" else "normal",
            color=point.ink,
            zorder=5,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": point.ink, "linewidth": 0.6, "alpha": 0.6, "shrinkB": 5} if far else None,
        )


def _around(ends: Sequence[tuple[float, float]]) -> Box:
    """The box of a thin line."""
    xs, ys = zip(*ends, strict=True)
    return Box(min(xs) - 2, min(ys) - 2, max(xs) + 2, max(ys) + 2)


def _label(point: Point, limits: DropRange, max_drop: float, named: bool) -> str:
    label = point.label(named)
    return f"{label}: {fixed(point.drop, drop_decimals(max_drop))}" if point.drop < limits.best else label
