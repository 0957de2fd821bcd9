"""The cheapest division of a graph into float and integers, as a minimum cut.

Each block of nodes costs its time in float or its time in integers, and each value that crosses from one side to the other costs a
conversion, once for all its readers. That is a binary labelling whose pairwise terms are submodular, so a minimum cut
finds the best of all divisions (Greig, Porteous and Seheult, *Exact Maximum A Posteriori Estimation for Binary Images*, 1989;
Kolmogorov and Zabih, *What Energy Functions Can Be Minimized via Graph Cuts?*, 2004).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

__all__ = ["Block", "Crossing", "cheapest_cut", "cost_of"]

FLOAT_SIDE, INTEGER_SIDE = "float side", "integer side"
# Capacities are integers, so that the cut is exact: hundredths of a nanosecond.
RESOLUTION = 1e5


@dataclass(frozen=True)
class Block:
    """Nodes that are divided together.

    Attributes:
        float_us: Their time in float.
        integer_us: Their time in integers, with whatever else integers cost; infinite where they have no integer form.
    """

    float_us: float
    integer_us: float


@dataclass(frozen=True)
class Crossing:
    """A value that may cross from one side to the other.

    Attributes:
        maker: The block that gives it; ``None`` for an input of the model, which is float.
        takers: The blocks that take it.
        quantize_us: What it costs to have it in integers as well.
        dequantize_us: What it costs to have it in float as well.
        leaves: Whether it is an output of the model, which is float.
    """

    maker: str | None
    takers: tuple[str, ...]
    quantize_us: float
    dequantize_us: float
    leaves: bool = False


def cheapest_cut(blocks: Mapping[str, Block], crossings: Sequence[Crossing]) -> set[str]:
    """Names of the blocks that compute in integers in the cheapest division.

    Args:
        blocks: What is divided, by name.
        crossings: The values between them.
    """
    import networkx as nx

    network = nx.DiGraph()
    network.add_nodes_from([FLOAT_SIDE, INTEGER_SIDE])
    for name, block in blocks.items():
        _add(network, FLOAT_SIDE, ("block", name), block.integer_us)
        _add(network, ("block", name), INTEGER_SIDE, block.float_us)
    for index, crossing in enumerate(crossings):
        maker = FLOAT_SIDE if crossing.maker is None else ("block", crossing.maker)
        takers = [("block", taker) for taker in crossing.takers]
        if takers:
            # Falls to the integer side as soon as one taker does, and is then paid for once if the maker is float.
            _add(network, maker, ("quantized", index), crossing.quantize_us)
            for taker in takers:
                _add(network, ("quantized", index), taker, inf)
        if crossing.maker is not None:
            _add(network, ("dequantized", index), maker, crossing.dequantize_us)
            for reader in [*takers, *([FLOAT_SIDE] if crossing.leaves else [])]:
                _add(network, reader, ("dequantized", index), inf)
    _, (_, integers) = nx.minimum_cut(network, FLOAT_SIDE, INTEGER_SIDE)
    return {node[1] for node in integers if isinstance(node, tuple) and node[0] == "block"}


def cost_of(blocks: Mapping[str, Block], crossings: Sequence[Crossing], integers: set[str]) -> float:
    """What a division costs, in microseconds."""
    total = sum(block.integer_us if name in integers else block.float_us for name, block in blocks.items())
    for crossing in crossings:
        made = crossing.maker in integers
        taken = [taker in integers for taker in crossing.takers]
        if not made and any(taken):
            total += crossing.quantize_us
        if made and (crossing.leaves or not all(taken)):
            total += crossing.dequantize_us
    return total


def _add(network: "object", tail: object, head: object, cost_us: float) -> None:
    if isfinite(cost_us):
        network.add_edge(tail, head, capacity=round(cost_us * RESOLUTION))  # type: ignore[attr-defined]
    else:
        network.add_edge(tail, head)  # type: ignore[attr-defined] # without a capacity an edge is never cut
