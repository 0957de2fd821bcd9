"""How the report writes figures, where it puts labels, and what its drop axis shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.report.axes_range import drop_range
from edgekit.report.label_placement import Box, place_labels
from edgekit.report.numbers import drop_decimals, fixed, plain, share, significant


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_not_finite_is_a_dash(bad: float) -> None:
    assert {significant(bad), fixed(bad, 3), significant(None), fixed(None, 3)} == {"—"}


@given(
    st.floats(0.0001, 0.1),
    st.lists(st.floats(-1, 1), min_size=1, max_size=12),
)
def test_budget_takes_a_readable_part_of_the_axis_whatever_the_outliers(max_drop: float, drops: list[float]) -> None:
    limits = drop_range([(drop, (drop - 0.01, drop + 0.01)) for drop in drops], max_drop)
    assert limits.best < 0 < max_drop < limits.worst
    assert max_drop / (limits.worst - limits.best) > 0.15


def test_labels_do_not_cover_each_other_where_there_is_room() -> None:
    frame = Box(0, 0, 600, 300)
    points = [(100.0, 150.0), (104.0, 152.0), (110.0, 149.0), (400.0, 20.0), (590.0, 290.0)]
    sizes = [(90.0, 13.0)] * len(points)
    places = place_labels(points, sizes, frame)
    boxes = []
    for (x, y), (width, height), place in zip(points, sizes, places, strict=True):
        left = x + place.dx - {"left": 0, "right": width, "center": width / 2}[place.align]
        boxes.append(Box(left, y + place.dy - height / 2, left + width, y + place.dy + height / 2))
    assert not any(place.covers for place in places)
    assert all(box.inside(frame) for box in boxes)
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


@given(st.floats(-1e300, 1e300))
def test_three_digits_are_what_is_read_back(value: float) -> None:
    text = significant(value).replace("\u202f", "").replace("−", "-")
    mantissa, _, power = text.partition("×10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    assert float(f"{mantissa}e{exponent}") == pytest.approx(value, rel=0.0051, abs=0)


@given(st.floats(0, 1))
def test_a_share_is_never_rounded_to_all_or_nothing(fraction: float) -> None:
    assert (share(fraction) == "100\u00a0%") == (fraction == 1)
    assert (share(fraction) == "0\u00a0%") == (fraction == 0)


@pytest.mark.parametrize(
    ("max_drop", "decimals", "text"), [(0.005, 4, "0.005"), (0.01, 4, "0.01"), (0.1, 3, "0.1"), (2.0, 1, "2"), (0.0, 4, "0")]
)
def test_decimals_follow_the_budget(max_drop: float, decimals: int, text: str) -> None:
    assert drop_decimals(max_drop) == decimals
    assert plain(max_drop) == text
