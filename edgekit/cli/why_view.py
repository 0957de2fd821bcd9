"""A diagnosis as a person reads it: findings, worst first, each with what was measured and what to do."""

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from edgekit.cli.screen import Screen, heading, number, pairs

if TYPE_CHECKING:
    from edgekit.diagnosis.findings import Diagnosis

__all__ = ["show_why"]

COLOURS = {"slow": "yellow", "wrong": "red"}
WEIGHT = {"slow": "of the time", "wrong": "of the output"}
NODES_SHOWN = 5


def show_why(diagnosis: "Diagnosis") -> None:
    """Figures, findings, notes."""
    screen = Screen()
    screen.print(Text(f"{diagnosis.path} on {diagnosis.provider}", "bold"))
    time = f"{number(diagnosis.latency_ms, '.2f')} ms in its nodes"
    if diagnosis.float_latency_ms is not None:
        time += f", the float model {diagnosis.float_latency_ms:.2f} ms"
    rows = [("time", f"{time}; asks for {diagnosis.threads} thread{'s' if diagnosis.threads > 1 else ''}")]
    if diagnosis.sqnr_db is not None:
        rows.append(("error", f"outputs at {diagnosis.sqnr_db:.1f} dB SQNR against float"))
    pairs(screen, rows)
    if not diagnosis.findings:
        heading(screen, "nothing found that accounts for half a percent of the time or of the output")
    for place, finding in enumerate(diagnosis.findings, start=1):
        screen.print()
        weight = f"{finding.impact:.1%} {WEIGHT[finding.kind]}"
        screen.print(Text.assemble(f"{place}. ", (finding.kind, COLOURS[finding.kind]), f"  {weight}  ", (finding.title, "bold")))
        for line in finding.evidence:
            screen.print(Padding(Text(line), (0, 0, 0, 3)))
        screen.print(Padding(Text.assemble(("do: ", "bold"), finding.advice), (0, 0, 0, 3)))
        if finding.nodes:
            more = f" and {len(finding.nodes) - NODES_SHOWN} more" if len(finding.nodes) > NODES_SHOWN else ""
            screen.print(Padding(Text(f"nodes: {', '.join(finding.nodes[:NODES_SHOWN])}{more}", "dim"), (0, 0, 0, 3)))
    if diagnosis.notes:
        heading(screen, "notes")
        for note in diagnosis.notes:
            screen.print(Text(note))
