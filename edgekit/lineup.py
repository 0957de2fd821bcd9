"""The lineup: candidates on their way to the verdict, with what is known of each so far."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edgekit.building import Built
from edgekit.deployment import ErrorHistogram
from edgekit.labs.host import HostLab
from edgekit.verdict import Left, Tried
from edgekit_runtime.errors import EdgekitError, OutputError
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.model import Model

__all__ = ["FLOAT", "Lineup"]

FLOAT = "float32"
# Models that are open at once: what is timed together, and no more.
MOST_OPEN = 8


@dataclass
class Lineup:
    """All candidates, float32 first, in the order in which they are tried.

    Attributes:
        lab: Opens them.
        built: What was built, by name.
        figures: Measurements so far, by name.
        examples: Evaluation examples behind each metric.
        errors: Distributions of output errors, by name.
        notes: What a user should know of a candidate, by name.
        failures: Why candidates failed, by name.
        left: Why the search left candidates that did not fail, by name.
        stages: The stage in which each entered.
    """

    lab: HostLab
    built: dict[str, Built] = field(default_factory=dict)
    figures: dict[str, Measurement] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    errors: dict[str, list[ErrorHistogram]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    _open: dict[str, Model] = field(default_factory=dict)

    def add(self, built: Built, stage: str = "") -> None:
        """Takes in one candidate, of which nothing is measured yet."""
        self.built[built.name] = built
        self.figures[built.name] = Measurement()
        self.notes[built.name] = list(built.notes)
        self.stages[built.name] = stage

    def model(self, name: str) -> Model:
        """An open candidate; the one that was used least recently is closed where there are many.

        Raises:
            EdgekitError: It cannot be opened.
        """
        built = self.built[name]
        model = self._open.pop(name, None)
        if model is None:
            assert built.path is not None  # what was not built has failed, and is not asked for
            model = self.lab.open(built.path, built.candidate.provider, built.candidate.session)
        self._open[name] = model
        while len(self._open) > MOST_OPEN:
            self._open.pop(next(iter(self._open)))
        return model

    def close_all(self) -> None:
        """Closes what is open: threads of models that wait would take cores from those that are timed."""
        self._open.clear()

    def update(self, name: str, **figures: Any) -> None:
        """Adds figures of one candidate."""
        self.figures[name] = msgspec.structs.replace(self.figures[name], **figures)

    def fail(self, name: str, reason: str) -> None:
        """Takes a candidate out of the running."""
        self.failures[name] = reason
        self._open.pop(name, None)

    @contextmanager
    def attempt(self, name: str, what: str) -> Iterator[None]:
        """Runs a step of one candidate; whatever it raises is its failure and nobody else's.

        A full disk, the user's Ctrl-C and the like are not: they would meet every other candidate too.
        """
        try:
            yield
        except (OSError, OutputError):
            raise
        except EdgekitError as error:
            self.fail(name, str(error))
        except Exception as error:  # noqa: BLE001 - onnxruntime and providers raise anything; one candidate must not end the work
            self.fail(name, f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")

    @property
    def others(self) -> Sequence[str]:
        """Names of all but float32."""
        return [name for name in self.built if name != FLOAT]

    @property
    def alive(self) -> Sequence[str]:
        """Names of all but float32 that did not fail."""
        return [name for name in self.others if name not in self.failures]

    def tried(self, name: str) -> Tried:
        """One candidate as the verdict takes it."""
        return Tried(
            name,
            self.built[name].kind,
            self.figures[name],
            self.examples.get(name, 0),
            self.failures.get(name),
            self.left.get(name),
        )
