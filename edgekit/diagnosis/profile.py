"""Where a model's time goes: the graph as onnxruntime runs it, the time of each node, and the float model's beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.inspection.model_file import read_model
from edgekit.inspection.optimized_graph import optimized_wiring
from edgekit.inspection.wiring import Wiring
from edgekit.placing.attribution import attribute, named
from edgekit.recipe import Arrays
from edgekit_runtime.node_times import NodeTime, node_times_of_all
from edgekit_runtime.session import Provider, SessionConfig

if TYPE_CHECKING:
    import onnx

    from edgekit_export import Graph

__all__ = ["NUMBERED", "WEIGHTED", "Profile", "Side", "profile"]

# onnxruntime numbers what it makes up anew in every session.
NUMBERED = re.compile(r"_token_\d+")
WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
ROUNDS = 15
MOST_S = 4.0


@dataclass(frozen=True)
class Side:
    """One model's times.

    Attributes:
        wiring: The graph that runs.
        times: Of its nodes, in the order in which they run.
    """

    wiring: Wiring
    times: list[NodeTime]

    @property
    def total_us(self) -> float:
        """Of all nodes; what lies between them is not in it."""
        return sum(time.time_us for time in self.times)

    @cached_property
    def _by_name(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for time in self.times:
            found[NUMBERED.sub("", time.name)] = found.get(NUMBERED.sub("", time.name), 0.0) + time.time_us
        return found

    def time_us(self, node: onnx.NodeProto) -> float:
        """Of one node of the wiring; nodes of one name share theirs."""
        name = NUMBERED.sub("", node.name)
        alike = sum(NUMBERED.sub("", other.name) == name for other in self.wiring.nodes)
        return self._by_name.get(name, 0.0) / max(alike, 1)


@dataclass(frozen=True)
class Profile:
    """A quantized model's times and, where there is one, the float model's.

    Attributes:
        own: The model's.
        stored: Names of the nodes in its file, before onnxruntime optimizes it.
        floating: The float model's.
        graph: The float model, whose nodes both are traced back to.
    """

    own: Side
    stored: frozenset[str]
    floating: Side | None = None
    graph: Graph | None = field(default=None, repr=False)

    @property
    def total_us(self) -> float:
        """Of the model."""
        return max(self.own.total_us, 1e-9)

    def origins(self, nodes: list[onnx.NodeProto] | None = None) -> dict[str, float]:
        """Microseconds of the model by the float model's nodes; of some of its nodes alone, if asked."""
        if self.graph is None:
            return {}
        names = None if nodes is None else {NUMBERED.sub("", node.name) for node in nodes}
        times = [time for time in self.own.times if names is None or NUMBERED.sub("", time.name) in names]
        return attribute(self.graph, self.own.wiring, times).nodes

    @cached_property
    def float_origins(self) -> dict[str, float]:
        """Microseconds of the float model by its nodes."""
        if self.graph is None or self.floating is None:
            return {}
        return attribute(self.graph, self.floating.wiring, self.floating.times).nodes

    @cached_property
    def fused_into(self) -> dict[str, str]:
        """For nodes that the float model has fused into others, and so have no time of their own there, the node that has it.

        A convolution that is fused with the activation or the sum behind it goes by the name of what it gives then, which is
        theirs; whatever else has no time is taken to be part of what is before it.
        """
        leaders: dict[str, str] = {}
        for node in self.graph.model.graph if self.graph is not None else ():
            if str(node.name) in self.float_origins:
                continue
            behind = [use.node for value in node.outputs for use in value.uses()]
            ahead = [maker for value in node.inputs if value is not None and (maker := value.producer()) is not None]
            if node.op_type in WEIGHTED and len(behind) == 1 and str(behind[0].name) in self.float_origins:
                leaders[str(node.name)] = str(behind[0].name)
            elif ahead:
                leaders[str(node.name)] = leaders.get(str(ahead[0].name), str(ahead[0].name))
        return leaders


def profile(path: Path, provider: Provider, session: SessionConfig, feed: Arrays, float_path: Path | None = None) -> Profile:
    """Profiles a model, with the float model in turn.

    Raises:
        SessionError: One of them does not open or run.
        GraphError: The float model is not sound.
    """
    from edgekit_export import Graph

    plain = SessionConfig(threads=session.threads)
    wiring, _, _ = optimized_wiring(path, provider, session)
    paths, options = {"own": path}, {"own": (provider, session)}
    if float_path is not None:
        paths["float"], options["float"] = float_path, (Provider(), plain)
    stored = frozenset(node.name for node in read_model(path).proto.graph.node)
    times = node_times_of_all(paths, feed, options, rounds=ROUNDS, most_s=MOST_S)
    own = Side(named(wiring, times["own"]), times["own"])
    if float_path is None:
        return Profile(own, stored)
    return Profile(
        own,
        stored,
        Side(named(optimized_wiring(float_path, Provider(), plain)[0], times["float"]), times["float"]),
        Graph.read(float_path),
    )
