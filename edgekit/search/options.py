"""Options: other session options and other providers for candidates that are good with the default ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from edgekit.candidates import Candidate, session_for
from edgekit.providers import alternatives, schemes_for
from edgekit.search.entering import enter
from edgekit.search.state import SearchState
from edgekit_runtime.machine import available_cores
from edgekit_runtime.session import CPU, Provider, SessionConfig

if TYPE_CHECKING:
    from edgekit_export import Scheme

__all__ = ["enter_providers", "enter_sessions", "sessions"]


def sessions(config: SessionConfig, provider: Provider, *, memory: bool = False) -> list[SessionConfig]:
    """Other session options worth trying instead of `config`, the most promising first.

    Args:
        config: Session options as they are.
        provider: The execution provider; one that is a plugin has threads and memory of its own.
        memory: Whether memory is to be gained, rather than time.
    """
    cores = available_cores()
    change = msgspec.structs.replace
    if memory:
        return [change(config, memory_arena=False), change(config, memory_arena=False, threads=1)]
    # A small model's threads wait for each other longer than they work.
    threads = [change(config, threads=count) for count in dict.fromkeys((1, cores // 2)) if 1 <= count < cores]
    if provider.name != CPU:
        return threads
    # With a single thread nobody spins; blocks of channels cost a conversion wherever float meets integers.
    return [*threads, *([change(config, spinning=False)] if cores > 1 else []), change(config, blocked_layout=False)]


def enter_sessions(state: SearchState, names: Sequence[str], *, reserve_s: float) -> list[str]:
    """Takes in candidates of the lineup with other session options; gives the names of the new ones."""
    found = [state.lineup.built[name].candidate for name in names]
    memory = state.wish.optimize == "memory"
    others = [
        replace(candidate, session=session)
        for candidate in found
        for session in sessions(candidate.session, candidate.provider, memory=memory)
    ]
    return enter(state, others, "session options", reserve_s=reserve_s)


def enter_providers(state: SearchState, *, reserve_s: float) -> list[str]:
    """Takes in the target's other providers, in float and in the schemes that suit them; gives the names of the new candidates."""
    from edgekit_export import Float32

    target, calibrated = state.wish.target, state.statistics is not None
    candidates = []
    for provider in alternatives(target):
        schemes: list[Scheme] = [Float32(), *(schemes_for(provider, target) if calibrated else [])]
        candidates += [Candidate(scheme, provider, session_for(scheme)) for scheme in schemes]
    return enter(state, candidates, "other providers", reserve_s=reserve_s) if candidates else []
