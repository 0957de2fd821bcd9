"""The default search on EfficientNet-Lite0: how long it takes, and that killing it changes neither the verdict nor the disk.

One deployment runs through with a cache of its own. Another one, with another cache, is killed with SIGKILL ten times, at
moments drawn at random from the time that the first took, and started again each time; it must end in the same verdict. After
every kill the place of the bundle must be empty or hold a whole one, which is what `edgekit_runtime.load` says of it.

The second one's figures are taken anew, so candidates as good as each other may change places: that is a finding, and the row
says what each chose and how fast that was.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

import numpy as np

from benchmarks.document import at_least, at_most, publish
from benchmarks.ten_networks import NETWORKS, ROOT
from edgekit_runtime import load
from edgekit_runtime.errors import EdgekitError

__all__ = ["main"]

NETWORK = "efficientnet-lite0"
MAX_DROP = "0.01"
KILLS = 10
LIMIT_S = 180.0
START = perf_counter()


def tell(what: str) -> None:
    """One line on standard error."""
    print(f"search_budget {perf_counter() - START:5.0f} s: {what}", file=sys.stderr, flush=True)


def start(recipe: str, out: Path, cache: Path) -> subprocess.Popen[bytes]:
    """A deployment in a process group of its own, so that its children die with it."""
    command = [sys.executable, "-m", "edgekit", "deploy", recipe, "--max-drop", MAX_DROP, "--out", str(out), "--json", "-q"]
    environment = {**os.environ, "EDGEKIT_CACHE": str(cache)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Its document."""
    out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the deployment ended with {process.returncode}; its message is above")
    document: dict[str, Any] = json.loads(out)
    return document


def whole(bundle: Path) -> bool:
    """Whether a bundle's place is empty, or holds one that opens and passes its checks."""
    if not bundle.exists():
        return True
    try:
        load(bundle)
    except EdgekitError as error:
        tell(f"{bundle.name} is broken: {error}")
        return False
    return True


def row(way: str, document: dict[str, Any], spent_s: float) -> dict[str, Any]:
    """What one deployment came to."""
    chosen = document["chosen"]
    return {
        "run": way,
        "verdict": document["verdict"],
        "chosen": chosen["name"],
        "speedup": chosen["speedup"],
        "speedup_ci": chosen["speedup_ci"],
        "metric_drop": chosen["metric_drop"],
        "sqnr_db": chosen["sqnr_db"],
        "candidates": len(document["candidates"]),
        "clock_s": document["search"]["spent_s"],
        "wall_s": spent_s,
    }


def main() -> None:
    """Runs both, and publishes what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--network", choices=list(NETWORKS), default=NETWORK)
    arguments = parser.parse_args()
    recipe = str(ROOT / NETWORKS[arguments.network])
    random = np.random.default_rng()
    with TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        tell("deploy in one go")
        began = perf_counter()
        once = finish(start(recipe, folder / "once.edge", folder / "once"))
        once_s = perf_counter() - began
        rows, sound = [row("in one go", once, once_s)], 0
        killed = folder / "killed.edge"
        began = perf_counter()
        for count in range(arguments.kills):
            process = start(recipe, killed, folder / "killed")
            # Kills fall on a start, too; each run goes a little further than the last, or is through before it is met.
            moment = float(random.uniform(0.0, once_s))
            deadline = perf_counter() + moment
            while perf_counter() < deadline and process.poll() is None:
                sleep(0.05)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            sound += whole(killed)
            tell(f"kill {count + 1} after {moment:.0f} s: {'the place of the bundle is sound' if whole(killed) else 'BROKEN'}")
        resumed = finish(start(recipe, killed, folder / "killed"))
        rows.append(row(f"killed {arguments.kills} times", resumed, perf_counter() - began))
        again = finish(start(recipe, folder / "again.edge", folder / "killed"))
        rows.append(row("repeated after that", again, 0.0))
        litter = [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]
    same = [(one["verdict"], one["chosen"]["name"]) for one in (once, resumed, again)]
    publish(
        "search_budget",
        rows,
        [
            at_most("seconds of the default search, start to end", once_s, LIMIT_S),
            at_least("kills after which the bundle's place was empty or whole", sound, arguments.kills),
            at_least("killed and resumed: the same verdict", float(same[1][0] == same[0][0]), 1),
            at_least("killed and resumed: the same candidate", float(same[1][1] == same[0][1]), 1),
            at_least(
                "repeated: the same candidate with the same figures",
                float(same[2] == same[1] and again["chosen"] == resumed["chosen"]),
                1,
            ),
            at_most("temporary folders left beside the bundle", len(litter), 0),
        ],
    )


if __name__ == "__main__":
    main()
