"""The recipe: what a user writes to have a model deployed."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgekit_runtime.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Arrays", "Recipe", "Run"]

Arrays: TypeAlias = "dict[str, np.ndarray]"
"""Named arrays: a model's inputs or outputs."""

Run: TypeAlias = "Callable[[Arrays], Arrays]"
"""A model on whatever backend is being measured."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# How names of candidates begin that are not a variant's.
RESERVED = ("float32", "float16", "bfloat16", "dynamic", "static", "weights")


def run_once(run: Run, value: Any) -> Any:
    """The default ``predict``: the input is the feed, the outputs are the prediction."""
    return run(value)


@dataclass(frozen=True)
class Recipe:
    """A model with what is needed to deploy it and to judge the result.

    Args:
        name: Lower-case letters, digits and dashes; the bundle is called after it.
        model: ``() -> torch.nn.Module`` in eval mode, or the path of an ``.onnx`` file.
        example: ``() -> {name: array}``; the keys are ``forward()``'s parameters in order.
        dynamic: Axes that may vary, ``{"image": {0: "batch"}}``; axes of one name vary together; all others are fixed.
        outputs: Output names, in order. Empty: an ``.onnx`` file's own names, or ``output``, ``output_1``, ….
        calibration: ``() -> Iterable`` of feeds, streamed and never held whole.
        evaluation: ``() -> Sequence`` of ``(input, label)`` in a fixed order.
        predict: ``(run, input) -> prediction``; may call ``run`` more than once. Default: ``run(input)``.
        metric: ``(predictions, labels) -> float``, higher is better. It is recomputed on resampled examples.
        variants: Other modules for the same task, by name: ``{"qat": trained.frozen}``. Each is tried as a candidate as it is, and
            judged against ``model``.

    ``calibration``, ``evaluation`` and ``metric`` may be missing: then only what needs them is skipped, and the report
    says which claims cannot be made.

    Raises:
        RecipeError: A field has the wrong type, or a name is not allowed.
    """

    name: str
    model: Callable[[], Any] | Path
    example: Callable[[], Arrays]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    calibration: Callable[[], Iterable[Arrays]] | None = None
    evaluation: Callable[[], Sequence[tuple[Any, Any]]] | None = None
    predict: Callable[[Run, Any], Any] = run_once
    metric: Callable[[Sequence[Any], Sequence[Any]], float] | None = None
    variants: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise RecipeError(f"recipe name {self.name!r}: expected lower-case letters, digits and dashes, like 'fashion'")
        if isinstance(self.model, str):
            raise RecipeError(f"recipe {self.name!r}, model: got the string {self.model!r}; write pathlib.Path({self.model!r})")
        if not callable(self.model) and not isinstance(self.model, Path):
            raise self._wrong_type("model", "a function that returns a torch.nn.Module, or a pathlib.Path to an .onnx file")
        if not callable(self.example):
            raise self._wrong_type("example", "a function that returns {input name: numpy array}")
        for name in ("calibration", "evaluation", "metric"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise self._wrong_type(name, "a function (or to be left out)")
        if not callable(self.predict):
            raise self._wrong_type("predict", "a function (run, input) -> prediction")
        listed = isinstance(self.outputs, Sequence) and not isinstance(self.outputs, str)
        if not listed or not all(isinstance(output, str) for output in self.outputs):
            raise self._wrong_type("outputs", "a list of output names, like ['logits']")
        self._check_dynamic()
        self._check_variants()

    def _wrong_type(self, name: str, expected: str) -> RecipeError:
        found = getattr(self, name)
        return RecipeError(f"recipe {self.name!r}, {name}: got {type(found).__name__}, expected {expected}")

    def _check_dynamic(self) -> None:
        expected = 'a dict like {"image": {0: "batch"}}'
        if not isinstance(self.dynamic, Mapping):
            raise self._wrong_type("dynamic", expected)
        for name, axes in self.dynamic.items():
            if not isinstance(axes, Mapping) or not all(
                isinstance(axis, int) and isinstance(label, str) and label.isidentifier() for axis, label in axes.items()
            ):
                raise RecipeError(f"recipe {self.name!r}, dynamic[{name!r}]: got {axes!r}, expected {expected}")

    def _check_variants(self) -> None:
        expected = 'a dict of name to function, like {"qat": trained.frozen}'
        if not isinstance(self.variants, Mapping):
            raise self._wrong_type("variants", expected)
        for name, module in self.variants.items():
            if not isinstance(name, str) or not NAME.fullmatch(name) or name.partition("-")[0] in RESERVED:
                raise RecipeError(
                    f"recipe {self.name!r}, variants: {name!r} is no name for one; expected lower-case letters, digits and dashes, "
                    f"and none that begins as a scheme's does ({', '.join(RESERVED)})"
                )
            if not callable(module):
                raise RecipeError(f"recipe {self.name!r}, variants[{name!r}]: got {type(module).__name__}, expected {expected}")
