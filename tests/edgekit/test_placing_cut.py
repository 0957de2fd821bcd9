"""The cut: no other division of a graph is cheaper, whatever the times and prices."""

from itertools import chain, combinations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.placing.cut import Block, Crossing, cheapest_cut, cost_of
from edgekit.placing.dividing import Divisible

TIMES = st.floats(0, 1000, allow_nan=False).map(lambda time: round(time, 3))


@st.composite
def graphs(draw, most=6):
    names = [f"n{index}" for index in range(draw(st.integers(1, most)))]
    blocks = {name: Block(draw(TIMES), draw(TIMES | st.just(inf))) for name in names}
    crossings = [Crossing(None, (names[0],), draw(TIMES), draw(TIMES))]
    for index, name in enumerate(names):
        later = names[index + 1 :]
        takers = tuple(draw(st.sets(st.sampled_from(later), max_size=3))) if later else ()
        leaves = not takers or draw(st.booleans())
        crossings.append(Crossing(name, takers, draw(TIMES), draw(TIMES), leaves=leaves))
    return blocks, crossings


def every_division(blocks):
    able = [name for name, block in blocks.items() if block.integer_us < inf]
    return map(set, chain.from_iterable(combinations(able, count) for count in range(len(able) + 1)))


@given(graphs())
def test_no_division_is_cheaper(graph):
    blocks, crossings = graph
    found = cost_of(blocks, crossings, cheapest_cut(blocks, crossings))
    best = min(cost_of(blocks, crossings, division) for division in every_division(blocks))
    assert found == pytest.approx(best, abs=1e-3)  # capacities are whole hundredths of a nanosecond


def test_a_lonely_gain_that_the_conversions_eat_stays_float():
    blocks = {name: Block(10.0, 8.0 if name == "b" else inf) for name in "abc"}
    values = [Crossing("a", ("b",), 1.5, 1.5), Crossing("b", ("c",), 1.5, 1.5)]
    assert cheapest_cut(blocks, values) == set()
    assert cheapest_cut(blocks, [Crossing("a", ("b",), 0.5, 0.5), Crossing("b", ("c",), 0.5, 0.5)]) == {"b"}


def test_a_value_with_many_readers_is_converted_once():
    blocks = {"a": Block(1.0, inf), **{name: Block(5.0, 3.0) for name in "bcd"}}
    # Three times 2 µs are won for one conversion of 5 µs; each reader alone would not pay for it.
    assert cheapest_cut(blocks, [Crossing("a", ("b", "c", "d"), 5.0, 0.0)]) == {"b", "c", "d"}
    assert cheapest_cut(blocks, [Crossing("a", ("b",), 5.0, 0.0), Crossing("a", ("c",), 5.0, 0.0)]) == {"d"}


@given(graphs(), st.data())
def test_a_bound_on_the_error_is_kept_and_costs_time(graph, data):
    blocks, crossings = graph
    noise = {name: data.draw(st.floats(0, 1)) for name in blocks}
    divisible = Divisible({name: name for name in blocks}, frozenset(blocks), blocks, crossings)
    fastest = divisible.fastest()
    bound = data.draw(st.floats(1e-3, 2))
    within = divisible.fastest_within(noise, bound)
    if within is not None:
        assert within.noise <= bound
        assert within.predicted_us >= fastest.predicted_us - 1e-3
