"""A model's sensitivity in one picture: for the worst groups of nodes what they cost alone and what sparing them wins."""

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from edgekit.inspection.sensitivity import GroupSensitivity, Sensitivity
from edgekit.report.numbers import plain
from edgekit.report.svg import CHOSEN, INK, MUTED, REJECTED, inline_svg, plot_style
from edgekit_runtime.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_GROUPS", "check_plot_path", "sensitivity_figure", "sensitivity_svg", "write_plot"]

MOST_GROUPS = 30
WIDTH = 1080
WIDE = 600
"""From this width on, the two panels stand side by side."""
FEW_GROUPS = 12
ROW = 19.0
LETTER = 6.4
LONGEST_NAME = 44
SHORT_NAME = 22


def check_plot_path(path: Path) -> None:
    """Makes sure, before minutes of work, that a plot may be written there.

    Raises:
        OutputError: The name does not end in ``.svg``, or its folder is not there.
    """
    if path.suffix != ".svg":
        raise OutputError(f"write {path}: plots are SVG; give a name that ends in .svg")
    if not path.parent.is_dir():
        raise OutputError(f"write {path}: there is no folder {path.parent}")


def write_plot(sensitivity: Sensitivity, path: Path) -> None:
    """Writes the picture as a file of its own.

    Raises:
        OutputError: It could not be written.
    """
    check_plot_path(path)
    try:
        path.write_text(sensitivity_svg(sensitivity), "utf-8")
    except OSError as error:
        raise OutputError(f"write {path}: {error.strerror or error}") from error


def sensitivity_svg(sensitivity: Sensitivity) -> str:
    """An SVG document with light and dark colours inside: two bars a group, the worst on top."""
    drawn = sensitivity_figure(sensitivity, WIDTH, "sensitivity", titled=True)
    # The page's own colours, for a file that stands alone.
    rules = re.findall(
        r"^:root \{.*?^\}|^@media \(prefers-color-scheme: dark\) \{.*?^\}", _page_css(), flags=re.DOTALL | re.MULTILINE
    )
    style = "\n".join([*rules, "svg { background: var(--page); font-family: system-ui, sans-serif; }"])
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f"><style>{style}</style>", 1)


def _page_css() -> str:
    return resources.files("edgekit.report").joinpath("page.css").read_text("utf-8")


def sensitivity_figure(sensitivity: Sensitivity, width: int, prefix: str, *, titled: bool = False) -> Markup:
    """The plot as inline SVG, or nothing where no node has a figure.

    Args:
        sensitivity: The figures.
        width: In pixels; a narrow one has fewer nodes, and its panels below each other.
        prefix: Goes before its ids.
        titled: Whether it stands alone, so that it must say what it shows.
    """
    from matplotlib.figure import Figure

    wide = width >= WIDE
    found = [group for group in sensitivity.groups if group.kind == "node" and group.alone_sqnr_db is not None]
    groups = found[: MOST_GROUPS if wide else FEW_GROUPS]
    if not groups and not titled:
        return Markup()
    names = [_label(group, LONGEST_NAME) if wide else _label(group, SHORT_NAME, with_operators=False) for group in groups]
    left, top, bottom, gap = 20.0 + LETTER * max([len(name) for name in names], default=8), 58.0, 44.0, 28.0
    head = 34.0 if titled else 0.0
    tall, right = ROW * max(len(groups), 2), 24.0 if wide else 14.0
    panel = (width - left - gap - right) / 2 if wide else width - left - right
    height = head + (top + tall + bottom) * (1 if wide else 2)
    with plot_style(prefix):
        figure = Figure(figsize=(width / 72, height / 72))
        places = [(left, bottom), (left + panel + gap, bottom)] if wide else [(left, bottom + top + tall + bottom), (left, bottom)]
        alone, spared = (figure.add_axes((x / width, y / height, panel / width, tall / height)) for x, y in places)
        _fill(alone, spared, sensitivity, groups, wide=wide)
        for axes in [alone] if wide else [alone, spared]:
            axes.set_yticks(range(len(groups)), names, parse_math=False)
            axes.tick_params(axis="y", labelcolor=INK, labelsize=11)
        if titled:
            title = (
                f"{sensitivity.model}, {sensitivity.scheme}: the {len(groups)} most sensitive nodes, on {sensitivity.feeds} runs"
            )
            figure.text(14 / width, 1 - 26 / height, title, color=INK, size=14, weight="bold", parse_math=False)
        label = f"Bar chart of the sensitivity of {len(groups)} groups of nodes of {sensitivity.model}."
        titles = {f"{kind}-{index}": _tooltip(group) for index, group in enumerate(groups) for kind in ("alone", "spared")}
        return inline_svg(figure, prefix, label, titles)


def _fill(alone: "Axes", spared: "Axes", sensitivity: Sensitivity, groups: Sequence[GroupSensitivity], *, wide: bool) -> None:
    """Both panels' bars and axes."""
    base = sensitivity.quantized_sqnr_db
    costs = [group.alone_sqnr_db or 0.0 for group in groups]
    gains = [group.spared_sqnr_gain_db or 0.0 for group in groups]
    # The less is left, the longer the bar: both panels then read alike.
    best = max([1.0, *costs]) + 3.0
    _bars(alone, costs, best, REJECTED, "alone", "output SQNR with this alone quantized, dB   (worse →)", wide=wide)
    _bars(spared, gains, 0.0, CHOSEN, "spared", "SQNR won with this alone spared, dB   (more →)", wide=wide)
    low = min([best - 6.0, *costs, *([base] if base is not None else [])])
    alone.set_xlim(best, low - 0.04 * (best - low))
    if base is not None:
        alone.axvline(base, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        alone.annotate(
            f"all quantized: {plain(round(base, 1))} dB",
            (base, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 8),
            textcoords="offset points",
            color=MUTED,
            size=11,
            ha="right",
        )


def _bars(axes: "Axes", values: Sequence[float], start: float, colour: str, gid: str, label: str, *, wide: bool) -> None:
    """One bar a value, from `start` on."""
    from matplotlib.ticker import MaxNLocator

    for index, value in enumerate(values):
        bar = axes.barh(index, value - start, left=start, height=0.66, color=colour, alpha=0.85, linewidth=0, zorder=2)[0]
        bar.set_gid(f"{gid}-{index}")
    axes.set_ylim(max(len(values), 1) - 0.4, -0.6)
    low, high = min([0.0, *values]), max([1e-3, *values])
    axes.set_xlim(low * 1.08, high * 1.08)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: plain(round(value, 6)))
    axes.axvline(start, color=MUTED, linewidth=0.8)
    axes.set_yticks([])
    axes.tick_params(length=0, pad=5)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.annotate(
        label,
        (0, 1) if wide else (6 / axes.figure.bbox.width, 1),
        xycoords="axes fraction" if wide else ("figure fraction", "axes fraction"),
        xytext=(0, 28),
        textcoords="offset points",
        color=MUTED,
        size=12,
        ha="left",
    )


def _label(group: GroupSensitivity, longest: int, *, with_operators: bool = True) -> str:
    """The name and its operators; of a long name its end, which tells nodes of one block apart."""
    operators = f" ({' '.join(group.operators)})" if with_operators else ""
    kept = operators if len(operators) <= longest // 2 else ""
    room = longest - len(kept) - 1
    return (group.name if len(group.name) <= room else f"…{group.name[-room:]}") + kept


def _tooltip(group: GroupSensitivity) -> str:
    alone, gain = group.alone_sqnr_db, group.spared_sqnr_gain_db
    parts = [f"{group.name}: alone {alone:.1f} dB" if alone is not None else group.name]
    parts += [f"spared {gain:+.2f} dB"] if gain is not None else []
    parts += [f"metric lost alone {group.alone_metric_drop:.4f}"] if group.alone_metric_drop is not None else []
    parts += [f"metric won spared {group.spared_metric_gain:+.4f}"] if group.spared_metric_gain is not None else []
    return ", ".join(parts)
