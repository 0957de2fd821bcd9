"""Calibration: exact ranges in bounded memory, shards that merge, and data that does not fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit_export import METHODS, Graph, Statistics, calibrate, ranges_from
from edgekit_export.calibration.histogram import BINS, Histogram
from edgekit_runtime.errors import CalibrationError

Feed = dict[str, np.ndarray]


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    return histogram


def same(one: Statistics, other: Statistics) -> bool:
    """Whether all ranges of all methods are equal to the last bit."""
    return (one.inputs, one.examples) == (other.inputs, other.examples) and all(
        ranges_from(one.histograms, method).bounds == ranges_from(other.histograms, method).bounds for method in METHODS
    )


def test_exploded_ranges_are_named() -> None:
    ranges = ranges_from({"mask": histogram_of([-3.4e38, 0]), "x": histogram_of([1, 1])}, "minmax")
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
    assert kept == [2 * 8 * BINS * len(few.histograms)] * 2
    assert alive == [0]  # the one of the first run; no feed of the second was asked for before the one before it was done


@pytest.mark.parametrize("name", ["conv", "attention", "lstm"])
def test_shards_in_any_order_give_the_ranges_of_one_pass(
    name: str, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], statistics: dict[str, Statistics]
) -> None:
    one, two, three = ([feed] for feed in feeds[name])
    shards = [calibrate(prepared[name], shard) for shard in (three, one, two)]
    assert same(shards[0].merge(*shards[1:]), statistics[name])
    assert same(shards[2].merge(shards[1]).merge(shards[0]), statistics[name])


def test_shards_of_different_graphs_do_not_merge(statistics: dict[str, Statistics]) -> None:
    with pytest.raises(CalibrationError, match=r"different graphs; only one side has \['"):
        statistics["conv"].merge(statistics["lstm"])


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
