"""The time of each node of a model, as onnxruntime's own profiler sees it after its optimization.

Profiles of several models are taken in one sitting, run by run in turn, so that a slow spell of the machine falls on all of them.
Runs go on until the times are stable: until every other run and those between say the same of the whole model.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import msgspec
import numpy as np
import onnxruntime as ort

from edgekit_runtime.errors import InputError, SessionError
from edgekit_runtime.session import OpenSession, Provider, SessionConfig, open_session, short_reason
from edgekit_runtime.timing import SETTLE_MS

__all__ = ["NodeTime", "node_times", "node_times_of_all"]

# They hold other nodes, which are listed by themselves.
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
KERNEL = "_kernel_time"
# Of each turn the last run counts: the others find cold caches and, after a rest, sleeping threads.
RUNS_A_TURN = 2
WARM_UP_TURNS = 1
STABLE = 0.02
MOST_S = 2.0


class NodeTime(msgspec.Struct, frozen=True):
    """One node of the graph that onnxruntime runs.

    Attributes:
        name: Its name there; of a fused node onnxruntime makes one up from those that it took the place of.
        operator: Its type.
        provider: The execution provider that ran it.
        time_us: Median over the runs, in microseconds; the profiler itself adds about one to each node.
        output_bytes: Bytes that it gave; ``None`` where the profiler does not say.
    """

    name: str
    operator: str
    provider: str
    time_us: float
    output_bytes: int | None = None


def node_times(
    path: Path,
    feed: Mapping[str, np.ndarray],
    provider: Provider | None = None,
    config: SessionConfig | None = None,
    *,
    rounds: int = 10,
) -> list[NodeTime]:
    """Times of the nodes of one model, in the order in which they run.

    Args:
        path: The model file.
        feed: Inputs by name.
        provider: The provider; one that compiles nodes into its own shows these as one.
        config: Session options.
        rounds: The least number of turns, each of which counts once.

    Raises:
        InputError: `rounds` is below 2.
        SessionError: It cannot be opened or run.
    """
    options = {"model": (provider or Provider(), config or SessionConfig())}
    return node_times_of_all({"model": path}, feed, options, rounds=rounds)["model"]


def node_times_of_all(
    paths: Mapping[str, Path],
    feed: Mapping[str, np.ndarray],
    options: Mapping[str, tuple[Provider, SessionConfig]] | None = None,
    *,
    rounds: int = 10,
    most_s: float = MOST_S,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, list[NodeTime]]:
    """Times of the nodes of several models on the same feed, their runs in turn.

    Args:
        paths: Model files, by any names.
        feed: Inputs by name.
        options: Provider and session options of each; onnxruntime's CPU provider and the defaults where left out.
        rounds: The least number of turns of each model; they go on until two halves of them agree within 2 %.
        most_s: Seconds after which that is no longer waited for.
        on_round: Told the rounds done.

    Raises:
        InputError: `rounds` is below 2.
        SessionError: One of them cannot be opened or run.
    """
    if rounds < 2:
        raise InputError(f"profile: rounds={rounds}, expected 2 or more")
    start = perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        opened: dict[str, OpenSession] = {}
        for index, (name, path) in enumerate(paths.items()):
            provider, config = (options or {}).get(name, (Provider(), SessionConfig()))
            opened[name] = open_session(path, provider, config, profile=Path(folder) / f"profile-{index}")
        # Threads of the model before spin for a while, on the cores that this one needs.
        rest_s = SETTLE_MS / 1e3 if len(opened) > 1 and any(one.threads > 1 for one in opened.values()) else 0.0
        spent: dict[str, list[float]] = {name: [] for name in opened}
        while True:
            for name, one in opened.items():
                sleep(rest_s)
                for _ in range(RUNS_A_TURN):
                    before = perf_counter()
                    _run(one.session, feed, paths[name])
                    last = perf_counter() - before
                spent[name].append(last)
            done = len(next(iter(spent.values()), [])) - WARM_UP_TURNS
            if on_round:
                on_round(max(done, 0))
            if done >= rounds and (all(map(_stable, spent.values())) or perf_counter() - start > most_s):
                break
        return {name: _read(Path(one.session.end_profiling())) for name, one in opened.items()}


def _run(session: ort.InferenceSession, feed: Mapping[str, np.ndarray], path: Path) -> None:
    try:
        session.run(None, dict(feed))
    except Exception as error:  # onnxruntime raises a dozen unrelated types here
        raise SessionError(f"profile {path.name}: it does not run: {short_reason(error)}") from error


def _stable(spent: list[float]) -> bool:
    """Whether the halves of the turns, alternating, agree."""
    one, other = median(spent[WARM_UP_TURNS::2]), median(spent[WARM_UP_TURNS + 1 :: 2])
    return abs(one - other) <= STABLE * max(one, other)


def _read(file: Path) -> list[NodeTime]:
    events = json.loads(file.read_text(encoding="utf-8"))
    runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event.get("name") == "model_run")
    nodes: dict[tuple[str, str], NodeTime] = {}
    spent: dict[tuple[str, str], list[float]] = {}
    begun: dict[tuple[str, str], float] = {}
    starts = np.asarray([begin for begin, _ in runs])
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(KERNEL) or event["args"]["op_name"] in CONTROL_FLOW:
            continue
        run = int(np.searchsorted(starts, event["ts"], side="right")) - 1
        turn, place = divmod(run, RUNS_A_TURN)
        if turn < WARM_UP_TURNS or place < RUNS_A_TURN - 1:
            continue
        # A model may have several nodes without a name: their place among the nodes tells them apart.
        key = (event["name"], str(event["args"].get("node_index", "")))
        if key not in nodes:
            size = event["args"].get("output_size")
            nodes[key] = NodeTime(
                event["name"].removesuffix(KERNEL),
                event["args"]["op_name"],
                event["args"].get("provider", ""),
                0.0,
                int(size) if size else None,
            )
            spent[key] = [0.0] * (len(runs) // RUNS_A_TURN - WARM_UP_TURNS)
            begun[key] = event["ts"] - starts[run]
        spent[key][turn - WARM_UP_TURNS] += event["dur"]
    return [
        msgspec.structs.replace(nodes[key], time_us=float(median(spent[key]))) for key in sorted(nodes, key=lambda key: begun[key])
    ]
