"""Whether the lab works: the emulated Python imports what a worker needs, in the pinned versions."""

import json
import subprocess

from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.launch import launch
from edgekit.labs.emulated.pins import pins
from edgekit_runtime.errors import LabError
from edgekit_runtime.fresh_process import exit_name

__all__ = ["try_out"]

BOARD = "raspberry-pi-4"
TIMEOUT_S = 120.0
SCRIPT = """
import json, platform, numpy, onnxruntime, msgspec
import edgekit_runtime.worker
versions = {module.__name__: module.__version__ for module in (numpy, onnxruntime, msgspec)}
print(json.dumps({"machine": platform.machine(), **versions}))
"""


def try_out(lab: Lab) -> None:
    """Starts the emulated Python once, which also compiles its modules for later.

    Raises:
        LabError: It does not start, or has other versions than the pinned ones.
    """
    start = launch(lab, load_board(BOARD), ["-c", SCRIPT])
    try:
        done = subprocess.run(
            start.command,
            env=start.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"set up the lab: try the emulated Python out: {error}") from error
    expected = {"machine": "aarch64", **{name: wheel.version for name, wheel in pins().wheels.items()}}
    said = [line for line in (done.stderr if done.returncode else done.stdout).splitlines() if line.strip()]
    if done.returncode != 0:
        last = f": {said[-1]}" if said else ""
        raise LabError(
            f"set up the lab: the emulated Python does not import what a worker needs ({exit_name(done.returncode)}{last}); "
            "remove the lab's folder and set it up again"
        )
    if not said or json.loads(said[-1]) != expected:
        raise LabError(
            f"set up the lab: the emulated Python has {said[-1:]}, expected {expected}; remove its folder and set it up again"
        )
