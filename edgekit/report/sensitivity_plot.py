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

__all__ = ["MOST_GROUPS", "check_plot_path", "sensitivity_svg", "write_plot"]

MOST_GROUPS = 30
WIDTH = 1080.0
ROW = 19.0
LETTER = 6.4
LONGEST_NAME = 44


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
    groups = [group for group in sensitivity.groups if group.kind == "node" and group.alone_sqnr_db is not None][:MOST_GROUPS]
    drawn = _draw(sensitivity, groups)
    # The page's own colours, for a file that stands alone.
    rules = re.findall(
        r"^:root \{.*?^\}|^@media \(prefers-color-scheme: dark\) \{.*?^\}", _page_css(), flags=re.DOTALL | re.MULTILINE
    )
    style = "\n".join([*rules, "svg { background: var(--page); font-family: system-ui, sans-serif; }"])
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f"><style>{style}</style>", 1)


def _page_css() -> str:
    return resources.files("edgekit.report").joinpath("page.css").read_text("utf-8")


def _draw(sensitivity: Sensitivity, groups: Sequence[GroupSensitivity]) -> Markup:
    from matplotlib.figure import Figure

    names = [_label(group) for group in groups]
    left, top, bottom, gap = 20.0 + LETTER * max([len(name) for name in names], default=8), 92.0, 44.0, 28.0
    height = top + bottom + ROW * max(len(groups), 2)
    panel = (WIDTH - left - gap - 24.0) / 2
    with plot_style("sensitivity"):
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        floor = bottom / height
        tall = (height - top - bottom) / height
        alone = figure.add_axes((left / WIDTH, floor, panel / WIDTH, tall))
        spared = figure.add_axes(((left + panel + gap) / WIDTH, floor, panel / WIDTH, tall))
        base = sensitivity.quantized_sqnr_db
        costs = [group.alone_sqnr_db or 0.0 for group in groups]
        gains = [group.spared_sqnr_gain_db or 0.0 for group in groups]
        # The less is left, the longer the bar: both panels then read alike.
        best = max([1.0, *costs]) + 3.0
        _bars(alone, costs, best, REJECTED, "alone", "output SQNR with this alone quantized, dB   (worse →)")
        _bars(spared, gains, 0.0, CHOSEN, "spared", "SQNR won with this alone spared, dB   (more →)")
        low = min([best - 6.0, *costs, *([base] if base is not None else [])])
        alone.set_xlim(best, low - 0.04 * (best - low))
        alone.set_yticks(range(len(groups)), names, parse_math=False)
        alone.tick_params(axis="y", labelcolor=INK, labelsize=11)
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
        title = f"{sensitivity.model}, {sensitivity.scheme}: the {len(groups)} most sensitive nodes, on {sensitivity.feeds} runs"
        figure.text(14 / WIDTH, 1 - 26 / height, title, color=INK, size=14, weight="bold", parse_math=False)
        label = f"Bar chart of the sensitivity of {len(groups)} groups of nodes of {sensitivity.model}."
        titles = {f"{kind}-{index}": _tooltip(group) for index, group in enumerate(groups) for kind in ("alone", "spared")}
        return inline_svg(figure, "sensitivity", label, titles)


def _bars(axes: "Axes", values: Sequence[float], start: float, colour: str, gid: str, label: str) -> None:
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
        label, (0, 1), xycoords="axes fraction", xytext=(0, 28), textcoords="offset points", color=MUTED, size=12, ha="left"
    )


def _label(group: GroupSensitivity) -> str:
    text = f"{group.name} ({' '.join(group.operators)})"
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _tooltip(group: GroupSensitivity) -> str:
    alone, gain = group.alone_sqnr_db, group.spared_sqnr_gain_db
    parts = [f"{group.name}: alone {alone:.1f} dB" if alone is not None else group.name]
    parts += [f"spared {gain:+.2f} dB"] if gain is not None else []
    parts += [f"metric lost alone {group.alone_metric_drop:.4f}"] if group.alone_metric_drop is not None else []
    parts += [f"metric won spared {group.spared_metric_gain:+.4f}"] if group.spared_metric_gain is not None else []
    return ", ".join(parts)
