"""Names of schemes read back as what they are, and a wrong one is answered with how they are called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.scheme_names import grammar, scheme_named, sparing
from edgekit_export import (
    CORRECTIONS,
    FLAVOURS,
    METHODS,
    PLACEMENTS,
    BFloat16,
    DynamicInt8,
    Float16,
    Float32,
    Mixture,
    StaticInt8,
    WeightOnly,
)
from edgekit_export.mixture import check_mixture
from edgekit_export.schemes import BLOCKS
from edgekit_runtime.errors import QuantizationError, TargetError

FLAVOUR = st.sampled_from(list(FLAVOURS.values()))
STATIC = st.builds(
    StaticInt8,
    FLAVOUR,
    st.sampled_from(METHODS),
    st.sampled_from(PLACEMENTS),
    granularity=st.sampled_from(["channel", "tensor"]),
    corrections=st.sets(st.sampled_from(CORRECTIONS)).map(lambda some: tuple(one for one in CORRECTIONS if one in some)),
    tables=st.booleans(),
    outputs=st.sampled_from(["integer", "float"]),
)
DYNAMIC = st.builds(DynamicInt8, FLAVOUR, tables=st.booleans())
WEIGHTS = st.builds(
    WeightOnly,
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from(BLOCKS),
    symmetric=st.booleans(),
    accuracy_level=st.sampled_from([1, 4]),
    tables=st.booleans(),
)
HALF = st.builds(Float16, st.booleans()) | st.builds(BFloat16, st.booleans())
PARTS = STATIC | DYNAMIC | WEIGHTS | HALF


@given(PARTS | st.just(Float32()))
def test_a_name_reads_back_as_its_scheme(scheme):
    assert scheme_named(scheme.name) == scheme


@given(st.lists(PARTS, min_size=2, max_size=4))
def test_a_mixtures_name_reads_back_where_its_parts_go_together(parts):
    mixture = Mixture(tuple(parts))
    try:
        check_mixture(mixture)
    except QuantizationError as error:
        with pytest.raises(TargetError, match=re.escape(str(error))):
            scheme_named(mixture.name)
    else:
        assert scheme_named(mixture.name) == mixture


@given(STATIC, st.data())
def test_tokens_in_another_order_are_another_name(scheme, data):
    tokens = scheme.name.split("-")
    mixed = data.draw(st.permutations(tokens))
    if mixed != tokens:
        with pytest.raises(TargetError):
            scheme_named("-".join(mixed))


@pytest.mark.parametrize(
    "name",
    [
        *("int8", "dynamic", "dynamic-u8", "static-u8s8", "static-u8s8-minmax-all", "static-u8s8-x-conv", ""),
        *("static-u8s8-minmax-conv-better", "static-u8s8-minmax-conv-spared2", "dynamic-u8s8-tensor", "weights-int5-b32"),
        *("weights-int4", "weights-int4-b33", "float16-packed", "dynamic-u8s8+", "+", "dynamic-u8s8+int8"),
    ],
)
def test_a_wrong_name_says_how_schemes_are_called(name):
    with pytest.raises(TargetError) as caught:
        scheme_named(name)
    told = str(caught.value)
    assert all(line in told for line in grammar())
    assert all(flavour in told for flavour in FLAVOURS)


def test_the_help_lists_all_that_there_is(cli):
    """It is written by hand, so that ``--help`` need not import torch."""
    ended = cli("quantize", "--help")
    words = set(re.findall(r"[\w]+", ended.out))
    assert "[-tensor][-floatoutputs][-CORRECTION...]" in ended.out
    assert {*FLAVOURS, *METHODS, *PLACEMENTS, *CORRECTIONS, *map(str, BLOCKS)} <= words


def test_what_is_spared_is_spared_in_every_part():
    scheme = scheme_named("static-u8s7-minmax-conv+dynamic-u8s7")
    spared = sparing(scheme, ["a", "b", "a"])
    assert [part.spared for part in spared.parts] == [("a", "b"), ("a", "b")]
    assert spared.name == "static-u8s7-minmax-conv-spared2+dynamic-u8s7-spared2"
    assert sparing(scheme, []) == scheme
    for name in ("float16", "weights-int4-b32+float16", "float32"):
        with pytest.raises(TargetError, match="only dynamic, static and weights schemes leave some nodes out"):
            sparing(scheme_named(name), ["a"])
