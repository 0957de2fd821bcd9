"""Renders a deployment as one self-contained, offline HTML page."""

from edgekit.deployment import Deployment
from edgekit.report.histograms import error_panels
from edgekit.report.numbers import plain
from edgekit.report.operator_bars import operator_bars
from edgekit.report.plots import tradeoff
from edgekit.report.points import front_line, points_of, untested_of, why_no_plot
from edgekit.report.sensitivity_plot import sensitivity_figure
from edgekit.report.table import candidate_rows, tiles
from edgekit.report.words import headline, how_measured, latency_warning, standing, verdict_name

__all__ = ["render"]

STANDINGS = ("chosen, certified", "chosen, accepted", "chosen", "beaten, certified", "beaten, accepted", "beaten")
KINDS = (*STANDINGS, "rejected", "failed", "float")
"""What the key of the plot lists, in this order."""


def render(deployment: Deployment) -> str:
    """The report of a deployment.

    Args:
        deployment: What `deploy` found.

    Returns:
        An HTML document with its style and plots inside, which loads nothing. The same deployment gives the same page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekit.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    points = points_of(deployment)
    no_plot = why_no_plot(deployment)
    untested = untested_of(deployment, points)
    drawn = {point.number for point in points} | {one.number for one in untested}
    outputs, outputs_left_out = error_panels(deployment)
    operators, all_operators = operator_bars(deployment.operator_times)
    studied = deployment.sensitivity
    return environment.get_template("page.html.j2").render(
        deployment=deployment,
        headline=headline(deployment),
        verdict=verdict_name(deployment),
        standing=standing(deployment),
        latency_warning=latency_warning(deployment),
        measured=how_measured(deployment),
        budget=plain(deployment.max_drop),
        tiles=tiles(deployment),
        rows=candidate_rows(deployment),
        kinds=[kind for kind in KINDS if kind in {point.kind for point in points}],
        any_untested=bool(untested),
        front_drawn=len(front_line(points)) > 1,
        no_plot=no_plot,
        wide_plot="" if no_plot else tradeoff(deployment, points, 1080, "wide"),
        narrow_plot="" if no_plot else tradeoff(deployment, points, 358, "narrow"),
        not_drawn=[(number, candidate.name) for number, candidate in enumerate(deployment.candidates, 1) if number not in drawn],
        outputs=outputs,
        outputs_left_out=outputs_left_out,
        operators=operators,
        all_operators=all_operators,
        wide_sensitivity=sensitivity_figure(studied, 1080, "wide-sensitivity") if studied else "",
        narrow_sensitivity=sensitivity_figure(studied, 358, "narrow-sensitivity") if studied else "",
        search=_search(deployment),
    )


def _search(deployment: Deployment) -> list[tuple[str, str]]:
    """What is known of the search, for the table of what was asked."""
    rows = []
    if deployment.budget_s is not None:
        rows.append(("Time for the search", f"at most {deployment.budget_s:.0f} s"))
    if deployment.spent_s is not None:
        rows.append(("Time taken", f"{deployment.spent_s:.0f} s"))
    if deployment.seed is not None:
        rows.append(("Seed", str(deployment.seed)))
    if deployment.front:
        rows.append(("Front", ", ".join(deployment.front)))
    return rows
