"""A bundle proves itself against its golden outputs, and says so clearly where it cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import BundleError, SelfTestError, load
from edgekit_runtime.selftest import pack_golden, selftest, unpack_golden


@pytest.mark.parametrize("name", ["qdq", "two_inputs"])
def test_a_sound_bundle_passes(tmp_path, pack, name):
    result = selftest(load(pack(tmp_path / "sound.edge", name)))
    assert result.passed
    assert result.examples == 3
    assert result.bit_equal, "the bundle was packed on this machine"
    assert result.max_abs_diff == result.rms_diff == 0.0
    assert result.sqnr_db == result.sqnr_db_build
    result.require("sound")


def changed(kind, change):
    return lambda arrays: {name: change(array) if name.startswith(kind) else array for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: array + np.float32(0.5), r"outputs are 0\.5 \(rms\) away from the build machine's, allowed are 0\.5?"),
        (lambda array: array[:, :2].copy(), "infinitely far"),
        (lambda array: array * np.float32(np.nan), "infinitely far"),
    ],
    ids=["shifted", "another shape", "NaN"],
)
def test_golden_outputs_that_differ_in_a_bundle_whose_hashes_fit(bundle, change_golden, change, message):
    def tamper(arrays):
        floats = {name: array for name, array in arrays.items() if name.startswith("float")}
        return {**changed("model", change)(arrays), **floats}

    # The float outputs are shifted along, or else the shift would pass for quantization error.
    shift = changed("float", lambda array: array + np.float32(0.5))
    model = load(change_golden(bundle, lambda arrays: tamper(shift(arrays))))
    result = selftest(model)
    assert not result.passed
    assert not result.bit_equal
    with pytest.raises(SelfTestError, match=message) as caught:
        result.require("small.edge")
    assert str(caught.value).startswith("self-test of small.edge: ")
    assert "\n" not in str(caught.value)


def test_a_model_swapped_for_a_worse_one(bundle, models, reseal, change_golden):
    """The model file is another one with the same inputs and outputs: its weights have twice the scale."""
    data = bytearray((models / "qdq.onnx").read_bytes())
    scale = np.float32(0.01).tobytes()
    where = bytes(data).find(scale)
    data[where : where + 4] = np.float32(0.02).tobytes()
    (bundle / "model.onnx").write_bytes(bytes(data))
    result = selftest(load(reseal(bundle)))
    assert not result.passed
    assert result.rms_diff > result.tolerance


def test_a_step_of_rounding_is_within_tolerance(bundle, change_golden):
    """Integer kernels of two processors differ by one step in a few places: less than quantization itself costs."""

    def one_step(array):
        array = array.copy()
        array.flat[0] += np.float32(0.01)
        return array

    result = selftest(load(change_golden(bundle, changed("model", one_step))))
    assert result.passed
    assert not result.bit_equal


def test_nan_in_the_float_outputs_does_not_excuse_anything(bundle, change_golden):
    def spoil(arrays):
        arrays = changed("model", lambda array: array + np.float32(1.0))(arrays)
        return changed("float", lambda array: array * np.float32(np.nan))(arrays)

    result = selftest(load(change_golden(bundle, spoil)))
    assert not result.passed
    assert np.isfinite(result.tolerance)


def test_a_plain_model_has_nothing_to_test_against(models):
    with pytest.raises(BundleError, match="a plain model file has no golden outputs"):
        selftest(load(models / "qdq.onnx"))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {},
        lambda arrays: {**arrays, "notes": np.zeros(1)},
        lambda arrays: {**arrays, "input/x/y": np.zeros(1)},
        lambda arrays: {**arrays, "input/²/y": np.zeros(1)},
        lambda arrays: {**arrays, "input/3/x": np.zeros((1, 4), np.float32)},
        lambda arrays: {name.replace("float/1", "float/7"): array for name, array in arrays.items()},
        lambda arrays: {name.replace("/y", "/z"): array for name, array in arrays.items()},
        lambda arrays: {name: array.astype(np.float64) for name, array in arrays.items()},
    ],
    ids=["empty", "stray", "no index", "odd digit", "one too many", "another index", "another output", "another dtype"],
)
def test_golden_files_that_do_not_fit(bundle, change_golden, change):
    with pytest.raises(BundleError, match=r"golden\.npz"):
        selftest(load(change_golden(bundle, change)))


EXAMPLES = st.lists(
    st.dictionaries(st.text("xy/0", min_size=1, max_size=3), st.just(np.arange(3)), min_size=1, max_size=2), min_size=1
)


@given(inputs=EXAMPLES)
def test_packing_round_trip(inputs):
    arrays = pack_golden(inputs, inputs, inputs)
    for unpacked in unpack_golden(arrays):
        assert [example.keys() for example in unpacked] == [example.keys() for example in inputs]
