"""onnxruntime's own quantizers, called as its documentation shows, in a process of their own: they take much memory, and raise.

``python -m benchmarks.int8.naive WAY FLOAT.onnx FEEDS OUT.onnx``; FEEDS is a folder of one ``.npz`` a feed.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

__all__ = ["ARM_PER_CHANNEL", "PER_CHANNEL", "WAYS", "naive", "write_feeds"]

PER_CHANNEL = "naive-static-per-channel"
WAYS = {
    "naive-static": "quantize_static with its defaults: S8S8, per tensor",
    PER_CHANNEL: "quantize_static with per_channel=True, QDQ and U8S8, as its guide advises for x86",
    "naive-dynamic": "quantize_dynamic with its defaults",
}
# What the guide's advice comes to on ARM, where signed activations are as fast.
ARM_PER_CHANNEL = "naive-static-s8s8-per-channel"
LIMIT_S = 300
MOST_FEEDS = 128
ROOT = Path(__file__).resolve().parents[2]


def write_feeds(feeds: Iterable[Mapping[str, np.ndarray]], folder: Path) -> None:
    """One file a feed."""
    folder.mkdir()
    for index, feed in enumerate(feeds):
        np.savez(folder / f"{index:05}.npz", **feed)  # type: ignore[arg-type]


def naive(way: str, model: Path, feeds: Path, out: Path) -> str | None:
    """Quantizes `model` in one of `WAYS`, or as `ARM_PER_CHANNEL`; gives the reason where there is no result."""
    command = [sys.executable, "-m", "benchmarks.int8.naive", way, str(model), str(feeds), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"not done after {LIMIT_S} s"
    if done.returncode == 0 and out.exists():
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1][:300] if lines else f"ended with {done.returncode}"


def _quantize(way: str, model: str, feeds: Path, out: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """At most 128 of the feeds, evenly spread, one at a time."""

        def __init__(self) -> None:
            paths = sorted(feeds.glob("*.npz"))
            wanted = np.unique(np.linspace(0, len(paths) - 1, MOST_FEEDS).round().astype(int))
            self.paths = iter([paths[index] for index in wanted])

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next feed, or ``None`` at the end."""
            path = next(self.paths, None)
            if path is None:
                return None
            with np.load(path) as stored:
                return dict(stored)

    if way == "naive-dynamic":
        quantize_dynamic(model, out)
    elif way == "naive-static":
        quantize_static(model, out, Reader())
    else:
        quantize_static(
            model,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if way == ARM_PER_CHANNEL else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


if __name__ == "__main__":
    _quantize(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
