"""An inspection as a person reads it: what it is, what it weighs, which Q/DQ survive, and what to know."""

from typing import TYPE_CHECKING

from rich.text import Text

from edgekit.cli.screen import Screen, bytes_in_words, heading, listing, pairs, plain_table

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.commands.inspect import BundleSummary, Inspection
    from edgekit.inspection.optimized_graph import OptimizedGraph

__all__ = ["show_inspection"]

COLOURS = {"info": "dim", "warning": "yellow", "problem": "bold red"}


def show_inspection(inspection: "Inspection") -> None:
    """Summary, weights, what survives optimization, notes."""
    screen = Screen()
    screen.print(Text(f"{inspection.path}: {inspection.model}, {bytes_in_words(inspection.size_bytes)}", "bold"))
    opsets = ", ".join(f"{domain} {version}" for domain, version in inspection.opsets.items())
    found = inspection.quantization
    grain = {"channel": found.weights_per_channel, "tensor": found.weights_per_tensor, "block": found.weights_per_block}
    pairs(
        screen,
        [
            *(_bundle_rows(inspection.bundle) if inspection.bundle is not None else []),
            ("takes", "; ".join(inspection.inputs)),
            ("gives", "; ".join(inspection.outputs)),
            ("format", f"ONNX IR {inspection.ir_version}, operator sets {opsets}, written by {inspection.producer}"),
            ("operators", listing(inspection.operators)),
            ("quantization", ", ".join(found.kinds) or "none"),
            *([("weights per", listing({name: count for name, count in grain.items() if count}))] if found.kinds else []),
            *([("activations", listing(found.activation_types))] if found.activation_types else []),
        ],
    )
    heading(screen, "weights")
    table = plain_table("dtype", "tensors", "values", "size", "share")
    for dtype, total in inspection.weights.by_dtype.items():
        share = f"{total.size_bytes / max(inspection.weights.size_bytes, 1):.1%}"
        table.add_row(dtype, str(total.tensors), f"{total.elements:,}", bytes_in_words(total.size_bytes), share)
    screen.print(table)
    if inspection.optimized is not None:
        _show_optimized(screen, inspection.optimized, quantized=bool(found.kinds))
    if inspection.notes:
        heading(screen, "notes")
        for note in inspection.notes:
            screen.print(Text.assemble((f"{note.severity}  ", COLOURS[note.severity]), note.message))


def _bundle_rows(bundle: "BundleSummary") -> list[tuple[str, str]]:
    isa = "; ".join(f"{architecture} with {', '.join(names)}" for architecture, names in bundle.isa.items())
    return [
        ("bundle", f"{bundle.name} for {bundle.target} on {bundle.provider}, made {bundle.created}"),
        ("verdict", f"{bundle.verdict}: {bundle.reason}"),
        ("needs", f"onnxruntime {bundle.onnxruntime} or newer" + (f", {isa}" if isa else "")),
        ("files", bundle.hashes),
    ]


def _show_optimized(screen: "Console", optimized: "OptimizedGraph", *, quantized: bool) -> None:
    heading(screen, f"as onnxruntime runs it here ({optimized.provider}, optimization level {optimized.level})")
    pairs(screen, [("operators", f"{optimized.nodes} nodes: {listing(optimized.operators)}")])
    if optimized.fallback_reason:
        pairs(screen, [("instead of", optimized.fallback_reason)])
    if not quantized:
        return
    surviving = optimized.surviving
    total = surviving.quantize + surviving.dequantize
    screen.print(Text(f"  Q/DQ that survive: {total}, {surviving.inside} of them inside the graph"))
    if surviving.blockers:
        table = plain_table("blocked by", "why", "Q", "DQ", left=2)
        for blocker in surviving.blockers:
            table.add_row(blocker.operator, Text(blocker.why), str(blocker.quantize), str(blocker.dequantize))
        screen.print(table)
    if optimized.islands:
        heading(screen, "float islands between integer operators")
        table = plain_table("times", "operators", "Q", "DQ", left=2)
        for island in optimized.islands:
            table.add_row(str(island.times), Text(listing(island.operators)), str(island.quantize), str(island.dequantize))
        screen.print(table)
