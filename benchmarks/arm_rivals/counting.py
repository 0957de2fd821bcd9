"""One entry on one board: a process under the emulator that calls nothing and then the network, and what it executed."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.arm_rivals.entries import Entry
from benchmarks.rivals.environments import ROOT
from benchmarks.rivals.material import read_feeds
from edgekit.labs.emulated.counts import RUNS, Counts, read_counts
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.launch import launch
from edgekit.labs.emulated.plugin import build_plugin
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import LabError

__all__ = ["Model", "Seen", "count_calls"]

# Python specializes its own code around a call during the first ones; those of nothing come first and do it.
NOTHING_WARM_UPS, WARM_UPS = 32, 2
LIMIT_S = 1800


@dataclass(frozen=True)
class Model:
    """A file and its network.

    Attributes:
        file: What the peer opens.
        material: The network's feeds and float32's outputs.
    """

    file: Path
    material: Path


class Seen(msgspec.Struct, frozen=True):
    """What a board showed.

    Attributes:
        counts: Of one call.
        nothing: Of one call that computes next to nothing.
        sqnr_db: Outputs computed on the board against float32's on this machine.
    """

    counts: Counts
    nothing: Counts
    sqnr_db: float


def count_calls(lab: Lab, entry: Entry, network: Model, nothing: Model, feeds: int) -> Seen:
    """Counts an entry's calls on its board.

    Args:
        lab: A lab that is set up.
        entry: Whose models they are.
        network: The model to count.
        nothing: The model that does nothing.
        feeds: Feeds to compare outputs on.

    Raises:
        LabError: The process failed, or the plugin did not write what it should.
    """
    what = f"count {entry.who} {entry.way} on {entry.board.name}"
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        asked = [_asked(nothing, 1, NOTHING_WARM_UPS, folder / "nothing"), _asked(network, feeds, WARM_UPS, folder / "outputs")]
        job, answer, out = folder / "job.json", folder / "answer.json", folder / "counts"
        job.write_text(json.dumps(asked), encoding="utf-8")
        arguments = ["-m", "benchmarks.arm_rivals.on_board", entry.who, str(job), str(answer)]
        start = launch(lab, entry.board, arguments, (build_plugin(lab), {"out": str(out)}))
        given = [start.environment["PYTHONPATH"], str(ROOT)]
        python_path = os.pathsep.join(given if entry.site is None else [str(entry.site), *given])
        environment = start.environment | {"PYTHONPATH": python_path}
        try:
            done = subprocess.run(
                start.command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{what}: not done after {LIMIT_S} s") from error
        if done.returncode != 0 or not answer.exists():
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise LabError(f"{what}: the process ended with {done.returncode}: {lines[-1][:300]}")
        of_nothing, of_network = json.loads(answer.read_text(encoding="utf-8"))
        return Seen(
            counts=read_counts(out, of_network, entry.board),
            nothing=read_counts(out, of_nothing, entry.board),
            sqnr_db=difference(read_feeds(folder / "outputs"), read_feeds(network.material / "reference")[:feeds]).sqnr_db,
        )


def _asked(model: Model, feeds: int, warm_ups: int, out: Path) -> dict[str, Any]:
    return {
        "file": str(model.file),
        "material": str(model.material),
        "feeds": feeds,
        "out": str(out),
        "warm_ups": warm_ups,
        "runs": RUNS,
    }
