"""Renders a deployment as one self-contained, offline HTML page."""

from edgekit.deployment import Deployment
from edgekit.report.histograms import error_panels
from edgekit.report.numbers import plain
from edgekit.report.plots import tradeoff
from edgekit.report.points import points_of, why_no_plot
from edgekit.report.table import candidate_rows, tiles
from edgekit.report.words import headline, how_measured, latency_warning, standing, verdict_name

__all__ = ["render"]


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
    drawn = {point.number for point in points}
    outputs, outputs_left_out = error_panels(deployment)
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
        roles=[role for role in ("chosen", "beaten", "rejected", "failed", "float") if role in {p.role for p in points}],
        no_plot=no_plot,
        wide_plot="" if no_plot else tradeoff(deployment, points, 1080, "wide"),
        narrow_plot="" if no_plot else tradeoff(deployment, points, 358, "narrow"),
        not_drawn=[(number, candidate.name) for number, candidate in enumerate(deployment.candidates, 1) if number not in drawn],
        outputs=outputs,
        outputs_left_out=outputs_left_out,
    )
