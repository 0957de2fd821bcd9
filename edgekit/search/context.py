"""What a search's figures depend on, as digests: the graph, the data, the recipe's code, the machine and the versions."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.environment import environment
from edgekit.recipe import Arrays, Recipe

if TYPE_CHECKING:
    from edgekit_export import Graph, Statistics

__all__ = ["digest", "evaluation_digest", "search_context"]


def search_context(
    graph: "Graph", statistics: "Statistics | None", sample: Sequence[Arrays], example: Arrays, *rest: object
) -> str:
    """SHA-256 of what all entries of a search depend on, the evaluation aside.

    Args:
        graph: The prepared graph.
        statistics: What calibration saw.
        sample: The calibration feeds that corrections look at.
        example: What is timed.
        rest: Whatever else counts; its `repr` does.
    """
    from edgekit_export.calibration.saved_state import fingerprint

    histograms = statistics.histograms if statistics else {}
    seen = [(name, one.minimum, one.maximum, one.counts) for name, one in sorted(histograms.items())]
    return digest(fingerprint(graph, []), seen, list(sample), example, sorted(environment().items()), repr(rest))


def evaluation_digest(recipe: Recipe, examples: Sequence[Any]) -> str:
    """SHA-256 of the evaluation: every example, and the code of predict and metric with the file that it stands in.

    What that code imports from elsewhere is not looked at.
    """
    sha = hashlib.sha256(digest(_code(recipe.predict), _code(recipe.metric), len(examples)).encode())
    for index in range(len(examples)):
        _feed(sha.update, examples[index])
    return sha.hexdigest()


def digest(*values: object) -> str:
    """SHA-256 of plain values: arrays, numbers, texts, bytes, and lists and dicts of them; of others the `repr` counts."""
    sha = hashlib.sha256()
    for value in values:
        _feed(sha.update, value)
    return sha.hexdigest()


def _feed(update: Callable[[bytes], None], value: object) -> None:
    """Feeds a value to a hash, with its type and size before it, so that no two values run into each other."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        update(repr(("array", value.dtype.str, value.shape)).encode())
        update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bytes):
        update(f"bytes {len(value)} ".encode())
        update(value)
    elif isinstance(value, Mapping):
        update(f"mapping {len(value)} ".encode())
        for key, item in value.items():
            _feed(update, key)
            _feed(update, item)
    elif isinstance(value, (list, tuple)):
        update(f"sequence {len(value)} ".encode())
        for item in value:
            _feed(update, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _feed(update, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    else:
        text = repr(value)
        update(f"{type(value).__name__} {len(text)} {text}".encode())


def _code(function: Callable[..., Any] | None) -> object:
    """Source of a function's file, or the bytecode of one that has none."""
    while isinstance(function, functools.partial):
        function = function.func
    if function is None:
        return None
    try:
        return Path(inspect.getfile(function)).read_bytes()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return (code.co_code, repr(code.co_consts)) if code is not None else type(function).__name__
