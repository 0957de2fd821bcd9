"""Whose time it is: nodes of the graph that onnxruntime runs, traced back to the nodes of the graph that was quantized.

onnxruntime fuses, renames and inserts nodes. What it names after a node or a tensor of ours is that node's; what it makes up
belongs to the node that takes its output. QuantizeLinear, DequantizeLinear and changes of layout are the price of a border, and no
node's.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.inspection.wiring import Wiring
from edgekit_runtime.node_times import NodeTime

if TYPE_CHECKING:
    from edgekit_export import Graph

__all__ = ["Attributed", "attribute", "named"]

BORDERS = frozenset({"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput"})
TRANSPOSE = "Transpose"


@dataclass(frozen=True)
class Attributed:
    """Times by whom they belong to.

    Attributes:
        nodes: Microseconds by name of a node of the quantized graph's origin.
        borders_us: Spent on Q/DQ and changes of layout.
        unknown_us: Spent on nodes that nothing leads to.
    """

    nodes: dict[str, float]
    borders_us: float
    unknown_us: float

    @property
    def total_us(self) -> float:
        """All of it."""
        return sum(self.nodes.values()) + self.borders_us + self.unknown_us


def attribute(graph: "Graph", wiring: Wiring, times: Sequence[NodeTime]) -> Attributed:
    """Gives each node of `graph` the time of what onnxruntime made of it.

    Args:
        graph: The prepared graph, from which the float and the integer file were made.
        wiring: The file as onnxruntime optimized it.
        times: Times of its nodes.
    """
    origins = _origins(graph)
    wiring = named(wiring, times)
    nodes = {node.name: node for node in wiring.nodes}
    own = {name: _named_after(origins, name, *node.output) for name, node in nodes.items()}
    transposes = {str(node.name) for node in graph.model.graph if node.op_type == TRANSPOSE}
    spent: dict[str, float] = {}
    borders = unknown = 0.0
    # The profiler and onnxruntime's own bookkeeping take as long as the quickest node, which does next to nothing.
    overhead = min((time.time_us for time in times), default=0.0)
    for time in times:
        owner = own.get(time.name) or _named_after(origins, time.name)
        inserted = time.operator == TRANSPOSE and owner not in transposes
        if time.operator in BORDERS or inserted:
            borders += time.time_us - overhead
            continue
        if owner is None and time.name in nodes:
            owner = _behind(wiring, own, time.name)
        if owner is None:
            unknown += time.time_us - overhead
        else:
            spent[owner] = spent.get(owner, 0.0) + time.time_us - overhead
    return Attributed(spent, borders, unknown)


def named(wiring: Wiring, times: Sequence[NodeTime]) -> Wiring:
    """Gives nodes without a name the one that onnxruntime's profiler made up for them: their operator and a number, in order."""
    known = {node.name for node in wiring.nodes}
    made_up: dict[str, list[str]] = {}
    for time in times:
        if time.name not in known and time.name.rpartition("_")[0] == time.operator:
            made_up.setdefault(time.operator, []).append(time.name)
    for node in wiring.nodes:
        if not node.name and made_up.get(node.op_type):
            node.name = made_up[node.op_type].pop(0)
    return wiring


def _origins(graph: "Graph") -> dict[str, str]:
    """Names of nodes by their own names and by those of what they give."""
    origins: dict[str, str] = {}
    for node in graph.model.graph:
        origins.update({str(value.name): str(node.name) for value in node.outputs if value.name})
    origins.update({str(node.name): str(node.name) for node in graph.model.graph})
    return origins


def _named_after(origins: dict[str, str], *names: str) -> str | None:
    """The node that one of `names` begins with: what is made of a node carries its name, with words behind it."""
    for name in names:
        parts = name.split("_")
        for end in range(len(parts), 0, -1):
            known = origins.get("_".join(parts[:end]))
            if known is not None:
                return known
    return None


def _behind(wiring: Wiring, own: dict[str, str | None], name: str) -> str | None:
    """The nearest known node that a made-up node leads to; else the nearest that leads to it."""
    nodes = {node.name: node for node in wiring.nodes}
    for step in (_takers, _makers):
        waiting, seen = deque([name]), {name}
        while waiting:
            for near in step(wiring, nodes[waiting.popleft()]):
                if own.get(near) is not None:
                    return own[near]
                if near not in seen:
                    seen.add(near)
                    waiting.append(near)
    return None


def _takers(wiring: Wiring, node: object) -> list[str]:
    return [taker.name for output in node.output for taker in wiring.takers.get(output, [])]  # type: ignore[attr-defined]


def _makers(wiring: Wiring, node: object) -> list[str]:
    return [wiring.makers[name].name for name in node.input if name in wiring.makers]  # type: ignore[attr-defined]
