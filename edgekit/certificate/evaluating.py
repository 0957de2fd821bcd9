"""Evaluating a bundle at one place: on as many examples as there is time for, each call kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from edgekit.evaluation import Evaluation
from edgekit.progress import Progress
from edgekit.recipe import Arrays, Run

__all__ = ["FirstCalls", "Observed", "Plan", "examples_in", "kept_at", "observe", "plan_for"]

SEED = 0
# Below this an interval says next to nothing; so many are evaluated however slow the place is.
FEWEST = 30
# Outputs that are compared one by one; the metric takes all examples.
MOST_COMPARED = 256


class Plan(msgspec.Struct, frozen=True):
    """How many examples are evaluated at a place; kept, since a run that is taken up again finds its first calls for nothing."""

    examples: int


@dataclass
class FirstCalls:
    """Passes feeds on to a model and keeps the first call of each example.

    Later calls of a streaming or autoregressive use depend on what the model gave before, so that only first ones can be compared.

    Attributes:
        run: The model.
        feeds: What the first calls were given.
        outputs: What they gave.
    """

    run: Run
    feeds: list[Arrays] = field(default_factory=list)
    outputs: list[Arrays] = field(default_factory=list)
    is_first: bool = True

    def __call__(self, feed: Arrays) -> Arrays:
        """Runs the model."""
        outputs = self.run(feed)
        if self.is_first and len(self.feeds) < MOST_COMPARED:
            self.feeds.append({name: np.array(array) for name, array in feed.items()})
            self.outputs.append({name: np.array(array) for name, array in outputs.items()})
        self.is_first = False
        return outputs

    def next_example(self) -> None:
        """The next call is the first of its example."""
        self.is_first = True


@dataclass(frozen=True)
class Observed:
    """What a model did at a place.

    Attributes:
        indices: Examples, in the order in which they were evaluated; empty without a recipe.
        predictions: One for each.
        feeds: First calls: what they were given.
        outputs: First calls: what they gave.
    """

    indices: Sequence[int]
    predictions: Sequence[Any]
    feeds: Sequence[Arrays]
    outputs: Sequence[Arrays]


def examples_in(evaluation: Evaluation) -> list[int]:
    """All examples in the order in which places take them: drawn at random once, so that fewer are a fair sample of more."""
    return [int(index) for index in np.random.default_rng(SEED).permutation(len(evaluation))]


def plan_for(path: Path, evaluation: Evaluation, run: Run, budget_s: float) -> Plan:
    """How many examples fit into a time, by what one takes there; kept in a file.

    Args:
        path: The file.
        evaluation: The examples.
        run: The model there.
        budget_s: Seconds.
    """
    known = _read_plan(path)
    if known is not None:
        return known
    order = examples_in(evaluation)
    spent = []
    for index in order[:3]:
        start = perf_counter()
        evaluation.predict(run, [index])
        spent.append(perf_counter() - start)
    # The first finds cold caches, or the code that an emulator has yet to translate.
    slowest = max(spent[1:] or spent)
    plan = Plan(min(len(order), max(FEWEST, int(budget_s / max(slowest, 1e-9)))))
    aside = path.with_suffix(".tmp")
    aside.write_bytes(msgspec.json.encode(plan))
    aside.replace(path)
    return plan


def _read_plan(path: Path) -> Plan | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None  # there is none yet, or a killed run left half of one


def observe(
    run: Run, evaluation: Evaluation | None, indices: Sequence[int], golden: Sequence[Arrays], progress: Progress
) -> Observed:
    """Runs a model on examples of the recipe, or on a bundle's golden inputs where there is none.

    Args:
        run: The model.
        evaluation: The recipe's; ``None`` for golden inputs.
        indices: Which examples.
        golden: The golden inputs.
        progress: Told how many are done.
    """
    if evaluation is None:
        outputs = []
        for done, feed in enumerate(golden, start=1):
            outputs.append(run(feed))
            progress.advance(done, len(golden))
        return Observed([], [], list(golden), outputs)
    first = FirstCalls(run)

    def on_example(done: int, total: int) -> None:
        first.next_example()
        progress.advance(done, total)

    predictions = evaluation.predict(first, indices, on_example)
    return Observed(list(indices), predictions, first.feeds, first.outputs)


def kept_at(folder: Path, *what: object) -> Path:
    """The file for outputs of one model at one place, by everything that they depend on."""
    return folder / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:32]}.kept"
