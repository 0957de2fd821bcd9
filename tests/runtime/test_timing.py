"""Interleaved rounds and ratios with an interval; nothing here depends on how fast this machine is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgekit_runtime import InputError, timing
from edgekit_runtime.timing import Timings, interleave, speedup


@pytest.fixture
def ticking(monkeypatch):
    """A clock that a call advances by what it is said to cost, in milliseconds."""
    now = [0]
    monkeypatch.setattr(timing, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(timing, "sleep", lambda _: None)

    def calls(costs, log=None):
        def make(name, cost_ms):
            def call():
                now[0] += round(cost_ms * 1e6)
                if log is not None:
                    log.append(name)

            return call

        return {name: make(name, cost) for name, cost in costs.items()}

    return calls


def test_each_round_calls_each_once_in_a_block(ticking):
    log = []
    timings = interleave(ticking({"slow": 4.0, "fast": 1.0}, log), rounds=5, slot_ms=8.0)
    assert timings["slow"].calls_ms.shape == (5, 3), "at least three calls a slot"
    assert timings["fast"].calls_ms.shape == (5, 8), "as many calls as fill a slot"
    assert (timings["slow"].median_ms, timings["fast"].median_ms) == (4.0, 1.0)
    assert (timings["slow"].p99_ms, timings["fast"].rounds) == (4.0, 5)
    # Four calls each to choose the repeats, then per round two milliseconds that are not counted and the slot.
    rounds = log[8:]
    assert len(rounds) == 5 * (1 + 3 + 2 + 8)
    orders = []
    for start in range(0, len(rounds), 14):
        block = rounds[start : start + 14]
        slow_first = block == ["slow"] * 4 + ["fast"] * 10
        assert slow_first or block == ["fast"] * 10 + ["slow"] * 4
        orders.append(slow_first)
    assert len(set(orders)) == 2, "the order changes from round to round"


def test_a_model_s_threads_come_to_rest_before_another_is_timed(ticking, monkeypatch):
    pauses = []
    monkeypatch.setattr(timing, "sleep", pauses.append)
    interleave(ticking({"a": 1.0, "b": 1.0}), rounds=4, settle_ms=30)
    assert pauses == [0.03] * 8
    pauses.clear()
    interleave(ticking({"alone": 1.0}), rounds=4)
    assert pauses == [], "there is nobody to wait for"


def test_the_order_follows_the_seed(ticking):
    logs = []
    for seed in (1, 1, 2):
        logs.append([])
        interleave(ticking({"a": 1.0, "b": 1.0, "c": 1.0}, logs[-1]), rounds=8, slot_ms=1.0, seed=seed)
    assert logs[0] == logs[1] != logs[2]


def test_progress_is_told(ticking):
    told = []
    interleave(ticking({"a": 1.0}), rounds=3, on_round=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_call_that_fails_is_not_swallowed():
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        interleave({"a": fail})


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused(rounds):
    with pytest.raises(InputError, match=f"rounds={rounds}, expected 1 or more"):
        interleave({"a": lambda: None}, rounds=rounds)


POSITIVE = st.floats(1e-3, 1e6)


@st.composite
def pairs(draw):
    rounds = draw(st.integers(1, 12))
    return [Timings(draw(npst.arrays(float, (rounds, draw(st.integers(1, 5))), elements=POSITIVE))) for _ in range(2)]


@given(pair=pairs())
def test_the_interval_holds_the_ratio_of_the_medians(pair):
    slow, fast = pair
    ratio = speedup(slow, fast)
    assert ratio.value == slow.median_ms / fast.median_ms
    assert ratio.interval[0] <= ratio.value <= ratio.interval[1]
    assert ratio == speedup(slow, fast), "the same seed gives the same interval"


def test_the_interval_of_a_clear_difference_excludes_one():
    draw = np.random.default_rng(0)
    slow, fast = (Timings(scale * draw.lognormal(0.0, 0.1, (25, 9))) for scale in (2.0, 1.0))
    low, high = speedup(slow, fast).interval
    assert 1.8 < low < 2.0 < high < 2.2
    assert speedup(fast, slow).interval[1] < 1.0
    assert speedup(slow, fast, seed=1) != speedup(slow, fast, seed=2)


def test_a_slow_spell_that_falls_on_both_cancels():
    """Every other round is five times slower, for both: the ratio stays two, with a narrow interval."""
    draw = np.random.default_rng(0)
    spell = np.where(np.arange(26) % 2, 5.0, 1.0)[:, None]
    slow, fast = (Timings(scale * spell * draw.lognormal(0.0, 0.01, (26, 9))) for scale in (2.0, 1.0))
    low, high = speedup(slow, fast).interval
    assert 1.9 < low < high < 2.1


def test_rounds_that_were_not_taken_together_are_refused():
    with pytest.raises(ValueError, match="2 rounds against 3"):
        speedup(Timings(np.ones((2, 3))), Timings(np.ones((3, 3))))
