"""Conversions between integers and float in the middle of a model, and the operators that they are there for."""

from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.profile import Profile
from edgekit.inspection.float_islands import island_nodes
from edgekit.inspection.surviving_qdq import GRAPH_INPUT, GRAPH_OUTPUT, blocked_by

__all__ = ["surviving_conversions"]

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
SHOWN = 6


def surviving_conversions(profile: Profile) -> Finding | None:
    """What the Q/DQ inside take, and what the float operators between them take longer than in the float model."""
    side = profile.own
    spent: dict[str, float] = {}
    counts: dict[str, int] = {}
    names: dict[str, float] = {}
    conversions = 0
    for node in side.wiring.nodes:
        if node.op_type not in CONVERSIONS:
            continue
        blockers = [found for found in blocked_by(side.wiring, node) if found[0] not in (GRAPH_INPUT, GRAPH_OUTPUT)]
        if not blockers:
            continue
        conversions += 1
        time = side.time_us(node)
        for operator in {operator for operator, _ in blockers}:
            share = sum(other == operator for other, _ in blockers) / len(blockers)
            spent[operator] = spent.get(operator, 0.0) + share * time
            counts[operator] = counts.get(operator, 0) + 1
        for _, name in blockers:
            names[name] = names.get(name, 0.0) + time / len(blockers)
    if not conversions:
        return None
    between = profile.origins(island_nodes(side.wiring))
    # What goes by an activation's name in the float model is the convolution that it is fused with.
    fused = set(profile.fused_into.values())
    float_us = {name: time for name, time in profile.float_origins.items() if name not in fused}
    longer = sum(max(time - float_us.get(name, 0.0), 0.0) for name, time in between.items())
    # Two neighbours in float block each other's conversions: whichever comes first is where integers end.
    worst = sorted(spent, key=lambda operator: -spent[operator])
    taken = sum(spent.values())
    return Finding(
        name="surviving-qdq",
        kind="slow",
        impact=(taken + longer) / profile.total_us,
        title=f"{conversions} QuantizeLinear and DequantizeLinear survive inside the model, kept by {', '.join(worst[:3])}",
        evidence=[
            f"they take {taken:.0f} of {profile.total_us:.0f} µs",
            *([f"the float operators between them take {longer:.0f} µs more than in the float model"] if longer >= 1 else []),
            *(f"{operator}: {counts[operator]} conversions, {spent[operator]:.0f} µs" for operator in worst[:SHOWN]),
        ],
        advice=f"compute {worst[0]} in integers (edgekit's static schemes rewrite Hardswish, SiLU and GELU), or leave the layers "
        "around it in float, too (--spare)",
        nodes=sorted(names, key=lambda name: -names[name]),
    )
