import pytest

from edgekit.candidates import candidates_for, scheme_named
from edgekit.target import Target
from edgekit_runtime.errors import TargetError


def target(**fields):
    return Target(name="board", description="d", architecture="any", **fields)


def test_clipping_methods_are_tried_with_one_placement():
    names = [one.name for one in candidates_for(target(static=("u8s8",), dynamic=("u8u8",)), calibrated=True)]
    assert names == [
        "dynamic-u8u8",
        "static-u8s8-minmax-everything",
        "static-u8s8-minmax-linear",
        "static-u8s8-minmax-weighted",
        "static-u8s8-minmax-conv",
        "static-u8s8-percentile-weighted",
        "static-u8s8-mse-weighted",
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"static": ("u7s8",)}, "unknown flavour 'u7s8'; there are u8s8"),
        ({"dynamic": ("x",)}, "unknown flavour 'x'"),
        ({"static": ("u8s8",), "methods": ("minmx",)}, "methods: unknown 'minmx'; there are minmax"),
        ({"static": ("u8s8",), "methods": ()}, "methods: none; there are minmax"),
        ({"static": ("u8s8",), "placements": ("all",)}, "placements: unknown 'all'; there are everything"),
    ],
)
def test_what_a_target_names_must_be_there(fields, told):
    with pytest.raises(TargetError, match=f"target board.*{told}"):
        candidates_for(target(**fields), calibrated=True)


@pytest.mark.parametrize(
    "name", ["int8", "dynamic", "dynamic-u8", "static-u8s8", "static-u8s8-minmax-all", "static-u8s8-x-conv", ""]
)
def test_an_unknown_scheme_says_how_schemes_are_called(name):
    with pytest.raises(
        TargetError, match="expected float32, dynamic-FLAVOUR or static-FLAVOUR-METHOD-PLACEMENT with flavours u8s8"
    ):
        scheme_named(name)
