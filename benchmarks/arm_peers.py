"""Instructions a call on emulated boards: edgekit's choice against LiteRT and ncnn, with the SQNR of each beside it.

``python -m benchmarks.arm_peers`` sets up the lab of emulated boards, fetches the peers' own aarch64 wheels into
``build/arm_peers``, and counts the example and EfficientNet-Lite0 on a Raspberry Pi 4 and a Raspberry Pi 5. LiteRT opens the
files that `benchmarks.peers` builds with its converter and quantizer; ncnn those that pnnx makes of the traced module; edgekit
the bundles that ``edgekit deploy --target BOARD`` chose (kept in ``build/arm``); onnxruntime the float graph as it was exported.

Counted is each peer's own Python call with its inputs ready, with one thread, as the median of six; ``call_million`` is what the
same call costs on a network that does nothing. SQNR is of outputs computed on the board against onnxruntime's float32 on this
machine. A rival counts where its SQNR is ours or better.

ncnn's int8 is missing: ncnn2table and ncnn2int8, which make it, are in none of its wheels. A count is no time: it knows nothing
of how many instructions a core starts at once, of what each takes, or of memory.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.arm_rivals.comparing import Result, bars, calls, rows
from benchmarks.arm_rivals.counting import Model, count_calls
from benchmarks.arm_rivals.entries import MissingModelError, entries, model_file
from benchmarks.arm_rivals.nothing import NOTHING, write_nothing
from benchmarks.arm_rivals.sites import BUILD
from benchmarks.document import publish
from benchmarks.rivals.material import EVALUATION, write_material
from edgekit.labs.emulated.boards import Board, load_board
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.setup import set_up
from edgekit.progress import PlainProgress
from edgekit_runtime.errors import EdgekitError

__all__ = ["main"]

BOARDS = ("raspberry-pi-4", "raspberry-pi-5")
SHOWN = ("fashion", "efficientnet-lite0")
START = perf_counter()


def tell(what: str) -> None:
    """One line on standard error."""
    print(f"arm_peers {perf_counter() - START:5.0f} s: {what}", file=sys.stderr, flush=True)


def counted(lab: Lab, board: Board, network: str, material: Path, feeds: int) -> Iterator[Result]:
    """Everybody's result on one board and network; what fails says why."""
    nothing = write_nothing(BUILD / "material" / NOTHING)
    for entry in entries(board):
        tell(f"{board.name}: {network}: {entry.who} {entry.way}")
        scheme = entry.way
        try:
            file = model_file(entry, network, material)
            scheme = entry.scheme(file)
            empty = Model(model_file(entry, NOTHING, nothing), nothing)
            seen = count_calls(lab, entry, Model(file, material), empty, feeds)
        except (MissingModelError, EdgekitError) as error:
            tell(str(error))
            yield Result(board.name, network, entry.who, scheme, failure=str(error))
        else:
            tell(f"  {scheme}: {seen.counts.instructions / 1e6:.2f} million instructions, {seen.sqnr_db:.1f} dB")
            yield Result(board.name, network, entry.who, scheme, seen)


def main() -> None:
    """Sets up, counts, and publishes what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boards", nargs="+", choices=BOARDS, default=list(BOARDS))
    parser.add_argument("--networks", nargs="+", choices=SHOWN, default=list(SHOWN))
    parser.add_argument("--feeds", type=int, default=4, help=f"feeds to compare outputs on, at most {EVALUATION}")
    arguments = parser.parse_args()
    lab = Lab(lab_folder())
    try:
        set_up(lab, PlainProgress())
    except EdgekitError as error:
        raise SystemExit(f"arm_peers: {error}") from error
    groups = [
        list(counted(lab, load_board(board), network, write_material(network), arguments.feeds))
        for board in arguments.boards
        for network in arguments.networks
    ]
    table = [row for results in groups for row in rows(results)]
    publish("arm_peers", [*table, *calls([one for results in groups for one in results])], bars(groups))


if __name__ == "__main__":
    main()
