"""The benchmark's verdicts on int8: the fastest that keeps every metric, and bars that say what falls short."""

from dataclasses import replace

import pytest

from benchmarks.int8.measuring import FLOAT, NAIVE, OURS, Figures, Measured
from benchmarks.int8.naive import PER_CHANNEL
from benchmarks.int8.networks import NETWORKS, Goal, Network
from benchmarks.int8_quality import ROOT, bars, best_of, row
from edgekit.recipe_file import load_recipe
from edgekit.scheme_names import scheme_named
from edgekit_runtime.errors import MissingExtraError
from edgekit_runtime.timing import Ratio

NETWORK = Network(goals=(Goal("a.py:one", "one", least=0.725), Goal("a.py:two", "two", drop=0.001)), schemes=(), speed=1.8)


def figures(metrics: list[float], speed: float, size: float = 0.25, kind: str = OURS, sqnr_db: float = 20.0) -> Figures:
    return Figures(kind, metrics, size, Ratio(speed, (speed, speed)), sqnr_db=sqnr_db, precise_sqnr_db=sqnr_db)


def measured(weights_share: float = 0.99, **ours: Figures) -> Measured:
    known = {FLOAT: figures([0.729, 0.656], 1.0, 1.0, FLOAT), PER_CHANNEL: figures([0.1, 0.1], 9.0, 0.25, NAIVE)}
    return Measured({**known, **ours}, weights_share)


GOOD, WORSE, SLOW = figures([0.728, 0.656], 2.0), figures([0.728, 0.654], 3.0), figures([0.729, 0.656], 1.5)


def test_the_fastest_that_keeps_every_metric_is_best():
    assert best_of(NETWORK, measured(slow=SLOW, good=GOOD, worse=WORSE)) == "good"


def test_models_of_others_are_never_the_best():
    assert best_of(NETWORK, measured()) is None


def test_where_none_keeps_the_metrics_the_nearest_is_shown_and_its_bars_fall_short():
    worst = figures([0.6, 0.656], 4.0)
    found = measured(worst=worst, worse=WORSE)
    assert best_of(NETWORK, found) == "worse"
    judged = {bar.name: bar.holds for bar in bars("n", NETWORK, found, "worse")}
    assert not judged["n: two lost"]
    assert judged["n: one"]


def test_size_counts_where_weights_are_most_of_the_file():
    large = replace(GOOD, size_ratio=0.5, speed=Ratio(5.0, (5.0, 5.0)))
    assert best_of(NETWORK, measured(good=GOOD, large=large)) == "good"
    assert best_of(NETWORK, measured(weights_share=0.5, good=GOOD, large=large)) == "large"
    assert best_of(NETWORK, measured(large=large)) == "large"
    assert not any(bar.name.endswith("size") for bar in bars("n", NETWORK, measured(weights_share=0.5, good=GOOD), "good"))


def test_outputs_have_to_be_nearer_than_the_naive_ones():
    network = replace(NETWORK, over_naive_db=3.0)
    near = replace(GOOD, sqnr_db=23.1, precise_sqnr_db=23.1)
    # Nearer in kernels that saturate, which spoil the naive one, and not in precise ones.
    far = replace(GOOD, sqnr_db=40.0, precise_sqnr_db=22.9, speed=Ratio(5.0, (5.0, 5.0)))
    assert best_of(network, measured(near=near, far=far)) == "near"


def test_bars_of_a_model_that_holds_all_hold():
    judged = bars("n", NETWORK, measured(good=GOOD), "good")
    assert len(judged) == 6
    assert all(bar.holds for bar in judged)


def test_bars_of_a_network_without_any_model_fall_short():
    judged = bars("n", NETWORK, measured(failed=Figures(OURS, note="it raised")), None)
    assert not any(bar.holds for bar in judged)
    assert {bar.value for bar in judged} == {None}


def test_a_row_of_a_failure_says_why():
    found = row("n", NETWORK, "failed", Figures(OURS, note="it raised"), figures([0.7, 0.6], 1.0), None)
    assert found["note"] == "it raised"
    assert found["speed"] is None


@pytest.mark.parametrize("name", NETWORKS)
def test_every_scheme_and_recipe_that_is_named_exists(name):
    network = NETWORKS[name]
    for scheme in network.schemes:
        assert scheme_named(scheme).name == scheme
    for goal in network.goals:
        try:
            assert load_recipe(str(ROOT / goal.recipe)).metric is not None
        except MissingExtraError as error:
            pytest.skip(str(error))
