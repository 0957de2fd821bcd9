"""Distances between outputs, in the cases where a number is easy to get wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgekit_runtime import InputError
from edgekit_runtime.accuracy import Difference, difference

ANY = npst.arrays(
    st.one_of(npst.floating_dtypes(), npst.integer_dtypes(), npst.unsigned_integer_dtypes(), npst.boolean_dtypes()),
    npst.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4),
)


def between(left, right):
    return difference([{"y": np.asarray(left)}], [{"y": np.asarray(right)}])


def test_a_worked_example():
    found = between([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 5.0])
    assert found == Difference(1.0, 0.5, 5.0, pytest.approx(10 * np.log10(39)))


@given(array=ANY)
def test_what_is_equal_is_equal(array):
    found = between(array, array.copy())
    assert found.max_abs_diff == found.rms_diff == 0.0
    assert found.sqnr_db == np.inf


@given(left=ANY, right=ANY)
def test_any_two_arrays_have_a_distance(left, right):
    found = between(left, right)
    assert found.max_abs_diff >= 0
    assert not np.isnan([found.max_abs_diff, found.rms_diff, found.peak, found.sqnr_db]).any()
    assert (found.max_abs_diff == 0.0) == (left.shape == right.shape and np.array_equal(left, right, equal_nan=True))


@pytest.mark.parametrize(("left", "right"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.inf, -np.inf), (1.0, np.inf)])
def test_a_number_against_none_is_infinitely_far(left, right):
    found = between([left], [right])
    assert (found.max_abs_diff, found.rms_diff, found.sqnr_db) == (np.inf, np.inf, -np.inf)


def test_other_shapes_are_infinitely_far():
    for left, right in (([1.0], [1.0, 2.0]), ([], [1.0]), ([1.0], []), (1.0, [1.0])):
        assert between(left, right).max_abs_diff == np.inf


def test_large_integers_that_round_to_one_float():
    assert between(np.int64(2**53 + 1), np.int64(2**53)).max_abs_diff > 0


def test_texts():
    assert between(["a", "b"], ["a", "b"]).max_abs_diff == 0.0
    assert between(["a", "b"], ["a", "c"]).max_abs_diff == np.inf
    assert between(["a"], [1.0]).max_abs_diff == np.inf


def test_nothing_to_compare():
    assert difference([], []) == Difference(0.0, 0.0, 0.0, np.inf)


def test_runs_and_outputs_must_match():
    one = {"y": np.zeros(1)}
    with pytest.raises(InputError, match="1 runs against 2"):
        difference([one], [one, one])
    with pytest.raises(InputError, match=r"\['y'\] of the reference are not among \['z'\]"):
        difference([{"z": np.zeros(1)}], [one])


def test_no_argument_is_changed():
    left, right = np.array([np.nan, 1.0]), np.array([np.nan, np.inf])
    between(left, right)
    np.testing.assert_array_equal(left, [np.nan, 1.0])
    np.testing.assert_array_equal(right, [np.nan, np.inf])
