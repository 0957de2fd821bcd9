"""Inputs that look unlike calibration's are told; others are not."""

import msgspec
import numpy as np
import pytest

from edgekit_runtime.manifest import InputRange, Manifest
from edgekit_runtime.preprocessing import outside_calibration


@pytest.fixture
def manifest():
    fields = dict.fromkeys(Manifest.__struct_fields__)
    return msgspec.structs.replace(Manifest(**fields), preprocessing={"image": InputRange(-1.0, 1.0)})


@pytest.mark.parametrize(
    ("value", "word"), [(255.0, "spans"), (-4.0, "spans"), (np.nan, "NaN"), (np.inf, "spans"), (1.4, None), (0.0, None)]
)
def test_only_what_is_far_outside_is_told(manifest, value, word):
    told = outside_calibration(manifest, {"image": np.full((1, 2), value, np.float32), "other": np.full(3, 1e9)})
    assert len(told) == (word is not None)
    assert word is None or (word in told[0] and "'image'" in told[0])


def test_nothing_is_known_of_a_plain_model():
    assert outside_calibration(None, {"image": np.full(3, 1e9)}) == []
