"""A study: one switchable graph, some examples, and what any choice of quantized nodes does to them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from edgekit.evaluation import Evaluation
from edgekit.recipe import Arrays
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import EvaluationError

if TYPE_CHECKING:
    from edgekit_export.sensitivity import Switchable

__all__ = ["Examples", "Score", "Study"]

# Feeds that are run together: enough that the switches cost little beside the kernels, few enough for a small machine's memory.
MOST_BATCH = 64
MOST_BATCH_BYTES = 8_000_000
# Rows are computed by other kernels in a batch than alone; they agree to float's rounding, or the first axis is no batch.
LEAST_BATCH_SQNR_DB = 60.0


@dataclass(frozen=True)
class Score:
    """What a choice of nodes does.

    Attributes:
        sqnr_db: Of all outputs together against float's; infinite where they are equal.
        metric: The recipe's metric on the examples; ``None`` where there is none.
    """

    sqnr_db: float
    metric: float | None = None


@dataclass
class Examples:
    """What a study measures on.

    Attributes:
        feeds: Inputs of the graph.
        outputs: The float graph's outputs on them.
        indices: Of the evaluation's examples, those whose runs are all among the feeds, in order; the metric is theirs.
    """

    feeds: list[Arrays] = field(default_factory=list)
    outputs: list[Arrays] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)

    def add(self, feed: Arrays, outputs: Arrays) -> None:
        """Keeps copies."""
        self.feeds.append({name: np.array(array) for name, array in feed.items()})
        self.outputs.append(outputs)

    @property
    def size_bytes(self) -> int:
        """Of all that is kept."""
        return sum(array.nbytes for arrays in (*self.feeds, *self.outputs) for array in arrays.values())


class Study:
    """Measures choices of nodes on fixed examples; a choice is measured once.

    Args:
        switchable: The graph.
        examples: Feeds with the float graph's outputs.
        evaluation: The metric, where `examples` has whole examples of it.

    Attributes:
        switchable: The graph.
        examples: What is measured on.
        failure: Why the metric could not be computed for some choice; ``None`` where it always could.
    """

    def __init__(self, switchable: "Switchable", examples: Examples, evaluation: Evaluation | None = None) -> None:
        self.switchable = switchable
        self.examples = examples
        self.failure: str | None = None
        self._evaluation = evaluation if examples.indices else None
        self._batches = _batches(examples.feeds, _batchable(switchable))
        self._keys = [_key(feed) for feed in examples.feeds]
        self._scores: dict[frozenset[str], Score] = {}
        if any(len(batch) > 1 for batch in self._batches):
            batched = difference(self._outputs(()), examples.outputs)
            if batched.sqnr_db < LEAST_BATCH_SQNR_DB:
                self._batches = [[index] for index in range(len(examples.feeds))]

    def measure(self, on: Collection[str]) -> Score:
        """What quantizing just the nodes `on` does.

        Raises:
            SessionError: onnxruntime failed.
        """
        # Sparing an Add between quantized nodes, say, changes nothing: what they round of it stays rounded.
        closed = self.switchable.closed_by(on)
        if closed not in self._scores:
            outputs = self._outputs(on) if closed else self.examples.outputs
            found = difference(outputs, self.examples.outputs).sqnr_db
            self._scores[closed] = Score(found, self._metric(on, outputs))
        return self._scores[closed]

    def layers(self) -> dict[str, float]:
        """SQNR in dB of each tensor that the scheme rounds, all of it quantized, as its readers see it; on the first batch."""
        observed = self.switchable.observed()
        feed = _joined([self.examples.feeds[index] for index in self._batches[0]])
        names = list(observed.tensors)
        floats, rounded = (observed.run(feed, on, names) for on in ((), observed.nodes))
        return {name: difference([{name: rounded[name]}], [{name: floats[name]}]).sqnr_db for name in names}

    def _outputs(self, on: Collection[str]) -> list[Arrays]:
        outputs: list[Arrays] = []
        for batch in self._batches:
            feeds = [self.examples.feeds[index] for index in batch]
            outputs += _split(self.switchable.run(_joined(feeds), on), feeds)
        return outputs

    def _metric(self, on: Collection[str], outputs: Sequence[Arrays]) -> float | None:
        """The metric, with the outputs that are known; a feed that depends on earlier outputs is run by itself."""
        if self._evaluation is None:
            return None
        known = dict(zip(self._keys, outputs, strict=True))

        def run(feed: Arrays) -> Arrays:
            return known.get(_key(feed)) or self.switchable.run(feed, on)

        try:
            predictions = self._evaluation.predict(run, self.examples.indices)
            return self._evaluation.metric(predictions, self.examples.indices)
        except EvaluationError as error:  # a correlation of two examples, or of broken outputs, may not exist
            self.failure = self.failure or str(error)
            return None


def _batchable(switchable: "Switchable") -> bool:
    """Whether every input and output has a free first axis, all of one name."""
    axes = {spec.shape[0] if spec.shape else 1 for spec in (*switchable.inputs, *switchable.outputs)}
    return len(axes) == 1 and all(isinstance(axis, str) for axis in axes)


def _batches(feeds: Sequence[Arrays], batchable: bool) -> list[list[int]]:
    """Runs of feeds that agree but for their first axis, by index, each within the limits."""
    batches: list[list[int]] = []
    last, room = None, 0.0
    for index, feed in enumerate(feeds):
        kind = {name: (array.dtype, array.shape[1:]) for name, array in feed.items()}
        size = sum(array.nbytes for array in feed.values())
        if batchable and kind == last and size <= room and len(batches[-1]) < MOST_BATCH:
            batches[-1].append(index)
            room -= size
        else:
            batches.append([index])
            last, room = kind, MOST_BATCH_BYTES - size
    return batches


def _joined(feeds: Sequence[Arrays]) -> Arrays:
    return feeds[0] if len(feeds) == 1 else {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _split(outputs: Arrays, feeds: Sequence[Arrays]) -> list[Arrays]:
    """The rows of each feed."""
    if len(feeds) == 1:
        return [outputs]
    ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
    parts = {name: np.split(array, ends) for name, array in outputs.items()}
    return [{name: parts[name][index] for name in outputs} for index in range(len(feeds))]


def _key(feed: Arrays) -> bytes:
    """The same for equal feeds, and no others."""
    digest = blake2b()
    for name, array in sorted(feed.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
