"""Histograms: exact in any split and order, and the ranges that methods read off them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit_export import METHODS, ranges_from
from edgekit_export.calibration.exact_mean import ExactMean
from edgekit_export.calibration.histogram import BINS, Histogram

# Every finite float32, tiny and huge, of both signs.
VALUES = arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
BELL = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)


def histogram_of(*parts: np.ndarray) -> Histogram:
    """One histogram; each part is an example."""
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def bounds(histogram: Histogram, method: str) -> tuple[float, float]:
    return ranges_from({"x": histogram}, method).bounds["x"]  # type: ignore[arg-type]


def state(histogram: Histogram) -> tuple[object, ...]:
    """All that a histogram holds."""
    own = histogram
    return (own.minimum, own.maximum, own.top, own.counts.tobytes(), own.zeros, own.lows, own.highs)


@given(parts=st.lists(VALUES, max_size=6), data=st.data())
def test_shards_in_any_split_and_order_merge_to_what_one_pass_gives(parts: list[np.ndarray], data: st.DataObject) -> None:
    whole = histogram_of(*parts)
    merged = Histogram()
    order = data.draw(st.permutations(parts))
    while order:
        size = data.draw(st.integers(1, len(order)))
        merged.merge(histogram_of(*order[:size]))
        order = order[size:]
    assert state(merged) == state(whole)
    assert whole.counts.sum() + whole.zeros == sum(part.size for part in parts)
    if whole.seen:
        assert [bounds(merged, method) for method in METHODS] == [bounds(whole, method) for method in METHODS]


@given(parts=st.lists(VALUES.filter(len), min_size=1, max_size=4), method=st.sampled_from(METHODS))
def test_ranges_lie_inside_what_was_seen(parts: list[np.ndarray], method: str) -> None:
    values = np.concatenate(parts)
    low, high = bounds(histogram_of(*parts), method)
    assert float(values.min()) <= low <= high <= float(values.max())
    if method == "minmax":
        assert (low, high) == (float(values.min()), float(values.max()))


def test_the_bin_of_a_value_does_not_depend_on_the_order() -> None:
    small, huge = np.array([-1e-3, 1e-3], np.float32), np.array([-3.4e38], np.float32)
    assert state(histogram_of(small, huge)) == state(histogram_of(huge, small))
    assert histogram_of(small).counts.sum(axis=1).tolist() == [1, 1]
    assert histogram_of(huge, small).zeros == 2


@given(values=VALUES.filter(len))
def test_every_value_lies_between_the_edges_of_its_bin(values: np.ndarray) -> None:
    for value in values:
        histogram = histogram_of(np.array([value]))
        if histogram.zeros:
            assert abs(value) < histogram.edges[0]
        else:
            sign, place = np.argwhere(histogram.counts)[0]
            assert sign == (value < 0)
            assert histogram.edges[place] <= abs(float(value)) < histogram.edges[place + 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_counted_and_their_bounds_are_exact(dtype: type) -> None:
    values = np.array([-3.0, 0.1, 60000.0, 1e300 if dtype is np.float64 else 7.0], dtype)
    histogram = histogram_of(values)
    assert bounds(histogram, "minmax") == (-3.0, float(values.max()))
    assert histogram.counts.sum() + histogram.zeros == 4


@given(parts=st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False)), max_size=5), data=st.data())
def test_a_mean_is_rounded_once_so_that_no_order_shows(parts: list[list[float]], data: st.DataObject) -> None:
    def mean_of(lists: list[list[float]]) -> ExactMean:
        mean = ExactMean()
        for part in lists:
            other = ExactMean()
            other.add(part)
            mean.merge(other)
        return mean

    assert mean_of(parts) == mean_of(data.draw(st.permutations(parts)))
    values = [value for part in parts for value in part]
    if values:
        assert min(values) <= mean_of(parts).value <= max(values)


def test_the_average_is_of_examples_and_not_of_values() -> None:
    histogram = histogram_of(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([-3.0, *[7.0] * 50]))
    assert bounds(histogram, "average") == (-1.0, 3.0)


def test_clipping_methods_clip_a_lone_outlier_and_nothing_else() -> None:
    outlier = histogram_of(BELL, np.array([1000.0], np.float32))
    assert bounds(outlier, "percentile")[1] == pytest.approx(3.9, abs=0.3)  # the normal distribution has 99.99 % inside of 3.89
    # Squares make the outlier weigh: it is clipped to where 100 000 roundings cost as much.
    assert bounds(outlier, "mse")[1] < 1000
    assert bounds(outlier, "entropy")[1] < 130  # the least that 2048 bins of equal width and 256 levels can tell
    even = histogram_of(np.linspace(-1, 1, 10_001, dtype=np.float32))
    for method in METHODS:
        assert bounds(even, method) == pytest.approx((-1, 1), abs=0.02)


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    zero = round(-low / step)
    return float(np.mean(((np.clip(np.round(values / step) + zero, 0, 255) - zero) * step - values) ** 2))


@pytest.mark.parametrize("shape", [np.abs, lambda values: np.maximum(values, 0), lambda values: values])
def test_mse_is_close_to_the_best_clip_found_by_trying_them_all(shape: Callable[[np.ndarray], np.ndarray]) -> None:
    values = shape(np.random.default_rng(0).laplace(size=100_000).astype(np.float32))
    largest = float(np.abs(values).max())
    low = min(float(values.min()), 0.0)
    best = min(squared_error(values, max(low, -clip), clip) for clip in np.linspace(2, largest, 200))
    # Within a twentieth: the estimate takes rounding errors as even, and clips are tried 2 % apart.
    assert squared_error(values, *bounds(histogram_of(values), "mse")) < 1.05 * best


def slow_entropy(magnitudes: np.ndarray, levels: int) -> float:
    """Migacz's pseudo-code, threshold by threshold and bin by bin, on magnitudes in 2048 bins."""
    counts, edges = np.histogram(magnitudes, 2048, (0, float(magnitudes.max())))
    counts[0] = counts[1]
    best, found = np.inf, edges[-1]
    for stop in range(levels, 2049, 16):
        reference = counts[:stop].astype(float)
        reference[-1] += counts[stop:].sum()
        expanded = np.zeros(stop)
        for level in range(levels):
            start, end = round(stop * level / levels), round(stop * (level + 1) / levels)
            occupied = reference[start:end] > 0
            if occupied.any():
                expanded[start:end][occupied] = max(counts[start:end].sum(), 0.5) / occupied.sum()
        p, q = reference / reference.sum(), expanded / expanded.sum()
        divergence = float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))
        if divergence < best:
            best, found = divergence, edges[stop]
    return float(found)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (BELL, 128),
        (np.maximum(BELL, 0) ** 2, 256),
        (np.random.default_rng(1).laplace(size=200_000).astype(np.float32), 128),
        (np.random.default_rng(2).standard_t(3, size=100_000).astype(np.float32), 128),
    ],
    ids=["bell", "one-sided", "laplace", "heavy-tailed"],
)
def test_entropy_finds_about_the_threshold_of_the_talk(values: np.ndarray, levels: int) -> None:
    """A tenth of the largest value: the bins of the two are not the same, and the minimum is flat."""
    found = max(-bounds(histogram_of(values), "entropy")[0], bounds(histogram_of(values), "entropy")[1])
    magnitudes = np.abs(values[values != 0])
    assert found == pytest.approx(slow_entropy(magnitudes, levels), abs=0.1 * float(magnitudes.max()))


def test_zeros_of_a_relu_do_not_move_the_clip() -> None:
    """They are exact in every range."""
    half = np.abs(BELL)
    many_zeros = np.concatenate([half, np.zeros(1_000_000, np.float32)])
    for method in ("entropy", "mse"):
        assert bounds(histogram_of(many_zeros), method) == (0.0, bounds(histogram_of(half), method)[1])


def test_percentile_keeps_its_precision_beside_a_distant_outlier() -> None:
    """Bins of equal width would hold all of the bell in two bins."""
    outlier = histogram_of(BELL, np.array([1e4], np.float32))
    assert bounds(outlier, "percentile")[1] == pytest.approx(np.percentile(BELL, 99.995), rel=0.02)
    assert histogram_of(BELL).counts.shape == (2, BINS)
