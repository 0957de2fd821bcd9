"""Finding a recipe: in a Python file of the user's, or around a plain ``.onnx`` file."""

import importlib.util
import re
import sys
import traceback
from pathlib import Path

import numpy as np

from edgekit.recipe import Arrays, Recipe
from edgekit_runtime.errors import EdgekitError, RecipeError

__all__ = ["load_recipe", "recipe_from_onnx"]


def load_recipe(where: str | Path) -> Recipe:
    """The recipe at ``path/to/file.py`` (its variable ``recipe``), ``path/to/file.py:other``, or around ``model.onnx``.

    Raises:
        RecipeError: The file is missing, raises, or has no such recipe.
    """
    text = str(where)
    path, separator, variable = text.rpartition(":")
    # A colon may belong to a Windows drive: it is a separator only behind a Python file.
    if not separator or not path.endswith(".py"):
        path, variable = text, "recipe"
    file = Path(path)
    if not file.is_file():
        problem = f"{path} is a directory" if file.is_dir() else f"there is no file {path}"
        raise RecipeError(f"load recipe {text}: {problem}; give path/to/recipe.py, or a model.onnx")
    if file.suffix == ".onnx":
        return recipe_from_onnx(file)
    if file.suffix != ".py":
        raise RecipeError(f"load recipe {text}: expected a Python file or an .onnx file, got {file.suffix or 'no suffix'}")
    found = getattr(_module(file), variable, None)
    if not isinstance(found, Recipe):
        kind = "has no variable" if found is None else f"holds a {type(found).__name__}, not an edgekit.Recipe, in"
        raise RecipeError(f"load recipe {text}: the file {kind} {variable!r}; write {variable} = edgekit.Recipe(name=…, …) in it")
    return found


def _module(file: Path) -> object:
    """Runs a Python file as a module; as with a script, what lies in its folder can be imported, then and later."""
    spec = importlib.util.spec_from_file_location(f"edgekit_recipe_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise RecipeError(f"load recipe {file}: Python cannot import it")
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A recipe's own functions may be pickled or inspected by name later: the module stays registered.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (EdgekitError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        what = f"{type(error).__name__}: {error}"
        raise RecipeError(f"load recipe {file}: it raises {what} ({_place(error, file)})") from error
    return module


def _place(error: BaseException, file: Path) -> str:
    """The file and line to look at: a syntax error's own, else the innermost line of the recipe file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file.resolve()]
    return f"{file}:{lines[-1]}" if lines else str(file)


def recipe_from_onnx(file: Path) -> Recipe:
    """A recipe around a plain model file: no data and no metric, so only what needs neither can be claimed.

    Raises:
        GraphError: The file is not a sound ONNX model.
    """
    from edgekit_export import Graph

    graph = Graph.read(file)
    dynamic = {
        spec.name: {index: label for index, axis in enumerate(spec.shape) if (label := _label(axis))} for spec in graph.inputs
    }

    def example() -> Arrays:
        draw = np.random.default_rng(0)
        feed = {}
        for spec in graph.inputs:
            shape = tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape)
            dtype = np.dtype(spec.dtype)
            feed[spec.name] = draw.standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
        return feed

    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "model"
    return Recipe(
        name=name,
        model=file,
        example=example,
        dynamic={name: axes for name, axes in dynamic.items() if axes},
        outputs=[spec.name for spec in graph.outputs],
    )


def _label(axis: int | str) -> str:
    """A free axis' name as an identifier."""
    if isinstance(axis, int):
        return ""
    cleaned = "".join(letter if letter.isalnum() else "_" for letter in axis)
    return cleaned if cleaned.isidentifier() else f"axis_{cleaned}"
