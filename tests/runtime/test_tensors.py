"""Specs as text, and the rules of a feed check that no model file is needed for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import InputError, SessionError, TensorSpec
from edgekit_runtime.tensors import FeedCheck, dtype_from_onnxruntime


def test_onnxruntimes_types():
    assert dtype_from_onnxruntime("tensor(float)") == "float32"
    assert dtype_from_onnxruntime("seq(tensor(float))") == "seq(tensor(float))"


def test_one_name_on_two_axes_of_one_input():
    check = FeedCheck([TensorSpec("square", "float32", ("n", "n"))])
    check.check({"square": np.zeros((3, 3), np.float32)})
    with pytest.raises(InputError, match=r"the same 'n' on every axis called so, got 3 and 4"):
        check.check({"square": np.zeros((3, 4), np.float32)})


def test_a_dtype_without_a_numpy_name():
    with pytest.raises(SessionError, match=r"input 'x' is seq\(tensor\(float\)\)"):
        FeedCheck([TensorSpec("x", "seq(tensor(float))", ())])


def test_inputs_without_a_rank_take_any():
    FeedCheck([TensorSpec("x", "float32", ())], unranked=["x"]).check({"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(InputError, match="expected 0 axes, got 2"):
        FeedCheck([TensorSpec("x", "float32", ())]).check({"x": np.zeros((2, 3), np.float32)})


def test_a_model_without_inputs():
    FeedCheck([]).check({})
    assert FeedCheck([]).gather((), {}) == {}


@given(
    specs=st.lists(
        st.builds(
            TensorSpec,
            st.text("abc", min_size=1, max_size=2),
            st.sampled_from(["float32", "int64", "bool"]),
            st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["n", "m", "k"])), max_size=3).map(tuple),
        ),
        max_size=4,
        unique_by=lambda spec: spec.name,
    ),
    sizes=st.fixed_dictionaries({"n": st.integers(0, 3), "m": st.integers(0, 3), "k": st.integers(0, 3)}),
)
def test_whatever_is_built_from_the_specs_fits_them(specs, sizes):
    feed = {spec.name: np.zeros([sizes.get(axis, axis) for axis in spec.shape], spec.dtype) for spec in specs}
    check = FeedCheck(specs)
    check.check(feed)
    check.check(check.gather(list(feed.values()), {}))
    check.check(check.gather((), feed))
