"""A virtual environment for each peer, with the versions that ``pins/`` names: their requirements exclude each other."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

__all__ = ["BUILD", "OURS", "PEERS", "ROOT", "pins_of", "python_of", "set_up"]

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "peers"
PINS = Path(__file__).resolve().parent / "pins"
OURS = "edgekit"
PEERS = ("onnxruntime", "openvino", "executorch", "litert", "olive")
LIMIT_S = 1800


def pins_of(peer: str) -> Path:
    """The requirements file of a peer."""
    return PINS / f"{peer}.txt"


def python_of(peer: str) -> Path:
    """The interpreter that a peer runs in; edgekit's own for edgekit."""
    return Path(sys.executable) if peer == OURS else BUILD / peer / "env" / "bin" / "python"


def set_up(peer: str) -> str | None:
    """Makes a peer's environment where there is none of the same pins; gives the reason where it cannot be had.

    An environment that was cut off is made on: pip installs what is missing, and the stamp is written last.
    """
    if peer == OURS:
        return None
    key = sha256(pins_of(peer).read_bytes()).hexdigest()
    stamp = BUILD / peer / "pins.sha256"
    if stamp.exists() and stamp.read_text() == key and python_of(peer).exists():
        return None
    folder = BUILD / peer
    folder.mkdir(parents=True, exist_ok=True)
    install = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-cache-dir", "-r", str(pins_of(peer))]
    steps = [[str(python_of(peer)), *install]]
    if not python_of(peer).exists():
        steps.insert(0, [sys.executable, "-m", "venv", str(folder / "env")])
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"{peer} is not installed after {LIMIT_S} s"
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["?"]
            return f"{peer} does not install: {lines[0][:300]}"
    stamp.write_text(key)
    return None
