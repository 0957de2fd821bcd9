"""Parity: the exported graph must compute what the module computes, at several sizes and on several inputs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit_export.example_feeds import Dynamic, axis_sizes, labelled_sizes, resized
from edgekit_export.torch_module import TorchModel
from edgekit_export.user_code import last_user_line
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import ParityError, SessionError, TraceError
from edgekit_runtime.model import Model
from edgekit_runtime.session import SessionConfig, open_session

__all__ = ["SEEDS", "Parity", "check_parity", "size_refused", "tolerance"]

SEEDS = (1, 2)
# Float kernels sum in another order than torch's: a ten-thousandth of the largest output is far above that and far below
# any wrong graph seen. Outputs of other dtypes must be equal.
RELATIVE_TOLERANCE = 1e-4
# In float16 each rounding alone is a thousandth of a value, and torch and onnxruntime round after different operations.
ROUNDINGS = 8
# Integers may fall out one higher or lower where a float sum lies on the edge between two (a few in a million do), and layers
# behind may round that up again: on 25 layers outputs were seen three steps of 8 bits apart, and wrong graphs dozens.
ROUNDED_OTHERWISE = 8
# Where onnxruntime's default integer kernels would saturate, on x86 without VNNI, its exact ones compute what was trained.
EXACT = {"session.x64quantprecision": "1"}


@dataclass(frozen=True)
class Parity:
    """The comparison of a graph with its module.

    Attributes:
        comparisons: How many feeds were compared.
        sizes: The sizes tried for each named axis.
        max_abs_diff: Largest absolute difference of any output.
        sqnr_db: All outputs together; infinite where they are equal.
    """

    comparisons: int
    sizes: dict[str, tuple[int, ...]]
    max_abs_diff: float
    sqnr_db: float


@dataclass(frozen=True)
class Comparison:
    """One feed to compare on, in words and arrays, and whether the module may refuse its size."""

    label: str
    feed: dict[str, np.ndarray]
    axis: str | None
    size: int
    may_refuse: bool


def check_parity(path: Path, model: TorchModel, example: Mapping[str, np.ndarray], dynamic: Dynamic) -> Parity:
    """Compares the model file at `path` with the module.

    Raises:
        ParityError: They differ; says where and by how much.
        TraceError: The module itself fails at other sizes of an axis declared dynamic.
    """
    # Of a fake-quantized module: each output's step.
    steps = dict(zip(model.outputs, getattr(model.module, "quantized_output_steps", ()), strict=False))
    session = Model(open_session(path, config=SessionConfig(entries=EXACT if steps else {})), path)
    tried: dict[str, list[int]] = {}
    failures: dict[str, BaseException] = {}
    results, references = [], []
    for comparison in _comparisons(example, dynamic):
        try:
            reference = model(comparison.feed)
        except Exception as error:  # the user's code may raise anything
            if comparison.axis is None or not comparison.may_refuse:
                raise size_refused(model, comparison.label, error) from error
            failures[comparison.axis] = error
            continue
        result = _run(session, comparison, model)
        _compare(result, reference, comparison, model, steps)
        results.append(result)
        references.append(reference)
        if comparison.axis is not None:
            tried.setdefault(comparison.axis, []).append(comparison.size)
    for axis, failure in failures.items():
        if axis not in tried:
            raise TraceError(
                f"trace {type(model.module).__name__}: axis {axis!r} is declared dynamic, but forward() takes no other size than "
                f"the example's: {type(failure).__name__}: {failure}{last_user_line(failure)}; leave it out of the recipe's dynamic"
            ) from failure
    total = difference(results, references)
    sizes = {axis: tuple(sorted(set(sizes))) for axis, sizes in tried.items()}
    return Parity(len(results), sizes, total.max_abs_diff, total.sqnr_db)


def size_refused(model: TorchModel, label: str, error: BaseException) -> TraceError:
    """What to tell a user whose module fails on a feed that the recipe allows."""
    return TraceError(
        f"run {type(model.module).__name__} at {label}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        f"{last_user_line(error)}; forward() must take every size of an axis that the recipe declares dynamic"
    )


def tolerance(reference: np.ndarray) -> float:
    """What an output may differ by at the most, for a reference of this dtype and size of values."""
    if reference.dtype.kind not in "fc":
        return 0.0
    finite = reference[np.isfinite(reference)]
    relative = max(RELATIVE_TOLERANCE, ROUNDINGS * float(np.finfo(reference.dtype).eps))
    return relative * max(float(np.max(np.abs(finite), initial=0.0)), 1e-3)


def _comparisons(example: Mapping[str, np.ndarray], dynamic: Dynamic) -> Iterator[Comparison]:
    own = labelled_sizes(example, dynamic)
    yield Comparison("the example itself", resized(example, dynamic, own), None, 0, may_refuse=False)
    for seed in SEEDS:
        yield Comparison(f"values drawn with seed {seed}", resized(example, dynamic, own, seed), None, 0, may_refuse=False)
    leading = {axes[0] for axes in dynamic.values() if 0 in axes}
    for axis, sizes in axis_sizes(example, dynamic).items():
        for size in sizes:
            feed = resized(example, dynamic, {**own, axis: size}, seed=size)
            yield Comparison(f"{axis}={size}", feed, axis, size, may_refuse=axis not in leading)


def _run(session: Callable[..., dict[str, np.ndarray]], comparison: Comparison, model: TorchModel) -> dict[str, np.ndarray]:
    try:
        return session(comparison.feed)
    except SessionError as error:
        raise ParityError(
            f"parity of {type(model.module).__name__} at {comparison.label}: the module runs, the exported graph does not: {error}"
        ) from error


def _compare(
    result: Mapping[str, Any],
    reference: Mapping[str, np.ndarray],
    comparison: Comparison,
    model: TorchModel,
    steps: Mapping[str, float],
) -> None:
    name = type(model.module).__name__
    for output, expected in reference.items():
        got = result[output]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise ParityError(
                f"parity of {name} at {comparison.label}: output {output!r} is {got.dtype}{list(got.shape)} in the graph and "
                f"{expected.dtype}{list(expected.shape)} in the module; a size was frozen while tracing"
            )
        largest = difference([{output: got}], [{output: expected}]).max_abs_diff
        allowed = max(tolerance(expected), ROUNDED_OTHERWISE * steps.get(output, 0.0))
        if not largest <= allowed:
            raise ParityError(
                f"parity of {name} at {comparison.label}: output {output!r} differs by {largest:.3g}, allowed {allowed:.3g}; the "
                "graph does not compute what the module computes: look for Python branches, random numbers or state in forward()"
            )
