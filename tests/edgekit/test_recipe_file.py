import sys
from pathlib import PureWindowsPath

import pytest

from edgekit import Recipe
from edgekit.recipe_file import load_recipe
from edgekit_runtime.errors import GraphError, RecipeError

MADE = "from edgekit import Recipe\n{} = Recipe(name='a', model=lambda: None, example=dict)\n"


@pytest.fixture(autouse=True)
def _path():
    before = list(sys.path)
    yield
    sys.path[:] = before


def written(tmp_path, text, name="recipe.py"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_the_variable_is_recipe_or_the_one_named(tmp_path):
    path = written(tmp_path, MADE.format("recipe") + MADE.format("other"))
    assert isinstance(load_recipe(path), Recipe)
    assert isinstance(load_recipe(f"{path}:other"), Recipe)
    with pytest.raises(RecipeError, match=r"has no variable 'third'; write third = edgekit.Recipe"):
        load_recipe(f"{path}:third")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recipe = 3", "holds a int, not an edgekit.Recipe, in 'recipe'"),
        ("a = 1\nb = = 2\n", r"SyntaxError: invalid syntax .*recipe.py:2\)"),
        ("a = 1\n\nb = 1 / 0\n", r"it raises ZeroDivisionError: division by zero \(.*recipe.py:3\)"),
        ("import nowhere\n", r"ModuleNotFoundError: No module named 'nowhere' \(.*recipe.py:1\)"),
        (
            "from edgekit import Recipe\nrecipe = Recipe(name='a')\n",
            r"missing 2 required .*'model' and 'example' \(.*recipe.py:2\)",
        ),
        ("from edgekit import Recipe\nRecipe(name='A b', model=dict, example=dict)\n", "recipe name 'A b'"),
        ("import sys\nsys.exit(0)\n", r"it raises SystemExit: 0 \(.*recipe.py:2\)"),
    ],
)
def test_a_file_that_does_not_hold_is_told_with_its_line(tmp_path, text, told):
    with pytest.raises(RecipeError, match=told):
        load_recipe(written(tmp_path, text))


def test_a_syntax_error_in_an_imported_file_names_that_file(tmp_path):
    written(tmp_path, "x = (\n", "broken_part.py")
    with pytest.raises(RecipeError, match=r"broken_part.py:1\)"):
        load_recipe(written(tmp_path, "import broken_part\n"))


def test_missing_files_directories_and_other_kinds(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no file .*nothing.py; give path/to/recipe.py, or a model.onnx"):
        load_recipe(tmp_path / "nothing.py")
    with pytest.raises(RecipeError, match="is a directory"):
        load_recipe(tmp_path)
    with pytest.raises(RecipeError, match=r"expected a Python file or an .onnx file, got .txt"):
        load_recipe(written(tmp_path, "", "recipe.txt"))
    with pytest.raises(GraphError, match="not a sound ONNX model"):
        load_recipe(written(tmp_path, "nonsense", "model.onnx"))


def test_a_drive_letter_is_not_a_variable():
    path = PureWindowsPath("C:/models/recipe.py")
    with pytest.raises(RecipeError, match=r"there is no file C:\\models\\recipe.py;"):
        load_recipe(str(path))
    with pytest.raises(RecipeError, match=r"there is no file C:\\models\\recipe.py;"):
        load_recipe(f"{path}:other")


def test_files_beside_the_recipe_can_be_imported_then_and_later(tmp_path):
    written(tmp_path, "NAME = 'neighbour'\n", "part_one.py")
    written(tmp_path, "VALUE = 3\n", "part_two.py")
    text = (
        "from edgekit import Recipe\nfrom part_one import NAME\n"
        "def build():\n    from part_two import VALUE\n    return VALUE\n"
        "recipe = Recipe(name=NAME, model=build, example=dict)\n"
    )
    recipe = load_recipe(written(tmp_path, text))
    assert recipe.name == "neighbour"
    assert recipe.model() == 3


def test_an_onnx_file_is_a_recipe_without_data(project):
    (project / "quadrants.onnx").rename(project / "Modèle 2.onnx")
    recipe = load_recipe(project / "Modèle 2.onnx")
    assert recipe.name == "mod-le-2"
    assert recipe.calibration is recipe.metric is None
    assert recipe.dynamic == {"image": {0: "batch"}}
    assert list(recipe.outputs) == ["logits"]
    assert recipe.example()["image"].shape == (1, 64)
