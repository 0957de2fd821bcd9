"""Dividing a graph between float and integers by what each of its nodes was measured to take either way."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.inspection.optimized_graph import optimized_wiring
from edgekit.placing.attribution import attribute
from edgekit.placing.blocks import blocks_of, crossings_of, join
from edgekit.placing.cut import Block, Crossing, cheapest_cut, cost_of
from edgekit.placing.prices import measure_prices
from edgekit.recipe import Arrays
from edgekit_runtime.node_times import node_times_of_all
from edgekit_runtime.session import Provider, SessionConfig

if TYPE_CHECKING:
    from edgekit_export import Graph

__all__ = ["Divisible", "Division", "decibels_to_share", "measure_division"]

BISECTIONS = 24


@dataclass(frozen=True)
class Division:
    """One way to divide a graph.

    Attributes:
        spared: Names of placed nodes that stay float, in the graph's order.
        predicted_us: Time of a call, as the nodes' times and the conversions' prices sum up.
        noise: What the outputs' error comes to, as a share of their power; 0 where it was not asked for.
    """

    spared: tuple[str, ...]
    predicted_us: float
    noise: float = 0.0


@dataclass(frozen=True)
class Divisible:
    """A graph with what each block of its nodes takes in float and in integers.

    Attributes:
        joined: The block of each node, by name.
        placed: Names of the nodes that the scheme would take.
        blocks: The blocks' times.
        crossings: The values between them.
    """

    joined: Mapping[str, str]
    placed: Collection[str]
    blocks: Mapping[str, Block]
    crossings: list[Crossing]

    @property
    def all_float_us(self) -> float:
        """Time with nothing in integers."""
        return cost_of(self.blocks, self.crossings, set())

    @property
    def all_integer_us(self) -> float:
        """Time with everything in integers that has an integer form."""
        return cost_of(self.blocks, self.crossings, {name for name, block in self.blocks.items() if isfinite(block.integer_us)})

    def fastest(self) -> Division:
        """The division that takes least time."""
        return self._division(cheapest_cut(self.blocks, self.crossings), {})

    def fastest_within(self, noise: Mapping[str, float], most: float) -> Division | None:
        """The division that takes least time of those that an exchange of time against error finds within a bound.

        Each block's error is given a price in time; the price is raised until the sum of errors is within the bound (Lagrangian
        relaxation, Everett 1963). Divisions between two such prices are not found. Errors of nodes are taken to add up.

        Args:
            noise: Of each node in integers alone, the error of the outputs as a share of their power; 0 where left out.
            most: The bound on the sum.

        Returns:
            Nothing where only a graph without integers is within the bound.
        """
        of_block: dict[str, float] = {}
        for node, share in noise.items():
            if node in self.joined:
                of_block[self.joined[node]] = of_block.get(self.joined[node], 0.0) + share
        found = None
        low, high = 0.0, 1e3 * self.all_float_us / max(most, 1e-12)
        for _ in range(BISECTIONS):
            price = (low * high) ** 0.5 if low else high / 1e6
            blocks = {
                name: replace(one, integer_us=one.integer_us + price * of_block.get(name, 0.0)) for name, one in self.blocks.items()
            }
            division = self._division(cheapest_cut(blocks, self.crossings), of_block)
            if division.noise <= most:
                found, high = division, price
            else:
                low = price
        return found if found is not None and len(found.spared) < len(self.placed) else None

    def _division(self, integers: set[str], noise: Mapping[str, float]) -> Division:
        spared = tuple(node for node, block in self.joined.items() if node in self.placed and block not in integers)
        return Division(spared, cost_of(self.blocks, self.crossings, integers), sum(noise.get(block, 0.0) for block in integers))


def measure_division(
    graph: "Graph",
    placed: Collection[str],
    floats: Path,
    integers: Path,
    example: Arrays,
    provider: Provider,
    config: SessionConfig,
) -> Divisible:
    """Profiles a graph in float and in integers, in turn, and gives each node what was measured of it.

    Args:
        graph: The prepared graph, from which both files were made.
        placed: Names of the nodes that are in integers.
        floats: The float file.
        integers: The integer file.
        example: What both are run on.
        provider: The execution provider.
        config: Session options.

    Raises:
        SessionError: One of the files does not run.
    """
    options = provider, config
    times = node_times_of_all({"float": floats, "integer": integers}, example, {"float": options, "integer": options})
    spent = {
        name: attribute(graph, optimized_wiring(path, provider, config)[0], times[name])
        for name, path in (("float", floats), ("integer", integers))
    }
    joined = join(graph)
    blocks = blocks_of(joined, placed, spent["float"].nodes, spent["integer"].nodes)
    crossings = crossings_of(graph, joined, measure_prices(config), example)
    return Divisible(joined, frozenset(placed), blocks, crossings)


def decibels_to_share(decibels: float) -> float:
    """The error's share of the power that an SQNR in dB means."""
    return 0.0 if decibels == inf else float(10.0 ** (-decibels / 10.0))
