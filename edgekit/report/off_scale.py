"""The band below the plot's scale for candidates that lost too much to be drawn in proportion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.report.axes_range import DropRange
from edgekit.report.numbers import fixed
from edgekit.report.points import Point
from edgekit.report.svg import LINE, MUTED, PAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["band_height", "draw_band"]

ROW = 22.0
"""Height in pixels of one row."""

TITLE = 26.0
"""Height in pixels of what is above the rows."""


def band_height(count: int) -> float:
    """Pixels that the band needs for so many candidates."""
    return ROW * count + TITLE if count else 0.0


def draw_band(axes: "Axes", points: Sequence[Point], limits: DropRange, main: float, decimals: int, named: bool) -> None:
    """A row for each candidate, the worst at the bottom, each with its drop in figures.

    Args:
        axes: Reaches below the scale by `band_height`.
        points: The candidates off the scale.
        limits: The scale.
        main: The height of the scale in pixels.
        decimals: Of the drops.
        named: Whether there is room for names.
    """
    per_pixel = (limits.worst - limits.best) / main
    axes.axhline(limits.worst, color=LINE, linewidth=1.2)
    axes.annotate(
        "off the scale, not in proportion",
        (0, limits.worst),
        xycoords=("axes fraction", "data"),
        xytext=(0, -11),
        textcoords="offset points",
        color=MUTED,
        va="center",
        size=11,
    )
    middle = axes.transAxes.transform((0.5, 0))[0]
    for row, point in enumerate(sorted(points, key=lambda point: point.drop)):
        y = limits.worst + (ROW * (row + 0.5) + TITLE - 6) * per_pixel
        to_the_left = axes.transData.transform((point.latency_ms, y))[0] > middle
        axes.plot(
            [point.latency_ms],
            [y],
            marker="v",
            markersize=8,
            markerfacecolor=PAGE,
            markeredgecolor=point.ink,
            markeredgewidth=1.6,
            gid=point.gid,
        )
        axes.annotate(
            f"{point.label(named)}: {fixed(point.drop, decimals)}",
            (point.latency_ms, y),
            xytext=(-10 if to_the_left else 10, 0),
            textcoords="offset points",
            ha="right" if to_the_left else "left",
            va="center",
            size=11,
            color=point.ink,
            parse_math=False,
        )
