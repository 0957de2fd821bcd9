"""From counts to times: what is planted is found, what cannot be known is not said."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy.optimize import nnls

from edgekit.commands.calibrate import calibrate_device
from edgekit.labs.count_model import (
    CALL,
    FEWEST_POINTS,
    Point,
    by_class,
    find_count_model,
    fit,
    load_count_model,
    model_file,
    non_negative_least_squares,
    predict,
    save_count_model,
)
from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.counts import CacheCounts, Counts, InstructionMix
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.setup import unfinished
from edgekit.labs.placed import PlacedBenchmark
from edgekit_runtime.errors import DeviceError, InputError
from edgekit_runtime.health import BoardHealth
from edgekit_runtime.machine import Machine

# Where the user's own lab is, before tests are given a cache of their own.
LAB = Lab(lab_folder())

CLASSES = ("dot", "float_fma", "loads", "l2_misses")


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def measured(costs, count, seed, noise=0.0):
    """Networks of random mixes on a board with these costs; the last cost is the call's."""
    draw = np.random.default_rng(seed)
    mixes = 10 ** draw.uniform(5, 8, (count, len(costs) - 1))
    times = (mixes / 1e6 @ costs[:-1] + costs[-1]) * np.exp(draw.normal(0, noise, count))
    counts = [dict(zip(CLASSES, map(float, mix), strict=False)) for mix in mixes]
    return [Point(f"net{i}", each, float(ms)) for i, (each, ms) in enumerate(zip(counts, times, strict=True))]


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.01, 10.0) | st.just(0.0), min_size=3, max_size=5).filter(lambda costs: sum(costs[:-1]) > 0),
    st.integers(0, 2**32 - 1),
)
def test_planted_costs_are_found(costs, seed):
    model = fit("pi", measured(np.asarray(costs), 4 * len(costs), seed))
    assert model.method == "least squares"
    assert model.error < 1e-6
    assert all(cost >= 0 for cost in model.costs_ms.values())
    for point in measured(np.asarray(costs), 5, seed + 1):
        assert predict(model, point.counts).latency_ms == pytest.approx(point.latency_ms, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_noise_shows_in_the_error_that_is_stored(seed):
    model = fit("pi", measured(np.asarray([0.4, 0.2, 0.1, 3.0, 0.05]), 40, seed, noise=0.1))
    others = measured(np.asarray([0.4, 0.2, 0.1, 3.0, 0.05]), 400, seed + 100)
    true = np.median([abs(predict(model, point.counts).latency_ms / point.latency_ms - 1) for point in others])
    assert 0.03 < model.error < 0.2
    assert true < model.error  # the model is nearer to the board than the single noisy points that it was judged by
    assert model.error <= model.worst_error


@pytest.mark.parametrize("seed", range(5))
def test_few_points_are_held_by_a_ridge(seed):
    model = fit("pi", measured(np.asarray([0.4, 0.2, 0.1, 3.0, 0.05]), FEWEST_POINTS + 1, seed, noise=0.02))
    assert model.method == "ridge"
    assert all(np.isfinite(cost) and cost >= 0 for cost in model.costs_ms.values())


def test_too_few_points_are_refused():
    points = measured(np.asarray([0.4, 0.2, 0.1]), FEWEST_POINTS, 0)
    fit("pi", points)
    with pytest.raises(InputError, match=f"{FEWEST_POINTS - 1} networks were measured, needed are {FEWEST_POINTS}"):
        fit("pi", points[1:])
    with pytest.raises(InputError, match="all networks have the same mix"):
        fit("pi", [points[0]] * FEWEST_POINTS)


@pytest.mark.parametrize(
    ("counts", "latency_ms", "told"),
    [
        ({"dot": 1.0}, 1.0, r"odd counts \['dot'\]"),
        ({"dot": -1.0, "float_fma": 1.0}, 1.0, "odd has a count"),
        ({"dot": float("nan"), "float_fma": 1.0}, 1.0, "odd has a count"),
        ({"dot": 1.0, "float_fma": 1.0}, 0.0, "odd has a count or a time"),
        ({"dot": 1.0, "float_fma": 1.0}, float("inf"), "odd has a count or a time"),
    ],
)
def test_figures_that_are_none_are_refused(counts, latency_ms, told):
    with pytest.raises(InputError, match=told):
        fit("pi", [*measured(np.asarray([0.4, 0.2, 0.1]), FEWEST_POINTS, 0), Point("odd", counts, latency_ms)])


def test_counts_of_another_kind_and_far_away_ones():
    points = measured(np.asarray([0.4, 0.2, 0.1]), 10, 0)
    model = fit("pi", points)
    with pytest.raises(InputError, match=r"got counts of \['dot'\]"):
        predict(model, {"dot": 1.0})
    assert not predict(model, points[0].counts).extrapolated
    assert predict(model, {name: 100 * max(point.counts[name] for point in points) for name in points[0].counts}).extrapolated


def test_the_file_comes_back_as_it_was():
    model = fit("pi", measured(np.asarray([0.4, 0.2, 0.1]), 10, 0, noise=0.1))
    path = save_count_model(model)
    assert path == model_file("pi")
    assert load_count_model("pi") == model
    assert save_count_model(model) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["pi.json"]


def test_nothing_is_claimed_of_a_board_that_was_not_measured():
    with pytest.raises(DeviceError, match="no real one was measured, and counts are no times"):
        load_count_model("pi")
    with pytest.raises(InputError, match="made of small letters"):
        load_count_model("../pi")


@pytest.mark.parametrize("change", [{"format": 9}, {"costs_ms": {"dot": 1.0}}, {"costs_ms": {CALL: -1.0}}, {"error": "small"}])
def test_a_file_that_does_not_hold_is_refused(change):
    path = save_count_model(fit("pi", measured(np.asarray([0.4, 0.2, 0.1]), 10, 0)))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DeviceError, match="remove it and fit the model anew"):
        load_count_model("pi")


# Columns come scaled, so that none is all of next to nothing.
EIGHTHS = st.integers(-80, 80).map(lambda eighths: eighths / 8)


@given(arrays_of.arrays(float, (8, 4), elements=EIGHTHS), arrays_of.arrays(float, 8, elements=EIGHTHS))
def test_non_negative_least_squares_is_as_near_as_scipys(design, wanted):
    found = non_negative_least_squares(design, wanted)
    assert (found >= 0).all()
    nearest = nnls(design, wanted)[1]
    assert np.linalg.norm(design @ found - wanted) <= nearest + 1e-6 * (1 + nearest)


MIX = ("dot", "mmla", "widening_multiply", "float_fma", "other_simd", "loads", "stores", "branches", "other")
COSTS = np.asarray([0.1, 0.0, 0.2, 0.15, 0.1, 0.2, 0.1, 0.1, 0.05])


class FakeBoard:
    """A real board that costs `COSTS`, and the counter of an emulated one, for networks of random mixes."""

    name, kind = "kitchen", "device"

    def __init__(self, paths, seed=0, isa=("neon", "dotprod", "fp16"), throttling=()):
        draw = np.random.default_rng(seed)
        self.mixes = {path: (10 ** draw.uniform(5, 8, len(MIX))).astype(int) for path in paths}
        self.isa, self.throttling = isa, list(throttling)
        self.timed = []

    def bench(self, place, path):
        assert place is self
        self.timed.append(path)
        machine = Machine("aarch64", "Cortex", self.isa, 4, 4, 2**31, "Linux", "3.11.2")
        return PlacedBenchmark(
            latency_ms=float(self.mixes[path] / 1e6 @ COSTS + 0.05),
            latency_p99_ms=99.0,
            calls=100,
            cold_start_ms=1.0,
            peak_rss_bytes=None,
            size_bytes=1,
            provider="CPUExecutionProvider",
            threads=1,
            place="kitchen",
            kind="device",
            machine=machine,
            versions={},
            health_before=BoardHealth(),
            health_after=BoardHealth(throttling=self.throttling),
        )

    def count(self, board, paths):
        mixes = [list(map(int, self.mixes[path])) for path in paths]
        return [Counts(board.name, sum(mix), InstructionMix(*mix), CacheCounts(0, 0, 0), 6, 0.0) for mix in mixes]


def calibrate(paths, fake, board="raspberry-pi-5"):
    return calibrate_device("kitchen", board, paths, place=fake, bench=fake.bench, count=fake.count)


def networks(count):
    return [Path(f"net{number}.edge") for number in range(count)]


def test_a_device_is_calibrated_and_counts_then_predict_its_times():
    paths = networks(40)
    found = calibrate(paths, FakeBoard(paths))
    assert (found.device, found.board, found.method, found.warnings) == ("kitchen", "raspberry-pi-5", "least squares", [])
    assert found.error <= found.worst_error < 1e-4
    assert [point.network for point in found.points] == [path.name for path in paths]
    model = load_count_model("raspberry-pi-5")
    others = FakeBoard(networks(5), seed=1)
    for path in others.mixes:
        (counted,) = others.count(load_board("raspberry-pi-5"), [path])
        real = others.bench(others, path).latency_ms
        assert predict(model, by_class(counted.mix, counted.caches)).latency_ms == pytest.approx(real, rel=1e-3)


def test_too_few_bundles_are_refused_before_anything_is_counted_or_timed():
    paths = networks(FEWEST_POINTS - 1)
    fake = FakeBoard(paths)
    with pytest.raises(InputError, match=f"{FEWEST_POINTS - 1} bundles are too few"):
        calibrate(paths, fake)
    with pytest.raises(InputError, match="named twice"):
        calibrate([*paths, paths[0]], fake)
    assert fake.timed == []
    assert find_count_model("raspberry-pi-5") is None


def test_counts_of_another_processor_get_no_cost():
    paths = networks(8)
    with pytest.raises(
        DeviceError, match=r"kitchen is Cortex, aarch64 with neon; raspberry-pi-5 is aarch64 with neon, dotprod, fp16"
    ):
        calibrate(paths, FakeBoard(paths, isa=("neon",)))
    with pytest.raises(InputError, match="not told apart; name an ARM board"):
        calibrate(paths, FakeBoard(paths), board="cpu-x64-avx2")
    with pytest.raises(DeviceError, match="host is no device"):
        calibrate_device("host", "raspberry-pi-5", paths)
    assert not model_file("raspberry-pi-5").exists()


def test_a_board_that_was_held_back_is_told():
    paths = networks(8)
    warnings = calibrate(paths, FakeBoard(paths, throttling=["throttled", "throttled since boot"])).warnings
    assert len(warnings) == 8
    assert "held back while it was timed (throttled)" in warnings[0]
    assert calibrate(paths, FakeBoard(paths, throttling=["under-voltage since boot"])).warnings == []


def test_counts_that_are_not_told_apart_have_no_classes():
    with pytest.raises(InputError, match="not told apart"):
        by_class(None, CacheCounts(0, 0, 0))


def test_the_verb_refuses_too_few(cli):
    assert "too few" in cli("device", "calibrate", "kitchen", "--board", "raspberry-pi-5", "a.edge").line


@pytest.mark.lab
def test_counts_predict_a_time_only_where_a_board_was_calibrated(deployed, cli, monkeypatch):
    if unfinished(LAB):
        pytest.skip("the lab is not set up; run: edgekit lab setup")
    monkeypatch.setenv("EDGEKIT_CACHE", str(LAB.folder.parent))
    bench = ("bench", deployed[0] / "quadrants.edge", "--on", "raspberry-pi-5", "--any-isa", "--json")
    assert "prediction" not in json.loads(cli(*bench).out)
    paths = networks(8)
    found = calibrate(paths, FakeBoard(paths))
    benched = json.loads(cli(*bench).out)
    assert benched["prediction"]["error"] == found.error
    assert benched["prediction"]["latency_ms"] > 0
    assert not [name for name in benched if "_ms" in name or "latency" in name]
