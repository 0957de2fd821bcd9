"""Feeds of other sizes and other values, drawn from the recipe's example so that they stay in the input's domain.

Token ids stay token ids and masks stay masks, since every value is one that the example holds.
"""

from collections.abc import Mapping

import numpy as np

from edgekit_runtime.errors import RecipeError

__all__ = ["Dynamic", "axis_sizes", "check_example", "resized", "tracing_sizes"]

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
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RecipeError(f"recipe example[{name!r}]: holds NaN or infinity; give an ordinary input")
    for name, axes in dynamic.items():
        if name not in example:
            raise RecipeError(f"recipe dynamic: {name!r} is not an input; the example has {list(example)}")
        for axis in axes:
            if not 0 <= axis < example[name].ndim:
                raise RecipeError(f"recipe dynamic[{name!r}]: axis {axis} is not there, its shape is {list(example[name].shape)}")
    sizes: dict[str, int] = {}
    for name, axes in dynamic.items():
        for axis, label in axes.items():
            size = example[name].shape[axis]
            if sizes.setdefault(label, size) != size:
                raise RecipeError(f"recipe dynamic: axes called {label!r} have sizes {sizes[label]} and {size} in the example")
    return dict(example)


def labelled_sizes(example: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, int]:
    """Size of each named axis in the example."""
    return {label: example[name].shape[axis] for name, axes in dynamic.items() for axis, label in axes.items()}


def tracing_sizes(example: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, int]:
    """Sizes to trace at: at least 2 and all different, since tracers take 0, 1 and equal sizes for constants."""
    taken: dict[str, int] = {}
    for label, size in labelled_sizes(example, dynamic).items():
        wanted = max(size, 2)
        while wanted in taken.values():
            wanted += 1
        taken[label] = wanted
    return taken


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
