"""Results as a person reads them on a terminal."""

from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgekit.commands.compare import Comparison
    from edgekit.deployment import Deployment

__all__ = ["show_comparison", "show_deployment", "show_fields"]

COLOURS = {"chosen": "bold green", "beaten": "", "rejected": "yellow", "failed": "red"}


def number(value: float | None, form: str = ".2f", scale: float = 1.0) -> str:
    """A figure, or a dash for what was not measured."""
    return "–" if value is None else format(value * scale, form)


def bounds(value: float | None, interval: tuple[float, float] | None, form: str) -> str:
    """A figure with its interval."""
    if value is None or interval is None:
        return number(value, form)
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def show_deployment(deployment: "Deployment") -> None:
    """The verdict, the candidates and where the bundle is."""
    console = Console()
    console.print(f"\n[bold]{escape(deployment.name)} for {escape(deployment.target)}: {deployment.verdict}[/bold]")
    console.print(escape(deployment.reason), "\n")
    table = Table(box=None, pad_edge=False)
    for column in (
        "candidate",
        "status",
        "metric",
        "drop [95 %]",
        "latency ms",
        "× float [95 %]",
        "MB",
        "cold ms",
        "peak MB",
        "SQNR dB",
    ):
        table.add_column(column, justify="left" if column in ("candidate", "status") else "right", no_wrap=column == "candidate")
    for candidate in deployment.candidates:
        figures = candidate.measurement
        table.add_row(
            candidate.name,
            candidate.status,
            number(figures.metric, ".4f"),
            bounds(figures.metric_drop, figures.metric_drop_ci, ".4f"),
            number(figures.latency_ms, ".3f"),
            bounds(figures.speedup, figures.speedup_ci, ".2f"),
            number(figures.size_bytes, ".2f", 1e-6),
            number(figures.cold_start_ms, ".0f"),
            number(figures.peak_rss_bytes, ".0f", 1e-6),
            number(figures.sqnr_db, ".1f"),
            style=COLOURS[candidate.status],
        )
    console.print(table)
    console.print("\n[bold]why the others lost[/bold]")
    for candidate in deployment.candidates:
        if candidate.status != "chosen":
            console.print(f"  {candidate.name}: {escape(candidate.reason)}", highlight=False)
    for claim in deployment.claims_not_made:
        console.print(f"[yellow]not claimed[/yellow] {escape(claim)}", highlight=False)
    console.print(f"\nbundle  {deployment.bundle}\nreport  {deployment.bundle}/report.html", highlight=False, markup=False)


def show_comparison(comparison: "Comparison") -> None:
    """Both models, a figure a line."""
    console = Console()
    table = Table(box=None, pad_edge=False)
    for column in ("", comparison.a, comparison.b):
        table.add_column(escape(column), justify="right" if column else "left")
    for label, cell in ROWS:
        table.add_row(label, cell(comparison.figures_a), cell(comparison.figures_b))
    console.print(table)
    for gate in comparison.gates:
        word = "[green]holds[/green]" if gate.holds else "[red]does not hold[/red]"
        console.print(f"{gate.name}: {gate.value:.4f} against {gate.limit:g}: {word}", highlight=False)


def _row(label: str, cell: Any) -> tuple[str, Any]:
    return label, cell


ROWS: list[tuple[str, Any]] = [
    _row("metric", lambda f: number(f.metric, ".4f")),
    _row("metric lost [95 %]", lambda f: bounds(f.metric_drop, f.metric_drop_ci, ".4f")),
    _row("largest difference", lambda f: number(f.max_abs_diff, ".3g")),
    _row("SQNR dB", lambda f: number(f.sqnr_db, ".1f")),
    _row("latency ms", lambda f: number(f.latency_ms, ".3f")),
    _row("latency p99 ms", lambda f: number(f.latency_p99_ms, ".3f")),
    _row("times as fast [95 %]", lambda f: bounds(f.speedup, f.speedup_ci, ".2f")),
    _row("size MB", lambda f: number(f.size_bytes, ".3f", 1e-6)),
    _row("peak memory MB", lambda f: number(f.peak_rss_bytes, ".1f", 1e-6)),
    _row("cold start ms", lambda f: number(f.cold_start_ms, ".1f")),
]


def show_fields(value: Any) -> None:
    """Any result, a field a line."""
    console = Console()

    def lines(item: Any, indent: str) -> None:
        if isinstance(item, dict):
            for key, inner in item.items():
                if isinstance(inner, (dict, list)) and inner:
                    console.print(f"{indent}[bold]{escape(str(key))}[/bold]", highlight=False)
                    lines(inner, indent + "  ")
                else:
                    shown = "–" if inner is None or inner in ([], {}) else inner
                    console.print(f"{indent}[bold]{escape(str(key))}[/bold] {escape(str(shown))}", highlight=False)
        elif isinstance(item, list):
            for inner in item:
                if isinstance(inner, dict) and any(isinstance(field, (dict, list)) for field in inner.values()):
                    lines(inner, indent + "  ")
                    console.print()
                elif isinstance(inner, dict):
                    text = ", ".join(f"{key} {field}" for key, field in inner.items())
                    console.print(f"{indent}{escape(text)}", highlight=False)
                else:
                    console.print(f"{indent}{escape(str(inner))}", highlight=False)

    lines(msgspec.to_builtins(value), "")
