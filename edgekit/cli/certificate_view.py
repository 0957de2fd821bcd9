"""Certificates as a person reads them on a terminal."""

from typing import TYPE_CHECKING

from rich.text import Text

from edgekit.cli.screen import Screen, heading, pairs

if TYPE_CHECKING:
    from edgekit.commands.certify import Certificates

__all__ = ["show_certificates"]

COLOURS = {"certified": "bold green", "passed": "green", "failed": "bold red"}
LABELS = {
    "examples": "examples",
    "drop": "metric lost [95 %]",
    "sqnr": "SQNR against float",
    "argmax": "same argmax as float",
    "lsb": "steps from exact integers",
    "graph": "graph there",
    "instructions": "instructions a call",
}


def show_certificates(found: "Certificates") -> None:
    """Each place with its outcome, its reason, and what was seen there."""
    from edgekit.report.certificates import words_of

    screen = Screen()
    heading(screen, f"{found.bundle}: budget {found.max_drop:g}")
    for row in found.rows:
        words = words_of(row)
        screen.print(
            Text.assemble(
                (row.isa, "bold"), f" ({row.kind}; {row.processor}; {words['features']}): ", (row.status, COLOURS[row.status])
            )
        )
        screen.print(Text(row.reason, "dim"))
        pairs(screen, [(label, words[key]) for key, label in LABELS.items()])
        screen.print()
