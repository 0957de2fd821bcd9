"""From a recipe to a float graph that is ready to be quantized."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.progress import Progress
from edgekit.recipe import Arrays, Recipe
from edgekit_runtime.errors import EdgekitError, InputError, RecipeError
from edgekit_runtime.tensors import FeedCheck

if TYPE_CHECKING:
    from edgekit_export import Graph, Parity

__all__ = ["Source", "example_of", "source_of"]


@dataclass(frozen=True)
class Source:
    """A recipe's model as a graph.

    Attributes:
        traced: As exported or read, before anything was done to it.
        prepared: Ready to be quantized.
        example: The recipe's example.
        route: The export route, or ``onnx file``.
        parity: The comparison with the module; ``None`` for a file.
        notes: What a user should know, in sentences.
    """

    traced: "Graph"
    prepared: "Graph"
    example: Arrays
    route: str
    parity: "Parity | None"
    notes: list[str] = field(default_factory=list)


def source_of(recipe: Recipe, progress: Progress, *, fixed_shapes: bool = False) -> Source:
    """Traces the recipe's module, or reads its file, and prepares the graph.

    Args:
        recipe: The recipe.
        progress: Where to say what is going on.
        fixed_shapes: Fix every axis at the example's size.

    Raises:
        RecipeError: The model or the example does not hold.
        TraceError: The module cannot be exported.
        ParityError: The exported graph computes something else.
        GraphError: The file is not a sound model.
    """
    from edgekit_export import Graph, fix_shapes, prepare, trace

    example = example_of(recipe)
    dynamic = {} if fixed_shapes else recipe.dynamic
    notes = []
    if isinstance(recipe.model, Path):
        progress.stage(f"read {recipe.model.name}")
        graph, route, parity = Graph.read(recipe.model), "onnx file", None
        _check_example(graph, example, recipe)
        if fixed_shapes:
            graph = fix_shapes(graph, {name: array.shape for name, array in example.items()})
    else:
        progress.stage("trace the module and compare the graph with it")
        traced = trace(_module_of(recipe), example, dynamic, recipe.outputs)
        graph, route, parity = traced.graph, traced.route, traced.parity
        notes += [f"export route {name} did not work: {reason}" for name, reason in traced.failed_routes.items()]
    progress.stage("prepare the graph")
    prepared = prepare(graph, [example])
    notes += [f"{change.step}: {change.detail}" for change in prepared.changes if change.detail.startswith("left out")]
    return Source(graph, prepared, example, route, parity, notes)


def example_of(recipe: Recipe) -> Arrays:
    """The recipe's example, checked.

    Raises:
        RecipeError: It raises, or is not a dict of arrays.
    """
    from edgekit_export.example_feeds import check_example

    try:
        example = recipe.example()
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:
        raise RecipeError(f"recipe {recipe.name}: example() raised {type(error).__name__}: {error}") from error
    return check_example(example, recipe.dynamic)


def _module_of(recipe: Recipe) -> object:
    assert not isinstance(recipe.model, Path)
    try:
        return recipe.model()
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:
        raise RecipeError(f"recipe {recipe.name}: model() raised {type(error).__name__}: {error}") from error


def _check_example(graph: "Graph", example: Arrays, recipe: Recipe) -> None:
    try:
        FeedCheck(graph.inputs).check(example)
    except InputError as error:
        raise RecipeError(f"recipe {recipe.name}: example() does not fit the model file: {error}") from error
