"""Building the peers' models, each in the peer's environment and in a process of its own, and keeping them."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.rivals.environments import BUILD, OURS, PEERS, ROOT, pins_of, python_of
from benchmarks.rivals.material import key_of
from benchmarks.rivals.serving import MODULES
from benchmarks.ten_networks import NETWORKS

__all__ = ["BASELINE", "DEFAULTS", "WAYS", "Contestant", "build", "contestants", "environment_of", "serving"]

LIMIT_S = 600
STARTS_FROM = {"openvino": ("onnxruntime",), "olive": ("onnxruntime",)}
"""Whose files or code a peer uses."""


@dataclass(frozen=True)
class Contestant:
    """One way of one peer.

    Attributes:
        peer: Whose environment it runs in.
        way: Which of the peer's ways.
        suffix: Of its model file.
        about: What it is, in words.
    """

    peer: str
    way: str
    suffix: str
    about: str

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.peer}/{self.way}"

    def file(self, network: str) -> Path:
        """Where its model of a network lies."""
        return BUILD / self.peer / "models" / network / f"{self.way}{self.suffix}"


def contestants(peers: Collection[str]) -> list[Contestant]:
    """All ways of some peers; onnxruntime's come before those that start from its files."""
    found = []
    for peer in (OURS, *PEERS):
        if peer in peers:
            ways, suffix = WAYS[peer]
            found += [Contestant(peer, way, suffix, about) for way, about in ways.items()]
    return found


def build(contestant: Contestant, network: str, material: Path, *, again: bool = False, ours: Path | None = None) -> str | None:
    """Builds a contestant's model of a network where it is not there yet; gives the reason where there is none.

    Reasons are kept, too: what failed is not tried again until the pins, the peer's file or the material change.

    Args:
        contestant: Which.
        network: Its network.
        material: The folder that `write_material` gave.
        again: Build even what is there.
        ours: A folder of ``NETWORK.edge`` to take instead of deploying, for edgekit's own.
    """
    file = contestant.file(network)
    if contestant.peer == OURS and ours is not None:
        given = ours / f"{network}.edge"
        if not given.is_dir():
            return f"there is no {given.name} in the folder that was given"
        shutil.rmtree(file, ignore_errors=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(given, file)
        return None
    stamp = file.with_name(f"{contestant.way}.json")
    key = _key(contestant, network)
    if not again and stamp.exists():
        kept = json.loads(stamp.read_text(encoding="utf-8"))
        if kept["key"] == key and (kept["failure"] is not None or file.exists()):
            failure: str | None = kept["failure"]
            return failure
    file.parent.mkdir(parents=True, exist_ok=True)
    if contestant.peer == OURS:
        failure = _deploy(contestant, network, file)
    else:
        if file.exists():
            file.unlink()
        failure = _run(serving(contestant, "build", material, file), file)
    aside = stamp.with_suffix(".aside")
    aside.write_text(json.dumps({"key": key, "failure": failure}), encoding="utf-8")
    aside.replace(stamp)
    return failure


def serving(contestant: Contestant, verb: str, material: Path, file: Path) -> list[str]:
    """The command line of `serving.py` in the peer's environment."""
    python = str(python_of(contestant.peer))
    return [python, "-m", "benchmarks.rivals.serving", contestant.peer, verb, contestant.way, str(material), str(file)]


def environment_of() -> dict[str, str]:
    """Variables of the peers' processes: one thread, and no talking to the outside."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **threads, **quiet, "PYTHONPATH": str(ROOT)}


def _deploy(contestant: Contestant, network: str, file: Path) -> str | None:
    """Deploys a network here; with the CPU provider alone for the built-in target that this machine is like."""
    from edgekit_runtime.machine import machine

    alone = "cpu-x64" if "vnni" in machine().isa else "cpu-x64-avx2"
    target = "host" if contestant.way == "host" else alone
    recipe = str(ROOT / NETWORKS[network])
    shutil.rmtree(file, ignore_errors=True)
    return _run([sys.executable, "-m", "edgekit", "deploy", recipe, "--target", target, "--out", str(file)], file)


def _run(command: list[str], file: Path) -> str | None:
    """Runs a command that writes a file; gives its last words where there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LIMIT_S, env=environment_of())
    except subprocess.TimeoutExpired:
        return f"not built after {LIMIT_S} s"
    if done.returncode == 0 and file.exists():
        return None
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"error"'):
            return str(json.loads(line)["error"])
    lines = done.stderr.strip().splitlines()
    return lines[-1][:300] if lines and done.returncode >= 0 else f"the process ended with {done.returncode}"


def _key(contestant: Contestant, network: str) -> str:
    """What a model is made from: the network, and the pins and the file of the peer and of those that it starts from."""
    parts = [key_of(network).encode()]
    for peer in (contestant.peer, *STARTS_FROM.get(contestant.peer, ())):
        if peer != OURS:
            module = Path(__file__).with_name(f"{MODULES[peer]}.py")
            code = ast.dump(ast.parse(module.read_bytes()))  # comments and layout make no other model
            parts += [pins_of(peer).read_bytes(), code.encode()]
    return sha256(b"\n".join(parts)).hexdigest()


def _ways() -> dict[str, tuple[dict[str, str], str]]:
    """Each peer's ways and the suffix of its files. The peers' own files import their libraries only inside functions."""
    from importlib import import_module

    found = {}
    for peer, module in MODULES.items():
        loaded = import_module(f"benchmarks.rivals.{module}")
        found[peer] = (dict(loaded.WAYS), str(loaded.SUFFIX))
    return found


WAYS = _ways()
BASELINE = "onnxruntime/float32"
DEFAULTS = "onnxruntime/defaults"
