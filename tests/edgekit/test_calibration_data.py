import numpy as np
import pytest

from edgekit import Recipe
from edgekit.calibration_data import feeds_from, feeds_of
from edgekit_runtime.errors import CalibrationError


def test_one_file_is_split_along_its_first_axis(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.arange(6).reshape(3, 2), mask=np.ones((3, 2)))
    feeds = list(feeds_from(tmp_path / "a.npz"))
    assert [feed["ids"].tolist() for feed in feeds] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert all(feed["mask"].shape == (1, 2) for feed in feeds)


def test_a_folder_gives_a_feed_a_file_in_order(tmp_path):
    for index in (2, 0, 1):
        np.savez(tmp_path / f"{index}.npz", x=np.full((2, index + 1), index))
    assert [feed["x"].shape for feed in feeds_from(tmp_path)] == [(2, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize("arrays", [{"a": np.ones((2, 1)), "b": np.ones((3, 1))}, {"a": np.float32(1)}, {"a": np.ones((0, 2))}, {}])
def test_arrays_that_are_not_examples(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CalibrationError, match="every array needs one entry an example"):
        list(feeds_from(tmp_path / "a.npz"))


def recipe(calibration):
    return Recipe(name="a", model=lambda: None, example=dict, calibration=calibration)


def test_a_recipes_feeds_and_how_many():
    feeds = [{"x": np.ones(1)}] * 3
    data, total = feeds_of(recipe(lambda: feeds))
    assert (list(data), total) == (feeds, 3)
    data, total = feeds_of(recipe(lambda: iter(feeds)))
    assert (list(data), total) == (feeds, None)


def test_feeds_can_be_gone_through_again_without_calling_more_than_needed(tmp_path):
    calls = []

    def calibration():
        calls.append(None)
        return iter([{"x": np.array([len(calls)])}])

    data, _ = feeds_of(recipe(calibration))
    assert len(calls) == 1
    assert [feed["x"].item() for feed in data] == [1]
    assert [feed["x"].item() for feed in data] == [2]
    np.savez(tmp_path / "a.npz", x=np.arange(2))
    data = feeds_from(tmp_path / "a.npz")
    assert [feed["x"].item() for feed in data] == [feed["x"].item() for feed in data] == [0, 1]


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        (None, "it has no calibration"),
        (lambda: 3, r"calibration\(\) gave int, expected an iterable of feeds"),
        (lambda: {"x": np.ones(1)}, r"calibration\(\) gave dict"),
        (lambda: "feed", r"calibration\(\) gave str"),
        (lambda: 1 / 0, r"calibration\(\) raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_recipe_that_gives_something_else(calibration, told):
    with pytest.raises(CalibrationError, match=told):
        feeds_of(recipe(calibration))
