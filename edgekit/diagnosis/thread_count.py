"""More threads than there are cores for them."""

import os
from pathlib import Path

import msgspec

from edgekit.diagnosis.findings import Finding
from edgekit.recipe import Arrays
from edgekit_runtime.machine import CGROUP, available_cores, cpu_quota
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session
from edgekit_runtime.timing import Timings, interleave, speedup

__all__ = ["fitted", "too_many_threads"]

ROUNDS = 25
SLOT_MS = 30.0
MEMBERSHIP = Path("/proc/self/cgroup")


def fitted(session: SessionConfig) -> SessionConfig:
    """The same with no more threads than cores."""
    asked = session.threads or available_cores()
    return msgspec.structs.replace(session, threads=min(asked, available_cores()))


def too_many_threads(path: Path, provider: Provider, session: SessionConfig, feed: Arrays) -> Finding | None:
    """Times a model as it asks to be run, and with as many threads as there are cores, in turn."""
    cores = available_cores()
    if (session.threads or cores) <= cores:
        return None
    models = {
        name: Model(open_session(path, provider, config), path) for name, config in (("asked", session), ("fit", fitted(session)))
    }
    calls = {name: (lambda model=model: model(feed)) for name, model in models.items()}
    seen = interleave(calls, rounds=ROUNDS, slot_ms=SLOT_MS)
    # The fastest call of each round: what other programs take of the cores at times is no fault of this one's.
    timings = {name: Timings(own.calls_ms.min(axis=1, keepdims=True)) for name, own in seen.items()}
    ratio = speedup(timings["asked"], timings["fit"])
    if ratio.interval[0] <= 1.0:
        return None
    return Finding(
        name="more-threads-than-cores",
        kind="slow",
        impact=1 - 1 / ratio.value,
        title=f"it runs {session.threads} threads on {cores} core{'s' if cores > 1 else ''}: they wait for each other",
        evidence=[
            f"{timings['asked'].median_ms:.3g} ms with {session.threads} threads, {timings['fit'].median_ms:.3g} ms with {cores} "
            f"({ratio.value:.2f} times as fast, 95 % interval {ratio.interval[0]:.2f} to {ratio.interval[1]:.2f})",
            *_limits(),
        ],
        advice=f"run it with {cores} (--threads {cores}, or leave the number out: edgekit's runtime takes what there is)",
    )


def _limits() -> list[str]:
    """What leaves this process so few cores."""
    affinity = getattr(os, "sched_getaffinity", None)
    found = [f"the machine has {os.cpu_count()} cores"]
    if affinity and len(affinity(0)) != os.cpu_count():
        found.append(f"affinity leaves this process {len(affinity(0))}")
    quota = cpu_quota(CGROUP, MEMBERSHIP.read_text() if MEMBERSHIP.is_file() else "")
    if quota is not None:
        found.append(f"its cgroup may use {quota:g} cores' worth of time")
    return ["; ".join(found)]
