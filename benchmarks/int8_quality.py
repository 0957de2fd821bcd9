"""The best int8 of real networks, against float and against what onnxruntime's own quantizers give.

For each network (``int8/networks.py``) and each way of quantizing it: the metric on the whole evaluation, size and speed against
float, and how near its outputs are to float's, both as this machine computes and with kernels that do not saturate. The best is the
fastest of edgekit's that keep every metric within what the issue allows; where none does, the one that is nearest to it.

Bars, per network: no metric below what the issue asks, none more than 0.5 % of float's below it, at most 0.30 of float's size
where weights are most of the file; for MiniLM at least 1.8 times float's speed; for EfficientNet-Lite0 outputs 3 dB nearer to
float's than onnxruntime's per-channel static quantizer brings them, in this machine's kernels and in precise ones.

``python -m benchmarks.int8_quality --networks minilm ocr`` does those two alone; ``--resume`` takes networks that were measured
before from ``benchmarks/results/int8_quality`` and measures the others.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from benchmarks.document import Bar, at_least, at_most, publish
from benchmarks.int8.measuring import FLOAT, OURS, ROOT, Figures, Measured, measure
from benchmarks.int8.naive import PER_CHANNEL
from benchmarks.int8.networks import MOST_LOST, NETWORKS, SIZE_LIMIT, Network

__all__ = ["ROOT", "bars", "best_of", "main", "row", "run"]

SAVED = ROOT / "benchmarks" / "results" / "int8_quality"
# Weights are "most of the file" from here on.
DOMINATE = 0.9


def shortfall(network: Network, figures: Figures, known_figures: Mapping[str, Figures]) -> float:
    """By how much a model misses what is asked of its accuracy, as a share of what is allowed; 0 where it does not."""
    worst = 0.0
    for goal, metric, known in zip(network.goals, figures.metrics, known_figures[FLOAT].metrics, strict=True):
        worst = max(worst, (known - metric) / least_lost(known, goal.drop) - 1.0)
        if goal.least is not None:
            worst = max(worst, (goal.least - metric) / (MOST_LOST * abs(known)))
    over = over_naive(figures, known_figures[PER_CHANNEL])
    if network.over_naive_db is not None and over is not None:
        worst = max(worst, 1.0 - over / network.over_naive_db)
    return worst


def over_naive(figures: Figures, naive: Figures) -> float | None:
    """How many dB nearer to float: the less of what this machine's kernels and what precise ones show."""
    pairs = ((figures.sqnr_db, naive.sqnr_db), (figures.precise_sqnr_db, naive.precise_sqnr_db))
    found = [own - other for own, other in pairs if own is not None and other is not None]
    return min(found) if len(found) == len(pairs) else None


def least_lost(known: float, drop: float | None) -> float:
    """The most that may be lost of a metric that is `known` for float."""
    allowed = MOST_LOST * abs(known)
    return allowed if drop is None else min(drop, allowed)


def best_of(network: Network, measured: Measured) -> str | None:
    """The fastest of edgekit's models that keep the accuracy, small ones first where size counts; else the nearest to it."""
    figures = measured.figures
    ours = {name: one for name, one in figures.items() if one.kind == OURS and one.speed is not None}
    if not ours:
        return None
    missed = {name: shortfall(network, one, figures) for name, one in ours.items()}
    within = [name for name in ours if missed[name] <= 0.0]
    if measured.weights_share >= DOMINATE:
        within = [name for name in within if (ours[name].size_ratio or 1.0) <= SIZE_LIMIT] or within
    if within:
        return max(within, key=lambda name: ours[name].speed.value if ours[name].speed else 0.0)
    return min(ours, key=lambda name: missed[name])


def row(network: str, goals: Network, name: str, figures: Figures, float_figures: Figures, best: str | None) -> dict[str, Any]:
    """What a reader wants to see of one model."""
    metrics = {goal.metric: metric for goal, metric in zip(goals.goals, figures.metrics, strict=False)}
    known = float_figures.metrics
    return {
        "network": network,
        "model": name,
        "best": name == best,
        "metrics": " ".join(f"{goal}={metric:.4f}" for goal, metric in metrics.items()),
        "drops": [round(one - metric, 5) for one, metric in zip(known, figures.metrics, strict=False)],
        "size_ratio": figures.size_ratio,
        "speed": figures.speed.value if figures.speed else None,
        "speed_ci": figures.speed.interval if figures.speed else None,
        "speed_all_threads": figures.speed_all_threads.value if figures.speed_all_threads else None,
        "sqnr_db": figures.sqnr_db,
        "precise_sqnr_db": figures.precise_sqnr_db,
        "build_s": round(figures.spent_s, 1),
        "note": figures.note[:160],
    }


def bars(name: str, network: Network, measured: Measured, best: str | None) -> list[Bar]:
    """The bars of one network."""
    figures = measured.figures
    chosen = figures[best] if best is not None else Figures(OURS)
    judged: list[Bar] = []
    for index, goal in enumerate(network.goals):
        known = figures[FLOAT].metrics[index]
        metric = chosen.metrics[index] if index < len(chosen.metrics) else None
        lost = None if metric is None else round(known - metric, 9)
        if goal.least is not None:
            judged.append(at_least(f"{name}: {goal.metric}", metric, goal.least))
        if goal.drop is not None:
            judged.append(at_most(f"{name}: {goal.metric} lost", lost, goal.drop))
        judged.append(at_most(f"{name}: share of {goal.metric} lost", None if lost is None else lost / abs(known), MOST_LOST))
    if network.speed is not None:
        judged.append(at_least(f"{name}: × float's speed", chosen.speed.value if chosen.speed else None, network.speed))
    if network.over_naive_db is not None:
        over = over_naive(chosen, figures[PER_CHANNEL])
        judged.append(at_least(f"{name}: dB over onnxruntime per channel", over, network.over_naive_db))
    if measured.weights_share >= DOMINATE:
        judged.append(at_most(f"{name}: × float's size", chosen.size_ratio, SIZE_LIMIT))
    return judged


def run(name: str) -> dict[str, Any]:
    """Measures one network; gives its rows and bars, and what took how long."""
    network = NETWORKS[name]
    start = perf_counter()

    def tell(what: str) -> None:
        print(f"{name} {perf_counter() - start:5.0f} s: {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        measured = measure(network, Path(folder), lambda found: best_of(network, found), tell)
    best = best_of(network, measured)
    float_figures = measured.figures[FLOAT]
    return {
        "rows": [row(name, network, model, one, float_figures, best) for model, one in measured.figures.items()],
        "bars": [msgspec.to_builtins(bar) for bar in bars(name, network, measured, best)],
        "weights_share": measured.weights_share,
        "spent_s": perf_counter() - start,
    }


def saved(name: str) -> Mapping[str, Any] | None:
    """What was measured of a network before."""
    path = SAVED / f"{name}.json"
    found: Mapping[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def main() -> None:
    """Measures network by network, and publishes them together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--resume", action="store_true", help="keep what was measured before, measure the rest")
    arguments = parser.parse_args()
    SAVED.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    judged: list[Bar] = []
    for name in arguments.networks:
        found = saved(name) if arguments.resume else None
        if found is None:
            found = run(name)
            aside = SAVED / f".{name}.json"
            aside.write_text(json.dumps(found, indent=2), encoding="utf-8")
            aside.replace(SAVED / f"{name}.json")
        rows += found["rows"]
        judged += [msgspec.convert(bar, Bar) for bar in found["bars"]]
    publish("int8_quality", rows, judged)


if __name__ == "__main__":
    main()
