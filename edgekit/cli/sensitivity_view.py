"""A model's sensitivity as a person reads it: the figures of everything quantized, then the groups, worst first."""

from typing import TYPE_CHECKING

from rich.text import Text

from edgekit.cli.screen import Screen, bytes_in_words, heading, number, pairs, plain_table

if TYPE_CHECKING:
    from edgekit.inspection.sensitivity import GroupSensitivity, Sensitivity

__all__ = ["show_sensitivity"]

# A terminal's height or two; the JSON document has all.
MOST_ROWS = 40


def show_sensitivity(result: "Sensitivity") -> None:
    """Summary, nodes, nodes that share a tensor, tensors between, notes."""
    screen = Screen()
    screen.print(Text(f"{result.model} in {result.scheme}", "bold"))
    rows = [
        ("measured on", f"{result.feeds} runs of the model, in {result.seconds:.0f} s"),
        ("all quantized", f"outputs at {number(result.quantized_sqnr_db, '.1f')} dB SQNR"),
    ]
    if result.metric is not None:
        quantized = number(result.quantized_metric, ".4f")
        rows.append(
            ("metric", f"float {result.metric:.4f}, all quantized {quantized}, on {result.examples} of the recipe's examples")
        )
    pairs(screen, rows)
    for kind, title in (
        ("node", "nodes, with their activations"),
        ("shared", "nodes that share a tensor, which stays rounded until all of them are spared"),
    ):
        groups = [group for group in result.groups if group.kind == kind]
        if groups:
            heading(screen, title)
            _show_groups(screen, groups, with_metric=result.metric is not None)
    if result.layers:
        heading(screen, "tensors with everything quantized, in the graph's order")
        table = plain_table("tensor", "SQNR dB")
        for layer in result.layers:
            table.add_row(Text(layer.tensor), number(layer.sqnr_db, ".1f"))
        screen.print(table)
    if result.notes:
        heading(screen, "notes")
        for note in result.notes:
            screen.print(Text(note))


def _show_groups(screen: Screen, groups: "list[GroupSensitivity]", *, with_metric: bool) -> None:
    metric_columns = ("lost alone", "won spared") if with_metric else ()
    table = plain_table("name", "operators", "weights", "alone dB", "spared +dB", *metric_columns, left=2)
    for group in groups[:MOST_ROWS]:
        operators = f"{group.operators[0]} +{len(group.operators) - 1}" if len(group.operators) > 1 else group.operators[0]
        cells = [number(group.alone_sqnr_db, ".1f"), number(group.spared_sqnr_gain_db, "+.2f")]
        if with_metric:
            cells += [number(group.alone_metric_drop, ".4f"), number(group.spared_metric_gain, "+.4f")]
        weights = bytes_in_words(group.weight_bytes) if group.weight_bytes else "–"
        table.add_row(Text(group.name), Text(operators), weights, *cells)
    screen.print(table)
    if len(groups) > MOST_ROWS:
        screen.print(Text(f"({len(groups) - MOST_ROWS} more, which cost less; --json has all)", "dim"))
