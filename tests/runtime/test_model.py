"""A loaded model takes what it says it takes, and answers anything else with an InputError that says which input."""

from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from msgspec.structs import replace

from edgekit_runtime import InputError, Model, SessionConfig, SessionError, load
from edgekit_runtime.session import open_session

BATCH = 3


@pytest.fixture(scope="module")
def model(models):
    return load(models / "two_inputs.onnx")


@pytest.fixture
def feed():
    draw = np.random.default_rng(0)
    return {"x": draw.standard_normal((BATCH, 4)).astype(np.float32), "ids": draw.integers(0, 5, BATCH)}


def test_says_what_it_is(model):
    assert repr(model).startswith("Model(two_inputs.onnx: x float32[batch, 4]; ids int64[batch] -> out float32[batch, 3], CPU")
    assert model.manifest is None
    assert model.fallback_reason is None


def test_every_way_of_calling_gives_the_same(model, feed):
    expected = model.session.run(None, feed)[0]
    for got in (
        model(feed),
        model(MappingProxyType(feed)),
        model(feed["x"], feed["ids"]),
        model(feed["x"], ids=feed["ids"]),
        model(ids=feed["ids"], x=feed["x"]),
        model(**feed),
    ):
        assert list(got) == ["out"]
        np.testing.assert_array_equal(got["out"], expected)


def test_non_contiguous_arrays(model, feed):
    wide = np.zeros((BATCH * 2, 8), np.float32)
    wide[::2, ::2] = feed["x"]
    ids = np.zeros(BATCH * 2, np.int64)
    ids[::2] = feed["ids"]
    for x in (wide[::2, ::2], np.asfortranarray(feed["x"]), feed["x"][::-1][::-1]):
        assert np.array_equal(model(x, ids[::2])["out"], model(feed)["out"])


def test_a_batch_of_none(model):
    assert model(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))["out"].shape == (0, 3)


def refused(model, *arrays, **named):
    with pytest.raises(InputError) as caught:
        model(*arrays, **named)
    message = str(caught.value)
    assert message.startswith("model call")
    assert "\n" not in message
    return message


def test_missing_extra_and_wrong_names(model, feed):
    takes = "the model takes x float32[batch, 4]; ids int64[batch]"
    assert refused(model) == f"model call: missing ['x', 'ids']; {takes}"
    assert refused(model, {"x": feed["x"]}) == f"model call: missing ['ids']; {takes}"
    assert refused(model, feed["x"]) == f"model call: missing ['ids']; {takes}"
    assert refused(model, {**feed, "y": 1}) == f"model call: unknown ['y']; {takes}"
    assert refused(model, x=feed["x"], id=feed["ids"]) == f"model call: missing ['ids'] and unknown ['id']; {takes}"
    assert refused(model, {1: feed["x"], "ids": feed["ids"]}).startswith("model call: missing ['x'] and unknown [1]")
    assert "got 3 arrays" in refused(model, feed["x"], feed["ids"], feed["x"])
    assert "'x' was given by position and by name" in refused(model, feed["x"], x=feed["x"])
    assert "input 'x': got dict" in refused(model, feed, ids=feed["ids"])


def test_wrong_dtypes(model, feed):
    message = refused(model, {**feed, "x": feed["x"].astype(np.float64)})
    assert message == (
        "model call, input 'x': got dtype float64, the model takes x float32[batch, 4]; convert it on purpose, with "
        "array.astype('float32')"
    )
    assert "input 'ids': got dtype int32" in refused(model, {**feed, "ids": feed["ids"].astype(np.int32)})
    swapped = feed["x"].astype(feed["x"].dtype.newbyteorder())
    assert "input 'x': got dtype >f4" in refused(model, {**feed, "x": swapped})


def test_wrong_shapes(model, feed):
    assert "shape [4] does not fit x float32[batch, 4]: expected 2 axes, got 1" in refused(model, feed["x"][0], feed["ids"])
    assert "expected axis 1 of size 4, got 2" in refused(model, feed["x"][:, :2].copy(), feed["ids"])
    message = refused(model, feed["x"][:2], feed["ids"])
    assert "input 'ids': shape [3] does not fit ids int64[batch]: expected the same 'batch'" in message
    assert "got 2 and 3" in message


@pytest.mark.parametrize("value", [None, [[1.0, 2.0, 3.0, 4.0]], 1.0, "text", np.float32(1), memoryview(b"1234")])
def test_what_is_no_array(model, feed, value):
    message = refused(model, {**feed, "x": value})
    assert f"input 'x': got {type(value).__name__}, expected a numpy array for x float32[batch, 4]" in message


def test_an_array_look_alike(model, feed):
    class Tensor:
        dtype = np.dtype(np.float32)
        shape = (BATCH, 4)

    assert "input 'x': got Tensor, expected a numpy array" in refused(model, {**feed, "x": Tensor()})


def test_a_single_argument_that_is_neither_array_nor_dict(models):
    model = load(models / "qdq.onnx")
    for value in (None, [1.0], "text"):
        assert f"input 'x': got {type(value).__name__}" in refused(model, value)


def test_subclasses_of_arrays_are_arrays(model, feed, tmp_path):
    np.save(tmp_path / "x.npy", feed["x"])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert type(mapped) is np.memmap
    np.testing.assert_array_equal(model(mapped, feed["ids"])["out"], model(feed)["out"])


DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(),
    npst.unsigned_integer_dtypes(),
    npst.floating_dtypes(sizes=(16, 32, 64)),
    npst.complex_number_dtypes(),
    npst.unicode_string_dtypes(max_len=3),
    npst.byte_string_dtypes(max_len=3),
    npst.datetime64_dtypes(),
    st.sampled_from([np.dtype(np.float32), np.dtype(np.int64), np.dtype(object), np.dtype([("a", "f4")])]),
)
SHAPES = st.one_of(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), st.sampled_from([(2, 4), (2,)]))
ARRAYS = st.builds(np.zeros, SHAPES, DTYPES)


@given(x=ARRAYS, ids=ARRAYS)
def test_any_feed_runs_or_is_an_input_error(model, x, ids):
    fits = x.dtype == np.float32 and ids.dtype == np.int64 and x.shape == (*ids.shape, 4) and ids.ndim == 1
    if fits:
        assert model(x, ids)["out"].shape == (len(ids), 3)
    else:
        with pytest.raises(InputError, match=r"input '(x|ids)'"):
            model(x, ids)


FITTING = {
    "scalar": np.array(2.5, np.float32),
    "flag": np.array([True]),
    "words": np.array(["a", "bc"], object),
    "anonymous": np.zeros((5, 2, 3), np.float32),
}


@given(others=st.dictionaries(st.sampled_from([*FITTING, "other"]), ARRAYS, max_size=2), left_out=st.sampled_from([None, *FITTING]))
def test_any_feed_of_many_kinds_runs_or_is_an_input_error(many_kinds, others, left_out):
    feed = {name: array for name, array in {**FITTING, **others}.items() if name != left_out}
    try:
        outputs = many_kinds(feed)
    except InputError:
        assert others or left_out
    else:
        assert list(outputs) == ["scalar_out", "flag_out", "words_out", "anonymous_out"]


@pytest.fixture(scope="module")
def many_kinds(models):
    return load(models / "kinds.onnx")


def test_scalars_booleans_texts_and_axes_without_a_name(many_kinds):
    assert [str(spec) for spec in many_kinds.inputs] == [
        "scalar float32[]",
        "flag bool[1]",
        "words object[words]",
        "anonymous float32[anonymous_0, 2, width]",
    ]
    outputs = many_kinds(FITTING)
    assert outputs["scalar_out"] == 2.5
    assert outputs["words_out"].tolist() == ["a", "bc"]
    assert outputs["anonymous_out"].shape == (5, 2, 3)


def test_an_input_of_a_dtype_that_numpy_lacks(models):
    with pytest.raises(SessionError, match=r"input 'x' is tensor\(bfloat16\), which no numpy array holds"):
        load(models / "bfloat16.onnx")


def test_a_failure_while_running_keeps_onnxruntimes_words_on_one_line(models, capfd):
    model = load(models / "crash.onnx")
    with pytest.raises(SessionError, match=r"run crash\.onnx with shapes \{'ids': \[1\]\}: .*Gather.*idx=9 must be") as caught:
        model(np.array([9]))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", ""), "onnxruntime logs what the exception says already"
    assert model(np.array([1]))["rows"].shape == (1, 3)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(models, shared_bundle, threads):
    for path in (models / "qdq.onnx", shared_bundle):
        with pytest.raises(SessionError, match=f"threads={threads}, expected 1 or more"):
            load(path, threads=threads)


def test_threads_asked_for_are_used(models, shared_bundle):
    assert load(models / "qdq.onnx", threads=1).session.get_session_options().intra_op_num_threads == 1
    assert load(shared_bundle, threads=2).threads == 2


def test_threads_of_the_manifest(bundle, reseal):
    asked = SessionConfig(threads=2, graph_optimization="basic", spinning=False, memory_arena=False, blocked_layout=False)
    reseal(bundle, session=asked)
    assert load(bundle).threads == 2
    assert load(bundle).session_config == asked
    assert load(bundle, threads=1).threads == 1
    assert load(bundle, threads=1).session_config.graph_optimization == "basic"
    assert not load(bundle, threads=1).session_config.spinning


def test_a_bundle_computes_what_its_model_file_computes(shared_bundle):
    x = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)
    np.testing.assert_array_equal(load(shared_bundle)(x)["y"], load(shared_bundle / "model.onnx")(x)["y"])


def test_an_onnxruntime_that_is_built_otherwise_inside(models, feed):
    """The call goes below onnxruntime's own Python layer where there is such a below, and through it where not."""
    opened = open_session(models / "two_inputs.onnx")

    class Session:
        get_inputs, get_outputs = opened.session.get_inputs, opened.session.get_outputs
        run = opened.session.run

    model = Model(replace(opened, session=Session()), models / "two_inputs.onnx")
    np.testing.assert_array_equal(model(feed)["out"], load(models / "two_inputs.onnx")(feed)["out"])


def test_calls_from_several_threads(model, feed):
    expected = model(feed)["out"]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: model(feed)["out"], range(64)):
            np.testing.assert_array_equal(got, expected)
