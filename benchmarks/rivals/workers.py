"""Processes that hold one contestant's model open each, and answer one question at a time."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from benchmarks.rivals.environments import BUILD, ROOT
from benchmarks.rivals.material import read_feeds
from benchmarks.rivals.models import Contestant, environment_of, serving
from edgekit.recipe import Arrays

__all__ = ["Worker", "WorkerError"]

LIMIT_S = 300.0


class WorkerError(Exception):
    """A worker failed or died; the message is what a row of the table says."""


class Worker:
    """A process that serves one contestant's model of one network.

    It begins to open the model at once; `ready` waits for it.

    Args:
        contestant: Which.
        network: Of which network.
        material: The network's folder.
    """

    def __init__(self, contestant: Contestant, network: str, material: Path) -> None:
        self.contestant = contestant
        folder = BUILD / contestant.peer / "outputs" / network
        folder.mkdir(parents=True, exist_ok=True)
        self._outputs = folder / contestant.way
        self._log = folder / f"{contestant.way}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                serving(contestant, "serve", material, contestant.file(network)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment_of(),
            )
        self._answers: Queue[str] = Queue()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ready(self) -> None:
        """Waits until the model is open.

        Raises:
            WorkerError: It cannot be opened.
        """
        self._answer()

    def run(self) -> list[Arrays]:
        """Outputs on the evaluation feeds.

        Raises:
            WorkerError: The model does not run.
        """
        self._ask({"do": "run", "out": str(self._outputs)})
        return read_feeds(self._outputs)

    def time(self, calls: int) -> list[float]:
        """Milliseconds of each of `calls` calls on the first evaluation feed.

        Raises:
            WorkerError: The model does not run.
        """
        return [float(spent) for spent in self._ask({"do": "time", "calls": calls})["ms"]]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was not read any more
                pipe.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError(f"the process ended with {self._process.wait()}") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=LIMIT_S)
        except Empty as error:
            raise WorkerError(f"no answer after {LIMIT_S:.0f} s") from error
        if not line:
            raise WorkerError(f"the process ended with {self._process.wait()}; its log is {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _listen(self) -> None:
        """Puts lines where they can be waited for with a limit; an empty one is the end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")
