"""Operators that take longer in integers than in float."""

from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.profile import WEIGHTED, Profile
from edgekit.inspection.float_islands import island_nodes

__all__ = ["slower_operators"]

# A difference that the spread of node times explains, and what the profiler adds to each node.
LEAST_RATIO = 1.1
LEAST_US = 2.0
SHOWN = 6


def slower_operators(profile: Profile) -> Finding | None:
    """Nodes that lose, with what is fused into them in float; what lies between conversions is told by `surviving_conversions`."""
    if profile.graph is None or profile.floating is None:
        return None
    own, float_us = profile.origins(), profile.float_origins
    between = profile.origins(island_nodes(profile.own.wiring)).keys()
    operators = {str(node.name): node.op_type for node in profile.graph.model.graph}
    # A convolution that was fused with what is behind it is what the time goes into.
    operators |= {leader: operators[name] for name, leader in profile.fused_into.items() if operators.get(name) in WEIGHTED}
    leaders = profile.fused_into
    mine, theirs = (_grouped(times, leaders) for times in (own, float_us))
    islands = {leaders.get(name, name) for name in between}
    lost = {
        name: time - theirs.get(name, 0.0)
        for name, time in mine.items()
        if name not in islands and time > LEAST_RATIO * theirs.get(name, 0.0) and time - theirs.get(name, 0.0) > LEAST_US
    }
    if not lost:
        return None
    kinds: dict[str, list[str]] = {}
    for name in lost:
        kinds.setdefault(operators.get(name, "other"), []).append(name)
    worst = sorted(kinds, key=lambda kind: -sum(lost[name] for name in kinds[kind]))
    total = profile.floating.total_us
    return Finding(
        name="slower-than-float",
        kind="slow",
        impact=sum(lost.values()) / profile.total_us,
        title=f"{len(lost)} operators take longer than in float, most of it {worst[0]}",
        evidence=[
            f"all nodes: {profile.total_us:.0f} µs, the float model's {total:.0f} µs",
            *(
                f"{kind}: {len(kinds[kind])} nodes, {sum(mine[name] for name in kinds[kind]):.0f} µs, in float "
                f"{sum(theirs.get(name, 0.0) for name in kinds[kind]):.0f} µs"
                for kind in worst[:SHOWN]
            ),
        ],
        advice="leave these nodes in float (--spare), or take a scheme that does not quantize them (a smaller placement)",
        nodes=sorted(lost, key=lambda name: -lost[name]),
    )


def _grouped(times: dict[str, float], leaders: dict[str, str]) -> dict[str, float]:
    groups: dict[str, float] = {}
    for name, time in times.items():
        leader = leaders.get(name, name)
        groups[leader] = groups.get(leader, 0.0) + time
    return groups
