"""What the stages of a search share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgekit.evaluation import Evaluation, Reference
from edgekit.labs.host import HostLab
from edgekit.lineup import Lineup
from edgekit.progress import Progress
from edgekit.recipe import Arrays, Recipe
from edgekit.search.ledger import Ledger
from edgekit.source import Source
from edgekit.target import Measured, Target
from edgekit.verdict import Optimize
from edgekit_runtime.errors import EdgekitError, OutputError

if TYPE_CHECKING:
    from edgekit_export import Statistics

__all__ = ["SearchState", "Wish"]

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What the user asked for.

    Attributes:
        target: Where it will run.
        measured: How that can be measured here.
        max_drop: What the metric may lose.
        asked: What to gain.
        out: Where the bundle goes.
        pick: A candidate to take whatever the others do.
        budget_s: Seconds that the search may take; what was begun is finished.
        seed: Seed of the order within timing rounds.
        board: The emulated board that counts instructions, where the target is one and cannot be timed here.
    """

    target: Target
    measured: Measured
    max_drop: float
    asked: Optimize
    out: Path
    pick: str | None = None
    budget_s: float = 150.0
    seed: int = 0
    board: str | None = None

    @property
    def timed(self) -> bool:
        """Whether latency can be measured here."""
        return self.measured == "real"

    @property
    def optimize(self) -> Optimize:
        """What to gain: where no time can be measured, instructions stand for it if they can be counted, or else size."""
        if self.timed or self.asked == "size":
            return self.asked
        return "instructions" if self.board is not None and self.asked == "latency" else "size"


@dataclass
class SearchState:
    """A search under way.

    Attributes:
        recipe: The recipe.
        source: Its graph.
        wish: What the user asked for.
        lab: Where candidates are measured.
        ledger: What was measured so far, and the clock.
        lineup: The candidates.
        evaluation: Examples and metric; ``None`` where the recipe has none.
        statistics: What calibration saw; ``None`` without calibration data.
        sample: The first calibration feeds.
        progress: Where to say what is going on.
        feeds: What outputs are compared on.
        outputs: The float model's outputs on them.
        evaluated: Digest of the evaluation.
        reference: The float model's predictions on all examples, once they were needed.
        probe: Those on some of the examples, which candidates must pass first.
        evaluation_s: How long evaluating the float model took.
        seen: What tells candidates in the lineup from each other, whatever they are called.
    """

    recipe: Recipe
    source: Source
    wish: Wish
    lab: HostLab
    ledger: Ledger
    lineup: Lineup
    evaluation: Evaluation | None
    statistics: "Statistics | None"
    sample: Sequence[Arrays]
    progress: Progress
    feeds: list[Arrays] = field(default_factory=list)
    outputs: list[Arrays] = field(default_factory=list)
    evaluated: str = ""
    reference: Reference | None = None
    probe: Reference | None = None
    evaluation_s: float = 0.0
    seen: list[object] = field(default_factory=list)

    def try_extra(self, name: str, what: str, work: Callable[[], T], otherwise: T) -> T:
        """What `work` gives; where it fails, `otherwise`, and a note of the candidate says so.

        For what a deployment can do without: libraries raise anything on a graph they do not know, and a verdict needs none of it.
        A full disk, the user's Ctrl-C and the like are raised all the same.
        """
        try:
            return work()
        except (OSError, OutputError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - see above
            reason = str(error) if isinstance(error, EdgekitError) else f"{type(error).__name__}: {error}"
            self.lineup.notes[name].append(f"{what} did not work: {' '.join(reason.split())[:300]}")
            return otherwise

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left, by the ledger's clock."""
        return self.wish.budget_s - self.ledger.spent_s
