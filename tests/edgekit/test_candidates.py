import pytest

from edgekit.candidates import (
    Candidate,
    candidates_for,
    first_and_later,
    of_other_flavour,
    scheme_named,
    static_part,
    with_static_part,
)
from edgekit.target import Target, load_target
from edgekit_export import Float32, StaticInt8
from edgekit_runtime.errors import TargetError
from edgekit_runtime.session import Provider, SessionConfig


def target(**fields):
    return Target(name="board", description="d", architecture="any", **fields)


def test_clipping_methods_are_tried_with_one_placement():
    names = [one.name for one in candidates_for(target(static=("u8s8",), dynamic=("u8u8",)), calibrated=True)]
    assert names == [
        "dynamic-u8u8",
        "static-u8s8-minmax-everything",
        "static-u8s8-minmax-convnet",
        "static-u8s8-minmax-linear",
        "static-u8s8-minmax-weighted",
        "static-u8s8-minmax-conv",
        "static-u8s8-percentile-weighted",
        "static-u8s8-mse-weighted",
        "static-u8s8-minmax-convnet+dynamic-u8u8",
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"static": ("u7s8",)}, "unknown flavour 'u7s8'; there are u8s8"),
        ({"dynamic": ("x",)}, "unknown flavour 'x'"),
        ({"static": ("u8s8",), "methods": ("minmx",)}, "methods: unknown 'minmx'; there are minmax"),
        ({"static": ("u8s8",), "methods": ()}, "methods: none; there are minmax"),
        ({"static": ("u8s8",), "placements": ("all",)}, "placements: unknown 'all'; there are everything"),
        (
            {"static": ("u8s8",), "corrections": ("debiased-equalized",)},
            "corrections: unknown 'debiased-equalized'; there are equal",
        ),
        ({"weights": ("int5-b32",)}, "weights: scheme 'weights-int5-b32': there is none"),
        ({"half": ("float8",)}, "half: scheme 'float8': there is none"),
        ({"half": ("dynamic-u8u8",)}, "half: 'dynamic-u8u8' does not belong there"),
    ],
)
def test_what_a_target_names_must_be_there(fields, told):
    with pytest.raises(TargetError, match=f"target board.*{told}"):
        candidates_for(target(**fields), calibrated=True)


def test_corrections_and_mixtures_are_tried_with_the_first_flavour():
    given = target(static=("u8u8", "u8s7"), dynamic=("u8u8", "u8s7"), methods=("minmax",), corrections=("equalized-debiased",))
    names = [one.name for one in candidates_for(given, calibrated=True)]
    assert names[-3:] == [
        "static-u8u8-minmax-convnet-equalized-debiased",
        "static-u8u8-minmax-weighted-equalized-debiased",
        "static-u8u8-minmax-convnet+dynamic-u8u8",
    ]
    only = target(static=("u8u8",), methods=("minmax",), placements=("weighted",), corrections=("debiased",))
    assert [one.name for one in candidates_for(only, calibrated=True)] == [
        "static-u8u8-minmax-weighted",
        "static-u8u8-minmax-weighted-debiased",
    ]
    assert candidates_for(only, calibrated=False) == []


def test_nothing_is_clipped_to_fit_16_bits():
    names = [one.name for one in candidates_for(target(static=("u16s8",)), calibrated=True)]
    assert names
    assert all(name.startswith("static-u16s8-minmax-") for name in names)


def test_what_only_saves_space_is_tried_for_size():
    given = target(weights=("int4-b32", "int8-b128"), half=("float16", "float16-stored"))
    for_time, for_size = (
        [one.name for one in candidates_for(given, calibrated=False, optimize=optimize)] for optimize in ("latency", "size")
    )
    assert for_time == ["weights-int4-b32", "float16"]
    assert for_size == ["weights-int4-b32", "weights-int8-b128", "float16", "float16-stored"]


@pytest.mark.parametrize(
    ("session", "name"),
    [
        (SessionConfig(), "float32"),
        (SessionConfig(threads=1), "float32-1thread"),
        (SessionConfig(threads=4, spinning=False), "float32-4threads-nospin"),
        (SessionConfig(memory_arena=False, blocked_layout=False), "float32-noarena-plainlayout"),
        (SessionConfig(graph_optimization="extended"), "float32-extended"),
    ],
)
def test_session_options_are_part_of_the_name(session, name):
    assert Candidate(Float32(), Provider(), session).name == name


@pytest.mark.parametrize("target", ["cpu-x64", "cpu-x64-avx2", "raspberry-pi-5"])
def test_a_search_begins_with_one_flavour_and_method_and_leaves_the_rest_for_later(target):
    everything = candidates_for(load_target(target), calibrated=True, corrected=False)
    first, later = first_and_later(everything)
    assert {one.name for one in first} | {one.name for one in later} == {one.name for one in everything}
    static = [one.scheme for one in first if isinstance(one.scheme, StaticInt8)]
    assert len({(scheme.flavour, scheme.method) for scheme in static}) == 1
    assert not any(scheme.corrections for scheme in static)
    placements = {static[0].placement}
    for one in later:
        if isinstance(one.scheme, StaticInt8):
            method = one.scheme.method == static[0].method
            assert of_other_flavour(one, first, placements) == (method and one.scheme.placement in placements)


@pytest.mark.parametrize(
    ("name", "static"),
    [
        ("static-u8s7-minmax-conv", "static-u8s7-minmax-conv"),
        ("static-u8s7-minmax-conv+dynamic-u8s7", "static-u8s7-minmax-conv"),
        ("dynamic-u8s7", None),
        ("weights-int4-b32", None),
    ],
)
def test_the_static_part_of_a_candidate_is_found_and_put_back(name, static):
    candidate = Candidate(scheme_named(name), Provider(), SessionConfig())
    part = static_part(candidate)
    assert (part.name if part else None) == static
    if part is not None:
        other = scheme_named("static-u8s7-mse-conv-rounded")
        changed = with_static_part(candidate, other)
        assert static_part(changed) == other
        assert changed.name == name.replace("minmax-conv", "mse-conv-rounded")
        assert with_static_part(changed, part) == candidate
