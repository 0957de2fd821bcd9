"""The certificates' section of a report, which comes into it after the report was made."""

import re
from collections.abc import Sequence

from edgekit_runtime.certificate import Certificate

__all__ = ["with_certificates", "words_of"]

BEGIN, END = "<!-- certificates -->", "<!-- end of certificates -->"
BEFORE = '<section aria-labelledby="environment-title">'
DASH = "—"
COLOURS = {"certified": "chosen", "passed": "beaten", "failed": "rejected"}


def with_certificates(page: str, rows: Sequence[Certificate]) -> str:
    """A report with these certificates in it, instead of those that it had.

    Args:
        page: The report as `render` made it.
        rows: A row for each place.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekit.report", "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    told = [{"isa": row.isa, "kind": row.kind, "processor": row.processor, **words_of(row)} for row in rows]
    section = f"{BEGIN}\n{environment.get_template('certificates.html.j2').render(rows=told)}\n{END}\n"
    page = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}\n", "", page, flags=re.DOTALL)
    place = BEFORE if BEFORE in page else "</main>"
    return page.replace(place, section + place, 1)


def words_of(row: Certificate) -> dict[str, str]:
    """A certificate's figures as a table shows them."""
    drop = DASH
    if row.metric_drop is not None:
        low, high = row.metric_drop_ci or (row.metric_drop, row.metric_drop)
        drop = f"{row.metric_drop:.4f} [{low:.4f}, {high:.4f}]"
    total = sum(row.lsb.values())
    shares = [f"{label}: {100 * count / total:.3g} %" for label, count in row.lsb.items() if count] if total else []
    graph = row.fusion
    if row.integer_nodes or row.conversions:
        graph += f": {row.integer_nodes} integer nodes, {row.conversions} conversions between"
    return {
        "status": row.status,
        "colour": COLOURS[row.status],
        "reason": row.reason,
        "features": ", ".join(row.features) or "no int8 extensions",
        "examples": f"{row.examples} of {row.examples_of}" if row.examples_of else f"{row.examples} golden",
        "drop": drop,
        "sqnr": DASH if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB",
        "argmax": DASH if row.argmax_agreement is None else f"{100 * row.argmax_agreement:.2f} %",
        "lsb": ", ".join(shares) or DASH,
        "graph": graph,
        "instructions": DASH if row.instructions is None else f"{row.instructions / 1e6:.2f} M",
    }
