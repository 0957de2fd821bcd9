"""Deploying three real networks to this machine: what ships, what it loses and gains, and why the others lost.

Each is deployed by the command line, as a user would, in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.document import Bar, at_least, at_most, publish

ROOT = Path(__file__).resolve().parent.parent
# Recipe and budget of its metric: accuracy, top-1, Spearman's correlation.
DEPLOYMENTS = {
    "fashion": ("examples/fashion_mnist/recipe.py", 0.005),
    "efficientnet-lite0": ("benchmarks/models/efficientnet_lite0.py", 0.01),
    "minilm": ("benchmarks/models/minilm.py", 0.01),
}
# The metric's gate, and the search's, which does not evaluate what has nothing to do with float's outputs.
TOO_WRONG = ("of the metric", "dB SQNR from float's")


def deploy(recipe: str, max_drop: float, out: Path) -> tuple[dict[str, Any], float]:
    """The document of one deployment and how long it took, in seconds."""
    command = [
        sys.executable,
        "-m",
        "edgekit",
        "deploy",
        str(ROOT / recipe),
        "--max-drop",
        str(max_drop),
        "--out",
        str(out),
        "--json",
    ]
    start = perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"deploy {recipe} ended with {done.returncode}; its message is above")
    return json.loads(done.stdout), perf_counter() - start


def row(name: str, document: dict[str, Any], spent_s: float) -> dict[str, Any]:
    """What a reader of the README wants to see of one deployment."""
    chosen, baseline = document["chosen"], document["baseline"]
    return {
        "network": name,
        "verdict": document["verdict"],
        "chosen": chosen["name"],
        "certified": document["certified"],
        "float_metric": baseline["metric"],
        "metric_drop": chosen["metric_drop"],
        "metric_drop_ci": chosen["metric_drop_ci"],
        "speedup": chosen["speedup"],
        "speedup_ci": chosen["speedup_ci"],
        "size_ratio": chosen["size_bytes"] / baseline["size_bytes"],
        "sqnr_db": chosen["sqnr_db"],
        "candidates": len(document["candidates"]),
        "spent_s": spent_s,
    }


def bars(name: str, document: dict[str, Any], max_drop: float) -> list[Bar]:
    """The bars of issue 2 for one deployment."""
    chosen, candidates = document["chosen"], document["candidates"]
    # Float ships unchanged: it is as fast as itself.
    fastest = 1.0 if chosen["name"] == "float32" else chosen["speedup_ci"][0]
    judged = [
        at_most(f"{name}: metric drop of what ships", chosen["metric_drop"], max_drop),
        at_least(f"{name}: lower end of its speed-up", fastest, 1.0),
        at_most(f"{name}: candidates without a reason", sum(not candidate["reason"] for candidate in candidates), 0),
    ]
    if name == "minilm":
        everything = [candidate for candidate in candidates if candidate["name"].endswith("-everything")]
        refused = [one for one in everything if any(word in one["reason"] for word in TOO_WRONG)]
        share = len(refused) / len(everything)
        judged.append(at_least(f"{name}: share of static int8 of everything that is left since it is wrong", share, 1.0))
    return judged


def main() -> None:
    """Deploys the networks and publishes the document."""
    rows, judged = [], []
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        for name, (recipe, max_drop) in DEPLOYMENTS.items():
            document, spent_s = deploy(recipe, max_drop, Path(folder) / f"{name}.edge")
            rows.append(row(name, document, spent_s))
            judged += bars(name, document, max_drop)
            for candidate in document["candidates"]:
                print(f"{name}  {candidate['name']}: {candidate['status']}: {candidate['reason']}")
    publish("deployments", rows, judged)


if __name__ == "__main__":
    main()
