"""What benching, running and self-testing at a place gives: the figures, with whose they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgekit.labs.devices.resuming import open_resuming, put_resuming, resuming
from edgekit.labs.place import Kind, Place
from edgekit.labs.worker import Worker
from edgekit.progress import Progress, Quiet
from edgekit_runtime.benchmark import Benchmark, example_of
from edgekit_runtime.errors import ConnectionLostError, DeviceError
from edgekit_runtime.health import BoardHealth
from edgekit_runtime.machine import Machine
from edgekit_runtime.selftest import SelfTest

__all__ = ["PlacedBenchmark", "PlacedSelfTest", "bench_at", "lost_told", "run_at", "selftest_at"]


class PlacedBenchmark(Benchmark, frozen=True, kw_only=True):
    """One model's figures at a place whose times are real.

    Attributes:
        place: What ``--on`` calls it.
        kind: ``host`` or ``device``.
        machine: What it is.
        versions: Of what ran there, by package.
        health_before: Temperature, clock and throttling before the rounds, where the board tells.
        health_after: The same afterwards.
    """

    place: str
    kind: Kind
    machine: Machine
    versions: dict[str, str]
    health_before: BoardHealth
    health_after: BoardHealth


class PlacedSelfTest(SelfTest, frozen=True, kw_only=True):
    """What a self-test saw at a place.

    Attributes:
        place: What ``--on`` calls it.
        kind: What kind of place it is.
        machine: What it is.
        versions: Of what ran there, by package.
    """

    place: str
    kind: Kind
    machine: Machine
    versions: dict[str, str]


def bench_at(
    place: Place,
    path: Path,
    feed: Mapping[str, np.ndarray] | None = None,
    *,
    rounds: int = 25,
    threads: int | None = None,
    check_isa: bool = True,
    progress: Progress | None = None,
) -> PlacedBenchmark:
    """Latency, cold start, memory and size at a place. Rounds that a lost connection broke off begin anew.

    Args:
        place: This machine or a device; an emulated board has no times, and is counted instead.
        path: The bundle or model, here.
        feed: What to run it on; by default its own example.
        rounds: Timed rounds of about 10 ms each.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold there.
        progress: Told what is going on.

    Raises:
        DeviceError: The place is emulated, is not reached, or cannot run it.
        ConnectionLostError: It was lost and did not come back.
    """
    told = progress or Quiet()
    there = put_resuming(place, path, on_lost=lost_told(told))
    if place.kind == "emulated":  # what a device is, is known once it was reached
        raise DeviceError(
            f"bench on {place.name}: its Python runs under an emulator, whose times say nothing of a board; give --python the "
            "board's own, or count instructions with --on and one of the emulated boards"
        )

    def work(worker: Worker) -> PlacedBenchmark:
        told.stage(f"bench on {place.name}")
        welcome, before = worker.hello(), worker.health()
        figures = worker.bench(there, feed, rounds=rounds, threads=threads, check_isa=check_isa)
        return PlacedBenchmark(
            **msgspec.structs.asdict(figures),
            place=place.name,
            kind=place.kind,
            machine=welcome.machine,
            versions=welcome.versions,
            health_before=before,
            health_after=worker.health(),
        )

    return resuming(place, work, on_lost=lost_told(told))


def run_at(
    place: Place,
    path: Path,
    feed: Mapping[str, Any] | None = None,
    *,
    threads: int | None = None,
    check_isa: bool = True,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """One call at a place; the arguments and errors are those of `bench_at`."""
    told = progress or Quiet()
    there = put_resuming(place, path, on_lost=lost_told(told))
    told.stage(f"run on {place.name}")
    with open_resuming(place, there, threads=threads, check_isa=check_isa, on_lost=lost_told(told)) as run:
        return run(feed if feed is not None else example_of(path, run.model.inputs))


def selftest_at(
    place: Place, path: Path, *, threads: int | None = None, check_isa: bool = True, progress: Progress | None = None
) -> PlacedSelfTest:
    """A bundle's golden examples at a place; the arguments and errors are those of `bench_at`."""
    told = progress or Quiet()
    there = put_resuming(place, path, on_lost=lost_told(told))

    def work(worker: Worker) -> PlacedSelfTest:
        told.stage(f"self-test on {place.name}")
        welcome = worker.hello()
        seen = worker.selftest(there, threads=threads, check_isa=check_isa)
        return PlacedSelfTest(
            **msgspec.structs.asdict(seen),
            place=place.name,
            kind=place.kind,
            machine=welcome.machine,
            versions=welcome.versions,
        )

    return resuming(place, work, on_lost=lost_told(told))


def lost_told(progress: Progress) -> Any:
    """What tells a person of a lost connection, for `resuming`."""

    def on_lost(error: ConnectionLostError) -> None:
        progress.stage(f"{error}; connecting anew")

    return on_lost
