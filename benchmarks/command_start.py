"""How long ``edgekit --help`` takes, from starting the process to its end."""

import statistics
import subprocess
import sys
from time import perf_counter

from benchmarks.document import at_most, median_interval, publish

RUNS = 21
# The interpreter alone is timed between: what is ours is the difference.
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "edgekit --help": [sys.executable, "-m", "edgekit", "--help"],
    "edgekit deploy --help": [sys.executable, "-m", "edgekit", "deploy", "--help"],
}
LIMIT_S = 0.5


def main() -> None:
    """Times the commands in turn and publishes the document."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(RUNS + 1):
        for name, command in COMMANDS.items():
            start = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            # The first round fills the disk cache and is not counted.
            if run:
                times[name].append(perf_counter() - start)
    rows = [
        {"command": name, "median_s": statistics.median(spent), "interval_s": median_interval(spent)}
        for name, spent in times.items()
    ]
    publish("command_start", rows, [at_most("edgekit --help (s)", rows[1]["median_s"], LIMIT_S)])


if __name__ == "__main__":
    main()
