"""Runs in a peer's environment: builds one of its models, or opens one and answers what the driver asks.

``python -m benchmarks.rivals.serving PEER build WAY MATERIAL OUT`` and ``… PEER serve WAY MATERIAL FILE``. Served are lines of JSON
on standard input, each answered by one on standard output::

    {"do": "run", "out": FOLDER}   runs the evaluation feeds and writes their outputs there
    {"do": "time", "calls": 5}     {"ms": [1.9, …]}, after calls that are not counted

While it waits for a line the process sleeps. Whatever a library prints goes to standard error.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Arrays", "Material", "Opened"]

Arrays: TypeAlias = dict[str, np.ndarray]
WARM_UP_NS = 2_000_000
MODULES = {
    "edgekit": "edgekit_bundles",
    "executorch": "executorch_xnnpack",
    "litert": "litert_from_torch",
    "olive": "olive_passes",
    "onnxruntime": "onnxruntime_tools",
    "openvino": "openvino_nncf",
}


@dataclass(frozen=True)
class Opened:
    """A model that a peer has open.

    Attributes:
        run: A feed to outputs, by name.
        bind: A feed to the call that is timed on it, with whatever the peer does once per input left out: its best case.
    """

    run: Callable[[Arrays], Arrays]
    bind: Callable[[Arrays], Callable[[], object]]


@dataclass(frozen=True)
class Material:
    """A network as `material.write_material` left it."""

    folder: Path

    @property
    def onnx(self) -> Path:
        """The float graph; batch and length are free where the recipe says so."""
        return self.folder / "model.onnx"

    @property
    def calibration(self) -> list[Arrays]:
        """The feeds to calibrate with."""
        return self._read("calibration")

    @property
    def evaluation(self) -> list[Arrays]:
        """The feeds to compare outputs on."""
        return self._read("evaluation")

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in order."""
        return list(self._signature()["inputs"])

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self._signature()["outputs"])

    def module(self) -> Any:
        """The module as PyTorch exported it, with fixed shapes."""
        import torch

        return torch.export.load(self.folder / "module.pt2").module()

    def arguments(self, feed: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        """A feed as tensors, in order."""
        import torch

        return tuple(torch.from_numpy(np.array(feed[name])) for name in self.inputs)

    def _signature(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads((self.folder / "signature.json").read_text(encoding="utf-8"))
        return found

    def _read(self, kind: str) -> list[Arrays]:
        feeds = []
        for file in sorted((self.folder / kind).glob("*.npz")):
            with np.load(file, allow_pickle=False) as stored:
                feeds.append(dict(stored))
        return feeds


def _timed(call: Callable[[], object], calls: int) -> list[float]:
    """Milliseconds of each call, after a few that find cold caches."""
    start = perf_counter_ns()
    call()
    while perf_counter_ns() - start < WARM_UP_NS:
        call()
    spent = []
    for _ in range(calls):
        start = perf_counter_ns()
        call()
        spent.append((perf_counter_ns() - start) / 1e6)
    return spent


def _serve(opened: Opened, material: Material, answers: Any) -> None:
    evaluation = material.evaluation
    call = opened.bind(evaluation[0])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if asked["do"] == "time":
                answer["ms"] = _timed(call, asked["calls"])
            else:
                out = Path(asked["out"])
                out.mkdir(parents=True, exist_ok=True)
                for index, feed in enumerate(evaluation):
                    np.savez(out / f"{index:03}.npz", **opened.run(feed))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - libraries raise anything; the driver writes it into the row
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Builds or serves."""
    peer, verb, way, folder, file = sys.argv[1:]
    # Libraries print to standard output, from C too: it is kept for answers, and what they print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = import_module(f"benchmarks.rivals.{MODULES[peer]}")
    material = Material(Path(folder))
    try:
        if verb == "build":
            module.build(way, material, Path(file))
        else:
            _serve(module.open_model(Path(file), material), material, answers)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(json.dumps({"error": reason}), file=answers, flush=True)
        raise


if __name__ == "__main__":
    main()
