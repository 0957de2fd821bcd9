"""The benchmark of peers: who counts as a rival, what the bars say, the feeds that all get, and the processes that are timed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rivals import environments, models, workers
from benchmarks.rivals.environments import PEERS, pins_of
from benchmarks.rivals.judging import CPU, HOST, Result, bars, best_rival, over, rows, summary
from benchmarks.rivals.material import fitted, spread
from benchmarks.rivals.models import BASELINE, DEFAULTS, Contestant, contestants
from benchmarks.rivals.serving import MODULES
from benchmarks.rivals.timing_rounds import take_rounds
from benchmarks.rivals.workers import Worker, WorkerError
from benchmarks.ten_networks import NETWORKS, ROOT
from edgekit.recipe_file import load_recipe
from edgekit_runtime.errors import MissingExtraError

from .conftest import quadrants_model

decibels = st.floats(-200, 200)


def result(name: str, latency_ms: float, sqnr_db: float) -> Result:
    return Result(name, name, [latency_ms] * 5, sqnr_db)


def results(*given: Result) -> dict[str, Result]:
    return {one.name: one for one in (result(BASELINE, 10.0, 200.0), *given)}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_has_a_recipe_with_calibration(network):
    try:
        recipe = load_recipe(str(ROOT / NETWORKS[network]))
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert recipe.calibration is not None


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_is_pinned_exactly(peer):
    lines = pins_of(peer).read_text().split()
    assert lines
    assert all("==" in line for line in lines)


def test_every_peer_has_ways_of_its_own_and_onnxruntime_comes_before_those_that_use_its_files():
    everybody = contestants(list(MODULES))
    names = [one.name for one in everybody]
    assert len(set(names)) == len(names)
    assert {BASELINE, DEFAULTS, HOST, CPU} <= set(names)
    assert names.index("onnxruntime/u8s8") < names.index("openvino/qdq")


def test_a_rival_of_worse_outputs_does_not_count():
    ours = result(HOST, 5.0, 30.0)
    found = best_rival(ours, results(ours, result("a/fast", 1.0, 29.0), result("a/near", 6.0, 31.0)))
    assert found is not None
    assert found.name == "a/near"


def test_edgekits_other_choice_is_no_rival():
    ours = result(HOST, 5.0, 30.0)
    found = best_rival(ours, results(ours, result(CPU, 1.0, 50.0)))
    assert found is not None
    assert found.name == BASELINE


def test_floats_rounding_is_one_class():
    ours = result(HOST, 5.0, 130.0)
    found = best_rival(ours, results(ours, result("a/float32", 2.0, 110.0)))
    assert found is not None
    assert found.name == "a/float32"


@given(ours=decibels, theirs=st.lists(decibels, max_size=6))
def test_the_best_rival_is_as_near_as_ours_and_no_slower_than_float(ours, theirs):
    mine = result(HOST, 5.0, ours)
    all_of_them = results(mine, *(result(f"a/{place}", 1.0 + 4 * place, near) for place, near in enumerate(theirs)))
    found = best_rival(mine, all_of_them)
    assert found is not None  # float32 is always one
    assert found.closeness_db >= mine.closeness_db - 0.1
    assert over(found, all_of_them[BASELINE]).value >= 1.0


def test_bars_are_geometric_means_over_networks():
    one = results(result(HOST, 5.0, 30.0), result(CPU, 5.0, 30.0), result(DEFAULTS, 20.0, 10.0))
    two = results(result(HOST, 1.25, 30.0), result(CPU, 1.25, 30.0), result(DEFAULTS, 20.0, 10.0))
    best, alone, defaults, *each = bars({"one": one, "two": two})
    assert best.value == pytest.approx(4.0)  # 2 and 8 over float32, the only rival that is as near
    assert alone.value == pytest.approx(4.0)
    assert defaults.value == pytest.approx(8.0)
    assert [bar.value for bar in each] == [pytest.approx(2.0), pytest.approx(8.0)]


def test_the_summary_sets_the_best_rivals_beside_our_choices():
    given = results(
        result(HOST, 5.0, 30.0), result(CPU, 8.0, 30.0), result("openvino/nncf", 4.0, 40.0), result("onnxruntime/u8s8", 9.0, 31.0)
    )
    assert [row["speedup"] for row in summary({"one": given})] == [pytest.approx(each) for each in (2.0, 2.5, 1.25, 10 / 9)]


def test_a_network_without_our_choice_leaves_the_bar_without_a_value():
    with_ours = results(result(HOST, 5.0, 30.0), result(CPU, 5.0, 30.0), result(DEFAULTS, 20.0, 10.0))
    best, alone, *_ = bars({"one": with_ours, "two": results(Result(HOST, "", failure="it did not open"))})
    assert (best.value, best.holds) == (None, False)
    assert (alone.value, alone.holds) == (None, False)


def test_a_peer_that_failed_on_a_network_does_not_count_there():
    with_defaults = results(result(CPU, 5.0, 30.0), result(DEFAULTS, 20.0, 10.0))
    without = results(result(CPU, 5.0, 30.0), Result(DEFAULTS, "", failure="it raised"))
    assert bars({"one": with_defaults, "two": without})[2].value == pytest.approx(4.0)


def test_a_failure_is_a_row_that_says_why_and_a_loss_names_the_rival():
    failed = Result("litert/int8", "", failure="it raised")
    ours = result(HOST, 5.0, 30.0)
    table = rows("gru", results(ours, failed, result("a/fast", 2.0, 40.0)))
    by_name = {row["contestant"]: row for row in table}
    assert by_name["litert/int8"] == {"network": "gru", "contestant": "litert/int8", "note": "it raised"}
    assert by_name[HOST]["best_rival"] == "a/fast"
    assert by_name[HOST]["over_rival"] == pytest.approx(0.4)
    assert by_name[HOST]["note"]
    assert "note" not in by_name["a/fast"]


@given(st.integers(1, 200), st.integers(1, 100))
def test_spread_keeps_the_first_and_the_last(count, wanted):
    feeds = [{"x": np.full(1, index)} for index in range(count)]
    kept = [int(feed["x"][0]) for feed in spread(feeds, wanted)]
    assert len(kept) == min(count, wanted)
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert wanted == 1 or kept[-1] == count - 1


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_feeds_are_taken_apart_and_cut_or_padded_to_the_shape(rows_given, tokens, wanted):
    ids = np.arange(1, rows_given * tokens + 1).reshape(rows_given, tokens)
    found = list(fitted([{"ids": ids}], {"ids": (1, wanted)}))
    if tokens == wanted or rows_given > 1:
        assert len(found) == rows_given
    for feed, row in zip(found, ids, strict=True):
        shared = min(tokens, wanted)
        assert feed["ids"].shape == (1, wanted)
        assert feed["ids"][0, :shared].tolist() == row[:shared].tolist()
        assert not feed["ids"][0, shared:].any()


@pytest.fixture
def quadrants(tmp_path, monkeypatch):
    """Material of a small model, and a contestant whose model of it lies ready; edgekit's own interpreter stands for the peer's."""
    for module in (models, workers):
        monkeypatch.setattr(module, "BUILD", tmp_path)
    monkeypatch.setattr(models, "python_of", lambda _: Path(sys.executable))
    material = tmp_path / "material"
    draw = np.random.default_rng(0)
    feeds = [{"image": draw.normal(0, 0.7, (1, 64)).astype(np.float32)} for _ in range(2)]
    for kind in ("calibration", "evaluation"):
        (material / kind).mkdir(parents=True)
        for index, feed in enumerate(feeds):
            np.savez(material / kind / f"{index:03}.npz", **feed)
    (material / "signature.json").write_text(json.dumps({"inputs": ["image"], "outputs": ["logits"]}))
    quadrants_model(material / "model.onnx")
    monkeypatch.setattr(workers, "ROOT", ROOT)
    monkeypatch.setattr(models, "key_of", lambda _: "key")
    return material


def contestant(way: str) -> Contestant:
    return next(one for one in contestants(["onnxruntime"]) if one.way == way)


def test_a_model_is_built_served_and_timed_in_processes_of_their_own(quadrants):
    pytest.importorskip("onnxruntime.quantization")
    both = [contestant("float32"), contestant("u8s7")]
    assert [models.build(one, "quadrants", quadrants) for one in both] == [None, None]
    serving = {one.name: Worker(one, "quadrants", quadrants) for one in both}
    try:
        for worker in serving.values():
            worker.ready()
        outputs = {name: worker.run() for name, worker in serving.items()}
        medians, failures = take_rounds(serving, BASELINE, 3, lambda _: None)
    finally:
        for worker in serving.values():
            worker.close()
    assert failures == {}
    assert {name: len(found) for name, found in medians.items()} == dict.fromkeys(serving, 3)
    exact, rounded = (np.concatenate([found["logits"][0] for found in one]) for one in outputs.values())
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(exact, rounded, atol=0.05)


def test_a_model_that_does_not_open_is_told_and_so_is_one_that_is_gone(quadrants):
    broken = contestant("float32")
    broken.file("quadrants").parent.mkdir(parents=True)
    broken.file("quadrants").write_bytes(b"no model")
    worker = Worker(broken, "quadrants", quadrants)
    try:
        with pytest.raises(WorkerError, match=r"InvalidProtobuf|INVALID_PROTOBUF"):
            worker.ready()
        with pytest.raises(WorkerError, match="ended with 1"):
            worker.run()
    finally:
        worker.close()


def test_a_failed_build_is_kept_with_its_reason(quadrants):
    (quadrants / "model.onnx").write_bytes(b"no model")
    one = contestant("dynamic")
    reason = models.build(one, "quadrants", quadrants)
    assert reason is not None
    assert "Error" in reason
    quadrants_model(quadrants / "model.onnx")
    assert models.build(one, "quadrants", quadrants) == reason  # nothing that the key knows of has changed
    assert models.build(one, "quadrants", quadrants, again=True) is None


def test_an_environment_that_cannot_be_had_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "BUILD", tmp_path)
    monkeypatch.setattr(environments, "PINS", tmp_path)
    (tmp_path / "olive.txt").write_text("./no-such-package\n")
    python = tmp_path / "olive" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    reason = environments.set_up("olive")
    assert reason is not None
    assert reason.startswith("olive does not install: ERROR")
    assert not (tmp_path / "olive" / "pins.sha256").exists()
