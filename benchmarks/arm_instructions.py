"""Instructions per inference on emulated boards: that counts repeat, and that they show which instructions a processor has.

The example network in float and in two int8 schemes, on a Raspberry Pi 4, which has no integer dot products, and a Raspberry Pi 5,
which has. Each board is started three times, and each time every model is counted as the median of six runs. Then five networks as
``edgekit deploy`` ships them to both boards, against float and onnxruntime's own quantizers: see ``arm_against_naive``.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import msgspec

import edgekit
from benchmarks.arm_against_naive import COMPARED, against_naive
from benchmarks.document import Bar, at_least, at_most, publish
from benchmarks.ten_networks import NETWORKS, ROOT
from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.counts import Counts, start_counter
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.setup import set_up
from edgekit.progress import PlainProgress
from edgekit.recipe_file import load_recipe

__all__ = ["main"]

BOARDS = ("raspberry-pi-4", "raspberry-pi-5")
INTEGER = "static-s8s8-minmax-everything"
SCHEMES = (INTEGER, "dynamic-u8s8")
STARTS = 3
MOST_SPREAD = 0.002
START = perf_counter()


def tell(what: str) -> None:
    """One line on standard error."""
    print(f"arm_instructions {perf_counter() - START:5.0f} s: {what}", file=sys.stderr, flush=True)


def build(recipe: Path, folder: Path) -> dict[str, Path]:
    """Model files by scheme, float first."""
    models = {"float32": folder / "float32.onnx"}
    edgekit.export(recipe, out=models["float32"])
    for scheme in SCHEMES:
        models[scheme] = folder / f"{scheme}.onnx"
        edgekit.quantize(recipe, scheme=scheme, out=models[scheme])
    return models


def repeated(board: str, models: dict[str, Path], feed: dict[str, Any], starts: int) -> dict[str, list[Counts]]:
    """Counts of each model in as many emulators, one after the other."""
    found: dict[str, list[Counts]] = {name: [] for name in models}
    for start in range(starts):
        tell(f"{board}: start {start + 1} of {starts}")
        with start_counter(load_board(board), caches=True) as counter:
            for name, path in models.items():
                found[name].append(counter.count(path, feed))
    return found


def spread(counts: list[Counts]) -> float:
    """Most minus fewest instructions of the starts, over the fewest."""
    figures = [one.instructions for one in counts]
    return (max(figures) - min(figures)) / min(figures)


def row(network: str, model: str, counts: list[Counts]) -> dict[str, Any]:
    """One model on one board: counts of the first start, and how the others differ."""
    first = counts[0]
    return {
        "network": network,
        "board": first.board,
        "model": model,
        "instructions": first.instructions,
        "spread_of_starts": spread(counts),
        "spread_of_runs": max(one.spread for one in counts),
        **msgspec.to_builtins(first.mix),
        **{f"modelled_{name}": value for name, value in msgspec.to_builtins(first.caches).items()},
    }


def main() -> None:
    """Counts, and publishes what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--networks", nargs="*", choices=COMPARED, default=list(COMPARED), help="those to compare with naive ones")
    arguments = parser.parse_args()
    network = "fashion"
    recipe = ROOT / NETWORKS[network]
    set_up(Lab(lab_folder()), PlainProgress())
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    with TemporaryDirectory(prefix="edgekit-") as name:
        tell("build the models")
        models = build(recipe, Path(name))
        example = load_recipe(recipe).example
        feed = example() if example else {}
        found = {board: repeated(board, models, feed, arguments.starts) for board in BOARDS}
    rows += [row(network, model, counts) for kinds in found.values() for model, counts in kinds.items()]
    widest = max(spread(counts) for kinds in found.values() for counts in kinds.values())
    bars += [
        at_most(f"{network}: spread of instructions over {arguments.starts} starts", widest, MOST_SPREAD),
        at_least(f"{network}, {INTEGER}: dot products on a Raspberry Pi 5", dots(found["raspberry-pi-5"][INTEGER]), 1),
        at_most(f"{network}, {INTEGER}: dot products on a Raspberry Pi 4", dots(found["raspberry-pi-4"][INTEGER]), 0),
    ]
    for network in arguments.networks:
        tell(f"{network}: deploy, and count it beside naive ones")
        more, judged = against_naive(network, BOARDS)
        rows += more
        bars += judged
    publish("arm_instructions", rows, bars)


def dots(counts: list[Counts]) -> int:
    """Integer dot products of the first start."""
    assert counts[0].mix is not None  # both boards are ARM
    return counts[0].mix.dot


if __name__ == "__main__":
    main()
