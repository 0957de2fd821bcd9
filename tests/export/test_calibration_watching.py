"""What calibration watches, how it samples, and what it makes of NaN and infinity; `observed` streams values."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_export import METHODS, Graph, calibrate, ranges_from
from edgekit_export.calibration import observed
from edgekit_export.calibration.histogram import Histogram, keys_of
from edgekit_export.calibration.sampling import COUNTED_WHOLE, LARGEST_MULTIPLE, SAMPLE, STRIDES, sample
from edgekit_export.calibration.stand_ins import float_tensors, stand_ins
from edgekit_runtime.errors import CalibrationError

Feed = dict[str, np.ndarray]


def chain(*operators: str, dtype: ir.DataType = ir.DataType.FLOAT, opset: int = 20) -> Graph:
    """A graph of nodes one behind the other: x → t0 → t1 → …; the last tensor is the output."""
    constants = {"Reshape": np.array([-1]), "Add": np.ones(1), "Mul": np.array([2.0]), "Unsqueeze": np.array([0])}
    nodes, initializers = [], []
    value = given = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(["n"]))
    for index, operator in enumerate(operators):
        inputs = [value]
        if operator in constants:
            array = constants[operator]
            array = array if array.dtype.kind == "i" else array.astype(dtype.numpy())
            tensor = ir.tensor(array, name=f"c{index}")
            initializers.append(
                ir.Value(name=f"c{index}", const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
            )
            inputs.append(initializers[-1])
        value = ir.Value(name=f"t{index}", type=ir.TensorType(dtype))
        nodes.append(ir.node(operator, inputs, outputs=[value], name=f"n{index}"))
    value.shape = ir.Shape([None])
    graph = ir.Graph([given], [value], nodes=nodes, initializers=initializers, opset_imports={"": opset}, name="chain")
    return Graph(ir.Model(graph, ir_version=10))


def test_what_only_a_clamp_reads_and_what_only_moves_is_not_watched() -> None:
    found = stand_ins(chain("Add", "Relu", "Reshape", "Unsqueeze", "Mul"))
    assert found == {"x": "x", "t0": "t1", "t1": "t1", "t2": "t1", "t3": "t1", "t4": "t4"}


def test_what_others_read_too_is_watched() -> None:
    def second_reader(model: ir.Model) -> str:
        values = {value.name: value for node in model.graph for value in node.outputs}
        extra = ir.node("Abs", [values["t0"]])
        model.graph.append(extra)
        return "one more reader"

    graph = chain("Add", "Relu")
    assert stand_ins(graph)["t0"] == "t1"
    assert stand_ins(graph.changed("read", second_reader))["t0"] == "t0"
    as_output = graph.changed("output", lambda model: model.graph.outputs.append(model.graph[0].outputs[0]) or "one more output")
    assert stand_ins(as_output)["t0"] == "t0"


@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40))
def test_stand_ins_have_the_ranges_of_what_they_stand_for(values: list[float]) -> None:
    graph = chain("Mul", "Relu", "Reshape")
    array = np.array(values, np.float32)
    bounds = ranges_from(calibrate(graph, [{"x": array}]).histograms, "minmax").bounds
    behind = np.maximum(array * 2, 0)
    assert bounds == {"x": (array.min(), array.max()), **dict.fromkeys(("t0", "t1", "t2"), (behind.min(), behind.max()))}


def test_the_stand_ins_of_a_network_cover_all_that_quantization_looks_up(prepared: dict[str, Graph]) -> None:
    for graph in prepared.values():
        found = stand_ins(graph)
        assert list(found) == float_tensors(graph)
        assert all(found[other] == other for other in found.values())
    assert stand_ins(prepared["conv"])["getitem"] == "relu"


LARGE = 150_000


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16])
def test_large_tensors_have_exact_bounds_and_a_sample_of_known_places(dtype: ir.DataType) -> None:
    array = np.random.default_rng(0).standard_normal((LARGE,)).astype(dtype.numpy())
    array[1] = 30.0  # no sample has the second value
    found = calibrate(chain("Mul", dtype=dtype), [{"x": array}])
    for name, values in (("x", array), ("t0", array * 2)):
        histogram = found.histograms[name]
        expected = Histogram()
        expected.see([(float(values.min()), float(values.max()))])
        expected.count(keys_of(sample(values)))
        assert ranges_from({name: histogram}, "minmax").bounds[name] == (values.min(), values.max())
        assert (histogram.counts == expected.counts).all()
        assert histogram.counts.sum() + histogram.zeros == -(-LARGE // 19)


def test_percentiles_of_a_sample_are_those_of_all_values() -> None:
    feeds = [{"x": np.random.default_rng(seed).standard_normal(LARGE).astype(np.float32)} for seed in range(16)]
    sampled = ranges_from(calibrate(chain("Mul"), feeds).histograms, "percentile").bounds["x"]
    # 126 000 values are counted, 6 of them beyond each end; the standard error is then 0.1 of 3.9.
    assert sampled == pytest.approx(np.percentile(np.concatenate([feed["x"] for feed in feeds]), [0.005, 99.995]), abs=0.4)


@given(size=st.integers(0, 10 * SAMPLE), offset=st.integers(0, 5))
def test_samples_are_whole_where_small_and_never_large(size: int, offset: int) -> None:
    counted = sample(np.arange(size).reshape(1, -1) + offset)
    assert counted.size == size if size < COUNTED_WHOLE else SAMPLE // 8 < counted.size <= SAMPLE
    assert (np.diff(counted) == (counted[1] - counted[0] if counted.size > 1 else 0)).all()


def test_strides_visit_all_channels_rows_and_columns() -> None:
    strided = np.unique(STRIDES[COUNTED_WHOLE // SAMPLE :])
    assert all((strided % factor > 0).all() for factor in (2, 3, 5, 7))
    assert len(STRIDES) == LARGEST_MULTIPLE
    assert (np.diff(STRIDES) >= 0).all()
    assert (np.ceil((np.arange(LARGEST_MULTIPLE) + 1) * SAMPLE / STRIDES)[COUNTED_WHOLE // SAMPLE :] <= SAMPLE).all()


@pytest.mark.parametrize("size", [10, LARGE])
def test_minus_infinity_is_left_out(size: int) -> None:
    """Attention masks; the examples beside it are not touched by it, in whatever order."""
    plain = np.linspace(-1, 2, size, dtype=np.float32)
    masked = plain.copy()
    masked[size // 2 :] = 0.0
    # Log(0) is minus infinity, Log(1) is zero.
    feeds = [{"x": np.abs(array)} for array in (masked, np.ones(size, np.float32), plain + 2)]
    found = calibrate(chain("Log"), feeds)
    low, high = ranges_from(found.histograms, "minmax").bounds["t0"]
    finite = np.log(np.abs(masked[: size // 2][masked[: size // 2] != 0]))
    assert low == pytest.approx(float(min(finite.min(), 0)), rel=1e-5)
    assert high == pytest.approx(float(np.log(4)), rel=1e-5)
    shards = [calibrate(chain("Log"), [feed]) for feed in reversed(feeds)]
    merged = shards[0].merge(*shards[1:])
    for method in METHODS:
        assert ranges_from(merged.histograms, method).bounds == ranges_from(found.histograms, method).bounds


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_one_nan_is_found_wherever_it_lies(size: int, place: int) -> None:
    array = np.ones(size, np.float32)
    array[place] = -1.0
    with pytest.raises(CalibrationError, match="on example 1: tensor 't0' holds NaN; the float model is broken on it"):
        calibrate(chain("Log", "Mul"), [{"x": np.ones(4, np.float32)}, {"x": array}])


def test_a_tensor_that_is_empty_or_never_finite_has_no_range() -> None:
    empty, negative = {"x": np.zeros(0, np.float32)}, {"x": np.zeros(3, np.float32)}
    found = calibrate(chain("Log"), [empty, negative])
    assert found.examples == 2
    assert not found.histograms["t0"].seen
    assert ranges_from(found.histograms, "minmax").bounds == {"x": (0.0, 0.0)}
    assert "t0" in ranges_from(calibrate(chain("Log"), [empty, {"x": np.ones(2, np.float32)}]).histograms, "entropy").bounds


def test_observed_gives_what_was_asked_for(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    names = ["relu", "image", "logits", "relu"]
    values = list(observed(prepared["conv"], names, iter(feeds["conv"])))
    assert [value["relu"].shape for value in values] == [(batch, 16, 12, 12) for batch in (1, 4, 2)]
    for value, feed in zip(values, feeds["conv"], strict=True):
        assert list(value) == ["relu", "image", "logits"]
        assert value["image"] is feed["image"]
        assert value["relu"].min() == 0
    bounds = ranges_from(calibrate(prepared["conv"], feeds["conv"]).histograms, "minmax").bounds
    assert bounds["relu"][1] == pytest.approx(max(value["relu"].max() for value in values), rel=1e-5)


def test_observed_asks_for_one_feed_at_a_time(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    asked: list[int] = []

    def stream() -> Iterator[Feed]:
        for index in range(3):
            asked.append(index)
            yield feeds["conv"][index]

    values = observed(prepared["conv"], ["image"], stream())
    assert asked == []
    next(values)
    assert asked == [0]


def test_observed_names_what_is_unknown(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    with pytest.raises(CalibrationError, match=r"observe \['nope'\]: no such tensor"):
        list(observed(prepared["conv"], ["relu", "nope"], feeds["conv"]))
    with pytest.raises(CalibrationError, match=r"on example 0: missing \['image'\] and unknown \['x'\]"):
        list(observed(prepared["conv"], ["relu"], feeds["lstm"]))
