"""Who is compared on a board: edgekit's bundle, onnxruntime's float32, and each peer's ways, with the files that they open."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.arm_certificate import deployed
from benchmarks.arm_rivals import ncnn_from_torch
from benchmarks.arm_rivals.nothing import NOTHING, NOTHING_FEED
from benchmarks.arm_rivals.sites import BUILD, PINS, converter, site
from benchmarks.rivals import litert_from_torch
from benchmarks.rivals.environments import ROOT, pins_of, set_up
from benchmarks.rivals.material import key_of
from benchmarks.rivals.models import Contestant, build, environment_of, serving
from benchmarks.ten_networks import NETWORKS
from edgekit.labs.emulated.boards import Board
from edgekit.recipe_file import load_recipe
from edgekit_runtime.errors import LabError

__all__ = ["OURS", "RIVALS", "Entry", "MissingModelError", "entries", "model_file"]

OURS = "edgekit"
RIVALS = {"litert": "ai-edge-litert", "ncnn": "ncnn"}
"""Peers and the packages that run their models on the boards."""
LIMIT_S = 600


class MissingModelError(Exception):
    """There is no model, with the reason."""


@dataclass(frozen=True)
class Entry:
    """One way of one peer, on one board.

    Attributes:
        who: The peer.
        way: Which of its ways; ``chosen`` for edgekit's bundle.
        board: The board, which edgekit's choice depends on.
    """

    who: str
    way: str
    board: Board

    @property
    def site(self) -> Path | None:
        """Where the peer's package is; ``None`` for what the lab has itself."""
        return site(RIVALS[self.who]) if self.who in RIVALS else None

    def scheme(self, file: Path) -> str:
        """The way, as rows show it: of a bundle, the candidate that was chosen."""
        if self.who != OURS:
            return self.way
        return str(json.loads((file / "manifest.json").read_text(encoding="utf-8"))["chosen"]["name"])


def entries(board: Board) -> Iterator[Entry]:
    """Everybody, ours first; half floats only where the board computes with them."""
    yield Entry(OURS, "chosen", board)
    yield Entry("onnxruntime", "float32", board)
    for way in litert_from_torch.WAYS:
        yield Entry("litert", way, board)
    for way in ncnn_from_torch.WAYS:
        if way != "float16" or "fp16" in board.isa:
            yield Entry("ncnn", way, board)


def model_file(entry: Entry, network: str, material: Path) -> Path:
    """An entry's model of a network; built where it is not there yet.

    Raises:
        MissingModelError: It cannot be had.
    """
    if network == NOTHING and entry.who == OURS:
        return material / "model.onnx"
    if entry.who == OURS:
        return deployed(network, entry.board.name)
    if entry.who == "onnxruntime":
        return material / "model.onnx"
    if entry.who == "ncnn":
        return _converted(entry.way, network)
    return _litert(entry.way, network, material)


def _converted(way: str, network: str) -> Path:
    """The files of ncnn, from the recipe's module and example."""
    file = _folder(network) / f"{way}{ncnn_from_torch.SUFFIX}"
    if file.exists():
        return file
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    module, feed = torch.nn.ReLU(), NOTHING_FEED
    if network != NOTHING:
        recipe = load_recipe(str(ROOT / NETWORKS[network]))
        assert recipe.example is not None
        assert not isinstance(recipe.model, Path)
        module, feed = recipe.model(), recipe.example()
    try:
        ncnn_from_torch.build(way, module.eval(), feed, file, converter())
    except (LabError, ValueError, subprocess.TimeoutExpired) as error:
        raise MissingModelError(str(error)) from error
    return file


def _litert(way: str, network: str, material: Path) -> Path:
    """The file that `benchmarks.peers` compares, built by the same code; its float32 alone of nothing."""
    peer = "litert"
    if reason := set_up(peer):
        raise MissingModelError(reason)
    about, suffix = litert_from_torch.WAYS[way], litert_from_torch.SUFFIX
    if network != NOTHING:
        contestant = Contestant(peer, way, suffix, about)
        if reason := build(contestant, network, material):
            raise MissingModelError(reason)
        return contestant.file(network)
    contestant = Contestant(peer, "float32", suffix, about)
    file = _folder(network) / f"float32{suffix}"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        command = serving(contestant, "build", material, file)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LIMIT_S, env=environment_of())
        if done.returncode != 0 or not file.exists():
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise MissingModelError(f"LiteRT's converter ended with {done.returncode}: {lines[-1][:300]}")
    return file


def _folder(network: str) -> Path:
    """Where models of a network are kept that are built here; another one once the recipe or a version changes."""
    parts = ["" if network == NOTHING else key_of(network), PINS.read_text("utf-8"), pins_of("litert").read_text("utf-8")]
    return BUILD / "models" / f"{network}-{sha256(''.join(parts).encode()).hexdigest()[:16]}"
