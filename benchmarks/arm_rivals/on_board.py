"""Runs on a board: opens a peer's models one after the other, keeps their outputs, and marks calls for the counting plugin.

``python -m benchmarks.arm_rivals.on_board PEER JOB ANSWER``. JOB is a list of JSON objects, a model each::

    {"file": "…/int8.tflite", "material": FOLDER, "feeds": 4, "out": FOLDER, "warm_ups": 2, "runs": 6}

and ANSWER gets a list of the tags that begin each model's marked calls. What is marked is the peer's own Python call on the first
feed, with its inputs ready as the peer wants them.
"""

import contextlib
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.serving import MODULES, Material

__all__ = ["PEERS", "main"]

# As in the runtime's worker: no descriptor has this number, so that the call fails, and the plugin sees it.
MARK = -7701
PEERS = {
    **{peer: f"benchmarks.rivals.{module}" for peer, module in MODULES.items()},
    "ncnn": "benchmarks.arm_rivals.ncnn_from_torch",
}


def _mark(tag: int) -> None:
    with contextlib.suppress(OSError):
        os.lseek(MARK, tag, os.SEEK_SET)


def _marked(peer: str, asked: dict[str, Any], tag: int) -> list[int]:
    """Opens one model, runs its feeds, and marks calls from `tag` on; gives the tags that begin them."""
    material = Material(Path(asked["material"]))
    opened = import_module(PEERS[peer]).open_model(Path(asked["file"]), material)
    feeds, out = material.evaluation[: asked["feeds"]], Path(asked["out"])
    out.mkdir(parents=True, exist_ok=True)
    for index, feed in enumerate(feeds):
        np.savez(out / f"{index:03}.npz", **opened.run(feed))
    call = opened.bind(feeds[0])
    for _ in range(asked["warm_ups"]):
        call()
    tags = [tag + 2 * run for run in range(asked["runs"])]
    for begin in tags:
        _mark(begin)
        call()
        _mark(begin + 1)
    return tags


def main() -> None:
    """Does the job; a failure is this process's."""
    peer, job, answer = sys.argv[1:]
    tags: list[list[int]] = []
    for asked in json.loads(Path(job).read_text(encoding="utf-8")):
        tags.append(_marked(peer, asked, 2 * sum(map(len, tags))))
    Path(answer).write_text(json.dumps(tags), encoding="utf-8")


if __name__ == "__main__":
    main()
