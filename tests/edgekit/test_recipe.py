from pathlib import Path

import numpy as np
import pytest

from edgekit import Recipe
from edgekit_runtime.errors import RecipeError

GOOD = {"name": "good-1", "model": lambda: None, "example": dict}


def test_what_may_be_left_out():
    recipe = Recipe(**GOOD)
    assert recipe.calibration is recipe.evaluation is recipe.metric is None
    assert recipe.predict(lambda feed: {"y": feed["x"]}, {"x": 3}) == {"y": 3}
    assert Recipe(**GOOD | {"model": Path("a.onnx"), "dynamic": {"x": {0: "batch"}}, "outputs": ("y",)}).outputs == ("y",)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", "Bad Name", "lower-case letters, digits and dashes"),
        ("name", "../up", "lower-case letters, digits and dashes"),
        ("name", "", "lower-case letters"),
        ("name", 3, "lower-case letters"),
        ("model", "model.onnx", r"write pathlib.Path\('model.onnx'\)"),
        ("model", None, "model: got NoneType, expected a function"),
        ("example", {"x": np.zeros(1)}, "example: got dict, expected a function"),
        ("calibration", [1], "calibration: got list, expected a function"),
        ("evaluation", [1], "evaluation: got list"),
        ("metric", "accuracy", "metric: got str"),
        ("predict", None, "predict: got NoneType"),
        ("outputs", "logits", r"outputs: got str, expected a list of output names, like \['logits'\]"),
        ("outputs", None, "outputs: got NoneType"),
        ("outputs", [1], "outputs: got list"),
        ("dynamic", ["batch"], "dynamic: got list, expected a dict"),
        ("dynamic", {"x": 0}, r"dynamic\['x'\]: got 0, expected"),
        ("dynamic", {"x": {"batch": 0}}, r"dynamic\['x'\]"),
        ("dynamic", {"x": {0: "batch size"}}, r"dynamic\['x'\]"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_should_be(field, value, told):
    with pytest.raises(RecipeError, match=told) as error:
        Recipe(**GOOD | {field: value})
    assert "\n" not in str(error.value)
