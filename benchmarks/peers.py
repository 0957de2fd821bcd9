"""Peers, side by side: ten networks, float and int8 of five toolkits and edgekit's own choice, one thread, in interleaved rounds.

``python -m benchmarks.peers`` sets up each peer in an environment of its own below ``build/peers`` (about 9 GB), has each build
its models there from the same network and the same calibration feeds, opens every model in a process of its own, and asks these
processes in turn. A ratio is onnxruntime's float32 latency over the contestant's, medians of interleaved rounds, with the 95 %
interval of a bootstrap over rounds. Beside it stands the SQNR of all outputs on eight feeds against onnxruntime's float32.

What is fair and what is not: the call that is timed is each peer's own Python call with its inputs ready as the peer wants them, so
networks of a tenth of a millisecond show the calls' overhead too. Shapes are fixed to the recipe's example for the peers that take
no others. Networks with random weights are compared on feeds that calibrated them, the same for everybody.

Environments, models and, with ``--resume``, results are kept; what fails is a row that says why.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np

from benchmarks.document import publish
from benchmarks.rivals.environments import OURS, PEERS, set_up
from benchmarks.rivals.judging import EQUAL_OUTPUTS_DB, Result, bars, rows, summary
from benchmarks.rivals.material import read_feeds, write_material
from benchmarks.rivals.models import BASELINE, Contestant, build, contestants
from benchmarks.rivals.timing_rounds import take_rounds
from benchmarks.rivals.workers import Worker, WorkerError
from benchmarks.ten_networks import NETWORKS
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import EdgekitError

__all__ = ["main"]

SAVED = Path(__file__).resolve().parent / "results" / "peers"
START = perf_counter()


def tell(what: str) -> None:
    """One line on standard error."""
    print(f"peers {perf_counter() - START:5.0f} s: {what}", file=sys.stderr, flush=True)


def prepare(network: str, chosen: Sequence[Contestant], missing: dict[str, str], arguments: argparse.Namespace) -> dict[str, str]:
    """Builds every contestant's model of a network; gives the reasons of those that have none."""
    tell(f"{network}: the network and its feeds")
    material = write_material(network, again=arguments.rebuild)
    failures = {}
    given = {"host": arguments.ours, "cpu": arguments.ours_cpu}
    for contestant in chosen:
        tell(f"{network}: build {contestant.name}")
        ours = given.get(contestant.way) if contestant.peer == OURS else None
        reason = missing.get(contestant.peer) or build(contestant, network, material, again=arguments.rebuild, ours=ours)
        if reason is not None:
            tell(f"{network}: {contestant.name}: {reason}")
            failures[contestant.name] = reason
    return failures


def measure(network: str, chosen: Sequence[Contestant], failures: dict[str, str], rounds: int) -> list[Result]:
    """Opens the models that there are, compares their outputs with float32's and times them against each other."""
    material = write_material(network)
    reference = read_feeds(material / "reference")
    workers = {one.name: Worker(one, network, material) for one in chosen if one.name not in failures}
    decibels: dict[str, float] = {}
    try:
        for name, worker in list(workers.items()):
            try:
                worker.ready()
                decibels[name] = float(np.clip(difference(worker.run(), reference).sqnr_db, -EQUAL_OUTPUTS_DB, EQUAL_OUTPUTS_DB))
            except (WorkerError, EdgekitError, ValueError) as error:
                failures[name] = str(error)
                tell(f"{network}: {name}: {error}")
                workers.pop(name).close()
        if BASELINE not in workers:
            raise SystemExit(f"peers: {network}: {BASELINE} does not run: {failures.get(BASELINE)}")
        medians, broken = take_rounds(workers, BASELINE, rounds, lambda done: tell(f"{network}: round {done} of {rounds}"))
    finally:
        for worker in workers.values():
            worker.close()
    failures |= broken
    return [
        Result(one.name, one.about, medians.get(one.name, []), decibels.get(one.name), failures.get(one.name)) for one in chosen
    ]


def saved(network: str) -> Path:
    """Where a network's results are kept."""
    return SAVED / f"{network}.json"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--peers", nargs="+", choices=[OURS, *PEERS], default=[OURS, *PEERS])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ours", type=Path, help="a folder of NETWORK.edge, deployed to host; else they are deployed now")
    parser.add_argument("--ours-cpu", type=Path, help="the same, deployed with onnxruntime's CPU provider alone")
    parser.add_argument("--resume", action="store_true", help="keep what was measured before, measure the rest")
    parser.add_argument("--rebuild", action="store_true", help="build models anew, even where nothing changed")
    parser.add_argument("--build-only", action="store_true", help="set up and build everything; nothing is timed or printed")
    return parser.parse_args()


def main() -> None:
    """Sets up, builds, measures network by network, and publishes them together."""
    arguments = parse()
    # The baseline's peer is always there.
    chosen = contestants({*arguments.peers, BASELINE.partition("/")[0]})
    missing = {}
    for peer in dict.fromkeys(one.peer for one in chosen):
        tell(f"set up {peer}")
        if reason := set_up(peer):
            tell(reason)
            missing[peer] = reason
    SAVED.mkdir(parents=True, exist_ok=True)
    measured = {}
    for network in arguments.networks:
        if not (arguments.resume and saved(network).exists()):
            failures = prepare(network, chosen, missing, arguments)
            if arguments.build_only:
                continue
            aside = saved(network).with_name(f".{network}.json")
            aside.write_bytes(msgspec.json.encode(measure(network, chosen, failures, arguments.rounds)))
            aside.replace(saved(network))
        results = msgspec.json.decode(saved(network).read_bytes(), type=list[Result])
        measured[network] = {result.name: result for result in results}
    if arguments.build_only:
        return
    table = [row for network, results in measured.items() for row in rows(network, results)]
    publish("peers", [*table, *summary(measured)], bars(measured))


if __name__ == "__main__":
    main()
