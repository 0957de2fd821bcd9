from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from edgekit.search.standing import leaders
from edgekit_runtime.measurement import Measurement


def state_of(candidates):
    """A search as far as `leaders` looks at one: speed-ups and dB by name."""
    figures = {name: Measurement(speedup=speedup) for name, (speedup, _) in candidates.items()}
    figures["float32"] = Measurement(speedup=1.0)
    tried = {name: SimpleNamespace(nearness=decibels) for name, (_, decibels) in candidates.items()}
    return SimpleNamespace(
        wish=SimpleNamespace(optimize="latency"), lineup=SimpleNamespace(figures=figures, tried=tried.__getitem__)
    )


@given(
    st.dictionaries(st.text("abc", min_size=1), st.tuples(st.floats(1.0, 1.5), st.floats(0, 60)), min_size=1),
    st.lists(st.floats(1.0, 1.004), min_size=40, max_size=40),
)
def test_noise_in_times_does_not_say_who_leads_among_equals(candidates, noise):
    names = sorted(candidates)
    equal = {name: (2.0 * factor, candidates[name][1]) for name, factor in zip(names, noise, strict=False)}
    names = sorted(equal)
    still = {name: (2.0, decibels) for name, (_, decibels) in equal.items()}
    assert leaders(state_of(equal), names) == leaders(state_of(still), names)


def test_nearer_comes_first_slower_stays_out_and_a_hair_is_no_difference():
    state = state_of({"a-far": (1.55, 12.2), "b-near": (1.53, 22.0), "c-slow": (1.46, 60.0), "d-hair": (1.54, 12.9)})
    assert leaders(state, ["d-hair", "c-slow", "b-near", "a-far"]) == ["b-near", "a-far", "d-hair"]
    assert leaders(state, []) == []
