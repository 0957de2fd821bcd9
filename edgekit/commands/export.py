"""Export: a recipe's module as a float ONNX file that was compared with it."""

from pathlib import Path
from typing import Any

import msgspec

from edgekit.progress import Progress, Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import source_of
from edgekit_runtime.measurement import finite

__all__ = ["Export", "export"]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """An exported model.

    Attributes:
        model: The file.
        route: The export route that gave it, or ``onnx file``.
        inputs: What it takes.
        outputs: What it gives.
        opset: Its operator set.
        operators: Nodes by operator.
        size_bytes: Its size.
        parity: The comparison with the module; ``None`` for a file.
        changes: What was done to the graph.
        notes: What a user should know, in sentences.
    """

    model: str
    route: str
    inputs: list[str]
    outputs: list[str]
    opset: int
    operators: dict[str, int]
    size_bytes: int
    parity: dict[str, Any] | None
    changes: list[str]
    notes: list[str]


def export(recipe: Recipe | str | Path, *, out: str | Path | None = None, progress: Progress | None = None) -> Export:
    """Exports a recipe's module, or prepares its ``.onnx`` file.

    Args:
        recipe: A recipe, the path of a recipe file, or of an ``.onnx`` file.
        out: The file to write; ``NAME.onnx`` in the current folder where left out.
        progress: Told what is going on.

    Raises:
        TraceError: The module cannot be exported; says which line and what to change.
        ParityError: The exported graph computes something else.
    """
    from edgekit_export.saving import save_aside
    from edgekit_runtime.benchmark import size_bytes

    progress = progress or Quiet()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    path = Path(out) if out is not None else Path(f"{recipe.name}.onnx")
    source = source_of(recipe, progress)
    save_aside(source.prepared, path, source=recipe.model if isinstance(recipe.model, Path) else None)
    parity = source.parity
    return Export(
        model=str(path),
        route=source.route,
        inputs=[str(spec) for spec in source.prepared.inputs],
        outputs=[str(spec) for spec in source.prepared.outputs],
        opset=source.prepared.opset,
        operators=source.prepared.operators(),
        size_bytes=size_bytes(path),
        parity=None
        if parity is None
        else {
            "comparisons": parity.comparisons,
            "sizes": {axis: list(sizes) for axis, sizes in parity.sizes.items()},
            "max_abs_diff": finite(parity.max_abs_diff),
            "sqnr_db": finite(parity.sqnr_db),
        },
        changes=[f"{change.step}: {change.detail}" for change in source.prepared.changes],
        notes=source.notes,
    )
