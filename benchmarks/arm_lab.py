"""The emulated lab from nothing: how long it takes, what it weighs, that a killed set-up goes on, and how long its tests take.

The lab is set up in a cache folder of its own, with nothing of an earlier one, pip's downloads included; packages come over the
network. Then a second one is killed half-way and set up again. At the end the tests marked ``lab`` run on the first one.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.document import at_least, at_most, publish
from benchmarks.ten_networks import ROOT

__all__ = ["main"]

MOST_SECONDS = 30.0
MOST_MB = 300.0
MOST_TEST_SECONDS = 180.0
TESTS = "tests/edgekit/test_lab_emulated.py"


def environment(cache: Path) -> dict[str, str]:
    """This process's environment, with a cache of its own and without pip's."""
    return {**os.environ, "EDGEKIT_CACHE": str(cache), "PIP_NO_CACHE_DIR": "1"}


def set_up(cache: Path) -> tuple[dict[str, Any], float]:
    """The document of a set-up, and how long the command took."""
    began = perf_counter()
    command = [sys.executable, "-m", "edgekit", "lab", "setup", "--json"]
    done = subprocess.run(command, env=environment(cache), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit("the lab could not be set up; the message is above")
    document: dict[str, Any] = json.loads(done.stdout)
    return document, perf_counter() - began


def kill_half_way(cache: Path, after_s: float) -> bool:
    """Starts a set-up and kills it after a time; whether it was still going."""
    command = [sys.executable, "-m", "edgekit", "lab", "setup", "--json", "--quiet"]
    process = subprocess.Popen(command, env=environment(cache), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def test_seconds(cache: Path) -> tuple[float, int]:
    """How long the tests of two boards take on the lab in `cache`, and pytest's exit status."""
    began = perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "lab", "-p", "no:cacheprovider", TESTS]
    done = subprocess.run(command, env=environment(cache), cwd=ROOT, stdout=sys.stderr, check=False)
    return perf_counter() - began, done.returncode


def row(way: str, document: Mapping[str, Any], spent_s: float) -> dict[str, Any]:
    """What one set-up came to."""
    return {
        "run": way,
        "seconds": spent_s,
        "mb": document["size_bytes"] / 1e6,
        "most_mb": document["most_bytes"] / 1e6,
        "steps_done": len(document["made"]),
        "counting": document["counting"],
        # Another program's work on the same cores takes longer, and what is measured here waits for it.
        "load_per_core": os.getloadavg()[0] / (os.cpu_count() or 1),
    }


def main() -> None:
    """Sets up from nothing, then after a kill, then runs the tests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--without-tests", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        first, first_s = set_up(folder / "first")
        rows = [row("from nothing", first, first_s)]
        again, again_s = set_up(folder / "first")
        rows.append(row("again", again, again_s))
        killed = kill_half_way(folder / "killed", first_s / 2)
        resumed, resumed_s = set_up(folder / "killed")
        rows.append(row("killed half-way, then again", resumed, resumed_s))
        whole = [step["name"] for step in resumed["steps"]] == [step["name"] for step in first["steps"]]
        tests_s, status = (None, 0) if arguments.without_tests else test_seconds(folder / "first")
    bars = [
        at_most("seconds of edgekit lab setup from nothing", first_s, MOST_SECONDS),
        at_most("MB that the lab weighs, at most while it is set up", max(one["most_mb"] for one in rows), MOST_MB),
        at_most("steps that a second set-up does again", len(again["made"]), 0),
        at_least("killed half-way and set up again: whole", float(killed and whole), 1),
    ]
    if tests_s is not None:
        bars.append(
            at_most("seconds of the lab's tests for two boards, if they pass", tests_s if status == 0 else None, MOST_TEST_SECONDS)
        )
    publish("arm_lab", rows, bars)


if __name__ == "__main__":
    main()
