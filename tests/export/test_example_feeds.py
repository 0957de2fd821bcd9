"""The recipe's example: checked once, and brought to other sizes without leaving its domain."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_export.example_feeds import axis_sizes, check_example, resized, tracing_sizes
from edgekit_runtime.errors import RecipeError

X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("example", "dynamic", "words"),
    [
        (None, {}, "got NoneType, expected a dict"),
        ({}, {}, "expected a dict of input name"),
        ({"x": [1.0]}, {}, r"example\['x'\]: got list, expected a numpy array"),
        ({"x": np.array(["a"])}, {}, r"dtype <U1, expected numbers"),
        ({"x": np.array([1.0, np.nan])}, {}, r"example\['x'\]: holds NaN or infinity"),
        ({"x": np.array([-np.inf])}, {}, "holds NaN or infinity"),
        ({"x": X}, {"y": {0: "batch"}}, r"'y' is not an input; the example has \['x'\]"),
        ({"x": X}, {"x": {2: "time"}}, r"axis 2 is not there, its shape is \[2, 3\]"),
        ({"x": X}, {"x": {-1: "time"}}, "axis -1 is not there"),
        ({"x": X}, {"x": {0: "batch-size"}}, "'batch-size' is no name for an axis"),
        ({"x": X[:0]}, {"x": {0: "batch"}}, r"axis 0 \('batch'\) has size 0"),
        ({"x": X, "y": X.T}, {"x": {0: "batch"}, "y": {0: "batch"}}, "axes called 'batch' have sizes 2 and 3"),
    ],
)
def test_what_is_refused(example: Any, dynamic: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        check_example(example, dynamic)
    assert "\n" not in str(caught.value)


def test_tracing_sizes_are_neither_one_nor_equal() -> None:
    """Tracers take 0, 1 and equal sizes for constants; the last answer is for modules that take no others."""
    example = {"image": np.zeros((1, 3, 32, 32), np.float32)}
    added, doubled, own = tracing_sizes(example, {"image": {0: "batch", 2: "height", 3: "width"}})
    assert added == {"batch": 2, "height": 32, "width": 33}
    assert doubled == {"batch": 2, "height": 32, "width": 64}
    assert own == {"batch": 2, "height": 32, "width": 32}


def test_leading_axes_are_compared_at_small_sizes_and_others_near_their_own() -> None:
    assert axis_sizes({"x": np.zeros((5, 9))}, {"x": {0: "batch", 1: "time"}}) == {"batch": (1, 2, 3, 4, 8), "time": (4, 8, 10)}
    assert axis_sizes({"x": np.zeros((5, 1))}, {"x": {1: "time"}}) == {"time": (1, 2)}


@given(ids=st.lists(st.integers(-5, 1000), min_size=1, max_size=8), size=st.integers(1, 20), seed=st.none() | st.integers(0, 100))
def test_resized_feeds_hold_only_what_the_example_holds(ids: list[int], size: int, seed: int | None) -> None:
    example = {"ids": np.array(ids), "fixed": np.array([True, False])}
    feed = resized(example, {"ids": {0: "time"}}, {"time": size}, seed)
    assert feed["ids"].shape == (size,)
    assert feed["ids"].dtype == example["ids"].dtype
    assert set(feed["ids"].tolist()) <= set(ids)
    assert feed["fixed"].shape == (2,)


def test_a_constant_example_gets_noise() -> None:
    feed = resized({"x": np.zeros((8, 8), np.float32)}, {}, {}, seed=1)
    assert feed["x"].dtype == np.float32
    assert feed["x"].std() > 0.5
