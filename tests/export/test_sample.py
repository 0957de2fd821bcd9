"""The first feeds of a calibration, kept while it streams by."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgekit_export import Sample


@given(count=st.integers(0, 30), most=st.integers(0, 40))
def test_all_go_by_and_the_first_are_kept(count: int, most: int) -> None:
    feeds = [{"x": np.full(3, index)} for index in range(count)]
    sample = Sample(feeds, most)
    assert [feed["x"][0] for feed in sample] == list(range(count))
    assert [feed["x"][0] for feed in sample.feeds] == list(range(min(count, most)))


def test_a_buffer_that_is_filled_again_does_not_change_them() -> None:
    buffer = np.zeros(2)

    def stream() -> object:
        for index in range(3):
            buffer[:] = index
            yield {"x": buffer}

    sample = Sample(stream())  # type: ignore[arg-type]
    for _ in sample:
        pass
    assert [feed["x"].tolist() for feed in sample.feeds] == [[0, 0], [1, 1], [2, 2]]


def test_what_is_no_feed_is_passed_on_for_calibration_to_refuse() -> None:
    sample = Sample([np.zeros(3)])  # type: ignore[list-item]
    assert len(list(sample)) == 1
    assert sample.feeds == []
