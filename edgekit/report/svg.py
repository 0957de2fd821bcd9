"""A matplotlib figure as inline SVG that takes its colours and its font from the page.

matplotlib writes fixed colours. Each colour here is a sentinel that stands for one of the page's CSS variables and is
swapped for it afterwards, so that a plot follows the page into dark mode and onto paper.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CHOSEN", "INK", "LINE", "MUTED", "PAGE", "REJECTED", "ZONE", "inline_svg", "plot_style"]

INK = "#010101"
MUTED = "#020202"
LINE = "#030303"
CHOSEN = "#040404"
REJECTED = "#050505"
ZONE = "#060606"
PAGE = "#070707"

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    CHOSEN: "--chosen",
    REJECTED: "--rejected",
    ZONE: "--zone",
    PAGE: "--page",
}

FONT = re.compile(r"font: (?:(\d+) )?([\d.]+px) [^;\"]+")
"""matplotlib's font shorthand: optional weight, size, families."""


@contextmanager
def plot_style(salt: str) -> Iterator[None]:
    """The defaults of matplotlib and ours, whatever the user's matplotlibrc says; restored afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": salt,
                "font.size": 12,
                "text.color": INK,
                "axes.edgecolor": LINE,
                "axes.labelcolor": MUTED,
                "axes.facecolor": "none",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "figure.facecolor": "none",
                "grid.color": LINE,
                "grid.linewidth": 0.8,
                "xtick.color": LINE,
                "ytick.color": LINE,
                "xtick.labelcolor": MUTED,
                "ytick.labelcolor": MUTED,
                "xtick.labelsize": 11,
                "ytick.labelsize": 11,
                "figure.dpi": 72,
            }
        )
        yield


def inline_svg(figure: "Figure", prefix: str, label: str, titles: Mapping[str, str] | None = None) -> Markup:
    """`figure` as one ``<svg>`` element.

    Args:
        figure: Its size in inches times 72 becomes the size in CSS pixels.
        prefix: Goes before every id, so that many plots can stand in one page.
        label: What a screen reader says.
        titles: Tooltips by the gid of the artist that they belong to.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = body.replace("xlink:href", "href")
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-")
    body = re.sub(r"(fill|stroke): (#0\d0\d0\d)", _variable, body)
    body = FONT.sub(_font, body)
    for gid, title in (titles or {}).items():
        anchor = f'<g id="{prefix}-{gid}">'
        body = body.replace(anchor, f"{anchor}<title>{escape(title)}</title>", 1)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = (round(72 * side) for side in figure.get_size_inches())
    head = Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">').format(width, height, label)
    return head + Markup(body[: body.rindex("</svg>")] + "</svg>")  # noqa: S704 (matplotlib escaped what it wrote)


def _variable(match: re.Match[str]) -> str:
    return f"{match[1]}: var({VARIABLES.get(match[2], '--ink')})"


def _font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {match[1]}" if match[1] else ""
    return f"font-size: {match[2]}{weight}"
