"""Deployments, comparisons and plain results as a person reads them on a terminal."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text

from edgekit.cli.screen import Screen, bounds, bytes_in_words, heading, number, pairs, plain_table, significant

if TYPE_CHECKING:
    from edgekit.commands.compare import Comparison
    from edgekit.deployment import CandidateResult, Deployment
    from edgekit_runtime.measurement import Measurement

__all__ = ["show_comparison", "show_deployment", "show_fields"]

COLOURS = {"chosen": "bold green", "beaten": "", "rejected": "yellow", "failed": "red"}
# Columns with intervals need this much; below it, the figures alone are shown.
WIDE = 132

Cell = Callable[["Measurement"], str]
NARROW_COLUMNS: list[tuple[str, Cell]] = [
    ("lost", lambda f: number(f.metric_drop, ".4f")),
    ("ms", lambda f: significant(f.latency_ms)),
    ("× float", lambda f: number(f.speedup, ".2f")),
    ("MB", lambda f: number(f.size_bytes, ".2f", 1e-6)),
]
WIDE_COLUMNS: list[tuple[str, Cell]] = [
    ("metric", lambda f: number(f.metric, ".4f")),
    ("lost [95 %]", lambda f: bounds(f.metric_drop, f.metric_drop_ci, ".4f")),
    ("ms", lambda f: significant(f.latency_ms)),
    ("× float [95 %]", lambda f: bounds(f.speedup, f.speedup_ci, ".2f")),
    ("MB", lambda f: number(f.size_bytes, ".2f", 1e-6)),
    ("cold ms", lambda f: number(f.cold_start_ms, ".0f")),
    ("peak MB", lambda f: number(f.peak_rss_bytes, ".0f", 1e-6)),
    ("SQNR dB", lambda f: number(f.sqnr_db, ".1f")),
]
# Where instructions are counted nothing is timed.
COUNTED: tuple[str, Cell] = ("M instructions", lambda f: number(f.instructions, ".2f", 1e-6))
TIMES = ("ms", "× float", "× float [95 %]", "cold ms", "peak MB")
COMPARED: list[tuple[str, Cell]] = [
    ("metric", lambda f: number(f.metric, ".4f")),
    ("metric lost [95 %]", lambda f: bounds(f.metric_drop, f.metric_drop_ci, ".4f")),
    ("largest difference", lambda f: significant(f.max_abs_diff)),
    ("SQNR dB", lambda f: "equal" if f.max_abs_diff == 0.0 else number(f.sqnr_db, ".1f")),
    ("latency ms", lambda f: significant(f.latency_ms)),
    ("latency p99 ms", lambda f: significant(f.latency_p99_ms)),
    ("times as fast [95 %]", lambda f: bounds(f.speedup, f.speedup_ci, ".2f")),
    ("size", lambda f: bytes_in_words(f.size_bytes)),
    ("peak memory", lambda f: bytes_in_words(f.peak_rss_bytes)),
    ("cold start ms", lambda f: number(f.cold_start_ms, ".1f")),
]


def show_deployment(deployment: "Deployment") -> None:
    """The verdict, the candidates, why the others lost, and where the bundle is."""
    screen = Screen()
    heading(screen, f"{deployment.name} for {deployment.target}: {deployment.verdict}")
    screen.print(Text(deployment.summary))
    screen.print()
    screen.print(Text(deployment.reason, "dim"))
    screen.print()
    wide = screen.width >= WIDE
    columns = WIDE_COLUMNS if wide else NARROW_COLUMNS
    if deployment.baseline.instructions is not None:
        columns = [one for one in columns if one[0] not in TIMES] + [COUNTED]
    table = plain_table("candidate", "status", *(label for label, _ in columns), left=2)
    for candidate in deployment.candidates:
        cells = (cell(candidate.measurement) for _, cell in columns)
        table.add_row(candidate.name, candidate.status, *cells, style=COLOURS[candidate.status])
    screen.print(table)
    partly = [one for one in deployment.candidates if 0 < one.examples < deployment.candidates[0].examples]
    if partly:
        counts = ", ".join(str(count) for count in sorted({one.examples for one in partly}))
        which = "all that were clearly out" if len(partly) > 3 else ", ".join(one.name for one in partly)
        screen.print(Text(f"(measured on {counts} of {deployment.candidates[0].examples} examples only: {which})", "dim"))
    if not wide:
        screen.print(Text(f"(with {WIDE} columns this table has intervals, cold start and memory; the report has all)", "dim"))
    if len(deployment.front) > 1:
        screen.print(Text(f"(none of these beats another; --pick takes one: {', '.join(deployment.front)})", "dim"))
    heading(screen, "why the others lost")
    pairs(screen, [(one.name, one.reason) for one in deployment.candidates if one.status != "chosen"])
    notes = [(one.name, note) for one in _worth_noting(deployment) for note in one.notes]
    if notes:
        heading(screen, "notes")
        pairs(screen, notes)
    if deployment.claims_not_made:
        heading(screen, "not claimed")
        pairs(screen, [_split(claim) for claim in deployment.claims_not_made])
    screen.print()
    pairs(screen, [("bundle", deployment.bundle), ("report", f"{deployment.bundle}/report.html")], indent=0)


def show_comparison(comparison: "Comparison") -> None:
    """Both models, a figure a line."""
    screen = Screen()
    screen.print(Text.assemble(("A  ", "bold"), comparison.a))
    screen.print(Text.assemble(("B  ", "bold"), comparison.b))
    screen.print()
    table = plain_table("", "A", "B")
    for label, cell in COMPARED:
        table.add_row(label, cell(comparison.figures_a), cell(comparison.figures_b))
    screen.print(table)
    for gate in comparison.gates:
        word = ("holds", "bold green") if gate.holds else ("does not hold", "bold red")
        screen.print(Text.assemble(f"{gate.told}: ", word))
    if comparison.junit:
        screen.print(Text(f"gates written to {comparison.junit}", "dim"))


def show_fields(value: Any) -> None:
    """Any result, a field a line."""
    screen = Screen()
    rows: list[tuple[str, str]] = []
    for key, inner in msgspec.to_builtins(value).items():
        label = str(key).removesuffix("_bytes").replace("_", " ")
        if isinstance(inner, list) and inner:
            rows += [(label if index == 0 else "", _words(item)) for index, item in enumerate(inner)]
        elif isinstance(inner, dict) and any(isinstance(item, dict) for item in inner.values()):
            rows += [(f"{label} {name}", _words(item)) for name, item in inner.items()]
        else:
            rows.append((label, bytes_in_words(inner) if str(key).endswith("_bytes") else _words(inner)))
    pairs(screen, rows, indent=0)


def _words(value: Any) -> str:
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return f"[{', '.join(_words(item) for item in value)}]"
    return str(value)


def _worth_noting(deployment: "Deployment") -> "list[CandidateResult]":
    """The float model and what ships; the other candidates' notes are in the report."""
    return [one for one in deployment.candidates if one.status == "chosen" or one.name == "float32"]


def _split(claim: str) -> tuple[str, str]:
    name, _, text = claim.partition(": ")
    return name, text
