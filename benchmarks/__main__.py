"""``python -m benchmarks``: runs every benchmark, one after the other, and gathers the documents in benchmarks/results/."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
NOT_BENCHMARKS = {"__init__", "__main__", "document", "ten_networks"}


def main() -> int:
    """Runs them all; the exit status is the number of those that crashed. Falling short is a finding, not a crash."""
    RESULTS.mkdir(exist_ok=True)
    crashed = 0
    for file in sorted(HERE.glob("*.py")):
        if file.stem in NOT_BENCHMARKS:
            continue
        print(f"== {file.stem}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{file.stem}"], stdout=subprocess.PIPE, text=True, check=False, cwd=HERE.parent
        )
        print(done.stdout, flush=True)
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines:
            print(f"{file.stem} ended with {done.returncode}", flush=True)
            crashed += 1
            continue
        aside = RESULTS / f".{file.stem}.json"
        aside.write_text(json.dumps(json.loads(lines[-1]), indent=2) + "\n")
        aside.replace(RESULTS / f"{file.stem}.json")
    return crashed


if __name__ == "__main__":
    sys.exit(main())
