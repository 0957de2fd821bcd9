"""Feeds of other sizes and other values, drawn from the recipe's example so that they stay in the input's domain.

Token ids stay token ids and masks stay masks, since every value is one that the example holds.
"""

from collections.abc import Mapping
from itertools import count

import numpy as np

from edgekit_runtime.errors import RecipeError

__all__ = ["Dynamic", "axis_sizes", "check_example", "labelled_sizes", "resized", "tracing_sizes"]

Dynamic = Mapping[str, Mapping[int, str]]
"""Axes that may vary, by input: ``{"image": {0: "batch"}}``."""

LEADING_SIZES = (1, 2, 3, 4, 8)


def check_example(example: object, dynamic: Dynamic) -> dict[str, np.ndarray]:
    """The example as plain arrays, with `dynamic` checked against it.

    Raises:
        RecipeError: It is not a dict of arrays, or `dynamic` names an input or axis that it does not have.
    """
    if not isinstance(example, Mapping) or not example:
        raise RecipeError(f"recipe example: got {type(example).__name__}, expected a dict of input name to numpy array")
    for name, array in example.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise RecipeError(f"recipe example[{name!r}]: got {type(array).__name__}, expected a numpy array")
        if array.dtype.kind not in "fiub":
            raise RecipeError(f"recipe example[{name!r}]: dtype {array.dtype}, expected numbers or bools; encode it first")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RecipeError(f"recipe example[{name!r}]: holds NaN or infinity; give an ordinary input")
    sizes: dict[str, int] = {}
    for name, axes in dynamic.items():
        if name not in example:
            raise RecipeError(f"recipe dynamic: {name!r} is not an input; the example has {list(example)}")
        for axis, label in axes.items():
            _check_axis(name, example[name], axis, label)
            size = example[name].shape[axis]
            if sizes.setdefault(label, size) != size:
                raise RecipeError(f"recipe dynamic: axes called {label!r} have sizes {sizes[label]} and {size} in the example")
    return dict(example)


def _check_axis(name: str, array: np.ndarray, axis: int, label: str) -> None:
    if not 0 <= axis < array.ndim:
        raise RecipeError(f"recipe dynamic[{name!r}]: axis {axis} is not there, its shape is {list(array.shape)}")
    if not str(label).isidentifier():
        raise RecipeError(
            f"recipe dynamic[{name!r}][{axis}]: {label!r} is no name for an axis; use letters, digits and underscores"
        )
    if array.shape[axis] == 0:
        raise RecipeError(
            f"recipe example[{name!r}]: axis {axis} ({label!r}) has size 0, so nothing can be traced along it; give 1 or more"
        )


def labelled_sizes(example: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, int]:
    """Size of each named axis in the example."""
    return {label: example[name].shape[axis] for name, axes in dynamic.items() for axis, label in axes.items()}


def tracing_sizes(example: Mapping[str, np.ndarray], dynamic: Dynamic) -> list[dict[str, int]]:
    """Sizes to trace at, best first: at least 2 and all different, since tracers take 0, 1 and equal sizes for constants.

    Where a size must change, the first answer adds one and the second doubles it, for modules that halve their axes; the last
    keeps equal sizes equal, for modules that take no others.
    """
    own = {label: max(size, 2) for label, size in labelled_sizes(example, dynamic).items()}
    added: dict[str, int] = {}
    doubled: dict[str, int] = {}
    for label, size in own.items():
        added[label] = next(wanted for wanted in count(size) if wanted not in added.values())
        doubled[label] = next(wanted for wanted in (size << power for power in count()) if wanted not in doubled.values())
    return [added, doubled, own]


def axis_sizes(example: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, tuple[int, ...]]:
    """Sizes at which to compare, for each named axis: leading axes at a few small ones, others around the example's."""
    leading = {axes[0] for axes in dynamic.values() if 0 in axes}
    return {
        label: LEADING_SIZES if label in leading else tuple(sorted({max(1, size // 2), max(1, size - 1), size + 1}))
        for label, size in labelled_sizes(example, dynamic).items()
    }


def resized(
    example: Mapping[str, np.ndarray], dynamic: Dynamic, sizes: Mapping[str, int], seed: int | None = None
) -> dict[str, np.ndarray]:
    """The example with its named axes brought to `sizes`.

    Args:
        example: Arrays by input name.
        dynamic: Names of the axes.
        sizes: A size for each name; names left out keep theirs.
        seed: ``None`` repeats the example along its axes; a number draws each value anew from the example's own.
    """
    draw = np.random.default_rng(seed)
    feed = {}
    for name, array in example.items():
        for axis, label in dynamic.get(name, {}).items():
            array = np.take(array, np.arange(sizes.get(label, array.shape[axis])) % array.shape[axis], axis=axis)
        if seed is not None and array.size:
            if array.dtype.kind == "f" and array.size > 16 and np.ptp(array) == 0:
                # A constant example says nothing of its domain: add noise, or every comparison is of one point.
                array = array + draw.standard_normal(array.shape).astype(array.dtype)
            else:
                array = draw.choice(array.ravel(), array.shape).astype(array.dtype)
        feed[name] = np.ascontiguousarray(array)
    return feed
