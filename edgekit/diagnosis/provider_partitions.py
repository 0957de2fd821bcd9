"""Nodes that another provider than the one asked for runs, and the partitions that a graph falls into."""

from pathlib import Path

import msgspec

from edgekit.diagnosis.findings import Finding
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.node_times import NodeTime
from edgekit_runtime.session import CPU, Provider, SessionConfig, open_session

__all__ = ["provider_fallback", "provider_partitions"]

RECORD = {"session.record_ep_graph_assignment_info": "1"}
SHOWN = 6


def provider_fallback(provider: Provider, reason: str) -> Finding:
    """The provider cannot be had at all, so everything below it is the CPU provider's.

    How much faster it would be cannot be measured; the finding comes first, since the other slow ones are of another deployment.
    """
    return Finding(
        name="provider-fallback",
        kind="slow",
        impact=1.0,
        title=f"{provider.name} does not run it here; everything runs on {CPU}",
        evidence=[reason],
        advice="install the provider, or deploy for a target that this machine is",
    )


def provider_partitions(path: Path, provider: Provider, session: SessionConfig, times: list[NodeTime]) -> Finding | None:
    """What of a model a provider leaves to the CPU provider, by time; nothing where it takes all in one piece.

    Args:
        path: The model.
        provider: Not the CPU provider, which takes everything.
        session: How it is opened.
        times: Of its nodes on that provider.
    """
    if provider.name == CPU:
        return None
    config = msgspec.structs.replace(session, entries={**session.entries, **RECORD})
    try:
        info = open_session(path, provider, config).session.get_provider_graph_assignment_info()
    except (EdgekitError, AttributeError):  # older releases of onnxruntime do not record it
        return None
    taken = [part for part in info if part.ep_name.startswith(provider.name)]
    left = [node for part in info if not part.ep_name.startswith(provider.name) for node in part.get_nodes()]
    total = max(sum(time.time_us for time in times), 1e-9)
    spent = sum(time.time_us for time in times if not time.provider.startswith(provider.name))
    if not left and len(taken) <= 1:
        return None
    counts: dict[str, int] = {}
    for node in left:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return Finding(
        name="provider-partitions",
        kind="slow",
        impact=spent / total,
        title=f"{provider.name} takes the model in {len(taken)} partitions and leaves {len(left)} nodes",
        evidence=[
            f"what it leaves takes {spent:.0f} of {total:.0f} µs",
            *(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1])[:SHOWN]),
        ],
        advice="every border is a copy: rewrite the operators that it does not take, fix shapes, or take the CPU provider",
        nodes=[node.name for node in left],
    )
