"""Calibration: exact histograms in bounded memory, ranges inside what was seen, and data that does not fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit_export import METHODS, Graph, Statistics, calibrate, ranges_from
from edgekit_export.calibration.histogram import BINS, Histogram
from edgekit_runtime.errors import CalibrationError

Feed = dict[str, np.ndarray]

# Every finite float32, tiny and huge, of both signs.
VALUES = arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def equal(one: Histogram, other: Histogram) -> bool:
    return (one.minimum, one.maximum, one.exponent) == (other.minimum, other.maximum, other.exponent) and bool(
        (one.counts == other.counts).all()
    )


@given(parts=st.lists(VALUES, max_size=6), data=st.data())
def test_shards_in_any_split_and_order_merge_to_what_one_pass_gives(parts: list[np.ndarray], data: st.DataObject) -> None:
    whole = histogram_of(np.concatenate([np.zeros(0, np.float32), *parts]))
    assert equal(histogram_of(*parts), whole)
    merged = Histogram()
    for index in data.draw(st.permutations(range(len(parts)))):
        merged.merge(histogram_of(*np.array_split(parts[index], data.draw(st.integers(1, 3)))))
    assert equal(merged, whole)
    assert whole.counts.sum() == sum(part.size for part in parts)


def test_a_small_negative_value_beside_a_huge_one_stays_negative() -> None:
    """A sum with the outer edge would round it to zero, and the bins would depend on the order."""
    one, other = np.array([-1e-3], np.float32), np.array([-3.4e38], np.float32)
    assert equal(histogram_of(one, other), histogram_of(other, one))
    assert histogram_of(other, one).counts[BINS // 2 :].sum() == 0


@given(values=VALUES.filter(lambda values: values.size > 0), method=st.sampled_from(METHODS))
def test_ranges_lie_inside_what_was_seen(values: np.ndarray, method: str) -> None:
    low, high = ranges_from({"x": histogram_of(values)}, method).bounds["x"]  # type: ignore[arg-type]
    assert float(values.min()) <= low <= high <= float(values.max())
    if method == "minmax":
        assert (low, high) == (float(values.min()), float(values.max()))


def test_clipping_methods_clip_a_lone_outlier_and_nothing_else() -> None:
    bell = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    outlier = histogram_of(bell, np.array([1000.0], np.float32))
    assert ranges_from({"x": outlier}, "percentile").bounds["x"][1] < 10
    assert ranges_from({"x": outlier}, "mse").bounds["x"][1] < 1000
    even = histogram_of(np.linspace(-1, 1, 10_001, dtype=np.float32))
    low, high = ranges_from({"x": even}, "mse").bounds["x"]
    assert low == pytest.approx(-1, abs=0.02)
    assert high == pytest.approx(1, abs=0.02)


def test_mse_is_close_to_the_best_clip_found_by_trying_them_all() -> None:
    values = np.random.default_rng(0).laplace(size=100_000).astype(np.float32)

    def error(clip: float) -> float:
        step = 2 * clip / 255
        return float(np.mean((np.clip(np.round(values / step), -128, 127) * step - values) ** 2))

    low, high = ranges_from({"x": histogram_of(values)}, "mse").bounds["x"]
    best = min(error(float(clip)) for clip in np.linspace(2, np.abs(values).max(), 100))
    # Within a tenth: the estimate takes rounding errors as even, and the clip is symmetric where the data is not quite.
    assert error(max(-low, high)) < 1.1 * best


def test_exploded_ranges_are_named() -> None:
    ranges = ranges_from({"mask": histogram_of(np.array([-3.4e38, 0], np.float32)), "x": histogram_of(np.ones(3))}, "minmax")
    assert ranges.exploded(1e6) == ["mask"]


def test_every_float_tensor_is_seen_and_inputs_of_any_dtype_have_a_range(statistics: dict[str, Statistics]) -> None:
    attention = statistics["attention"]
    assert attention.examples == 3
    assert {"x", "states"} <= attention.histograms.keys()
    assert "mask" not in attention.histograms  # it is boolean
    assert (attention.inputs["mask"].minimum, attention.inputs["mask"].maximum) == (0.0, 1.0)
    assert all(histogram.seen for histogram in attention.histograms.values())


def test_masks_of_minus_the_largest_float_are_kept_apart(statistics: dict[str, Statistics]) -> None:
    ranges = ranges_from(statistics["attention"].histograms, "minmax")
    exploded = ranges.exploded(1e6)
    assert exploded
    assert len(exploded) < len(ranges.bounds) / 2
    assert all(np.isfinite(bound).all() for bound in ranges.bounds.values())


def test_minmax_is_exact_and_variable_shapes_are_fine(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    done: list[int] = []
    statistics = calibrate(prepared["lstm"], iter(feeds["lstm"]), done.append)
    assert done == [1, 2, 3]
    everything = np.concatenate([feed["x"].ravel() for feed in feeds["lstm"]])
    assert statistics.histograms["x"].counts.sum() == everything.size
    assert ranges_from(statistics.histograms, "minmax").bounds["x"] == (everything.min(), everything.max())
    assert statistics.inputs["x"].maximum == everything.max()


def test_memory_does_not_grow_with_the_data(prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    """What is kept is one histogram a tensor, of one size, and feeds are asked for one at a time."""
    alive: list[int] = []

    def stream(count: int) -> Iterator[Feed]:
        for index in range(count):
            alive.append(index)
            yield feeds["conv"][index % 3]

    few, many = calibrate(prepared["conv"], stream(1)), calibrate(prepared["conv"], stream(20), lambda done: alive.remove(done - 1))
    kept = [sum(histogram.counts.nbytes for histogram in found.histograms.values()) for found in (few, many)]
    assert kept == [8 * BINS * len(few.histograms)] * 2
    assert alive == [0]  # the one of the first run; no feed of the second was asked for before the one before it was done


def test_shards_of_the_data_give_the_ranges_of_one_pass(
    prepared: dict[str, Graph], feeds: dict[str, list[Feed]], statistics: dict[str, Statistics]
) -> None:
    shards = [calibrate(prepared["conv"], [feed]).histograms for feed in reversed(feeds["conv"])]
    for name, whole in statistics["conv"].histograms.items():
        merged = Histogram()
        for shard in shards:
            merged.merge(shard[name])
        assert equal(merged, whole)


def broken(feed: Feed) -> Iterator[Feed]:
    yield feed
    raise OSError("no such image")


GOOD = {"image": np.zeros((1, 3, 12, 12), np.float32)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], r"calibration\(\) gave no example; give at least a few dozen"),
        ([GOOD, [1, 2]], r"on example 1: calibration\(\) gave list, expected a dict"),
        ([GOOD, {"picture": GOOD["image"]}], r"on example 1: missing \['image'\] and unknown \['picture'\]"),
        ([GOOD, {"image": GOOD["image"].astype(np.float64)}], "on example 1: input 'image': got dtype float64"),
        ([{"image": GOOD["image"][0]}], r"on example 0: input 'image': shape \[3, 12, 12\] does not fit"),
        ([{"image": GOOD["image"][:, :, :5]}], "on example 0: input 'image': .*axis 2 of size 12, got 5"),
        ([{"image": np.full((1, 3, 12, 12), np.nan, np.float32)}], "on example 0: input 'image' holds NaN or infinity"),
        ([GOOD, {"image": np.full((1, 3, 12, 12), np.inf, np.float32)}], "on example 1: input 'image' holds NaN or infinity"),
        (broken(GOOD), r"on example 1: the recipe's calibration\(\) raised OSError: no such image .*raise OSError"),
    ],
)
def test_data_that_does_not_fit(prepared: dict[str, Graph], data: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words) as caught:
        calibrate(prepared["conv"], data)
    assert "\n" not in str(caught.value)


def test_a_float_model_that_breaks_on_an_example(prepared: dict[str, Graph]) -> None:
    with pytest.raises(CalibrationError, match=r"on example 0: tensor '.*' holds NaN; the float model is broken on it"):
        calibrate(prepared["conv"], [{"image": np.full((1, 3, 12, 12), 3e38, np.float32) * np.tile([1, -1], 6).astype(np.float32)}])


def test_ctrl_c_is_not_taken_for_a_fault_of_the_data(prepared: dict[str, Graph]) -> None:
    def interrupted() -> Iterator[Feed]:
        yield GOOD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(prepared["conv"], interrupted())
