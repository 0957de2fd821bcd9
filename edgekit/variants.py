"""Variants: other modules for the same task, each a candidate as it is."""

from dataclasses import replace
from pathlib import Path

from edgekit.building import Built
from edgekit.candidates import Candidate
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.source import source_of
from edgekit_runtime.errors import EdgekitError, OutputError
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["build_variants"]


def build_variants(
    recipe: Recipe, provider: Provider, folder: Path, progress: Progress, *, fixed_shapes: bool = False
) -> list[Built]:
    """Traces each of a recipe's variants and writes its model file; one that cannot be traced has its reason in `Built.failure`.

    Args:
        recipe: The recipe.
        provider: The execution provider that will run them.
        folder: Where the files go.
        progress: Where to say what is going on.
        fixed_shapes: Fix every axis at the example's size.
    """
    from edgekit_export import AsTraced

    built = []
    for name, module in recipe.variants.items():
        progress.stage(f"trace the variant {name}")
        try:
            built.append(_built(replace(recipe, model=module, variants={}), name, provider, folder, progress, fixed_shapes))
        except (OSError, OutputError, MemoryError):
            raise  # a full disk is no fault of the variant
        except EdgekitError as error:
            candidate = Candidate(AsTraced(name), provider, SessionConfig())
            built.append(Built(candidate, None, "float32", failure=str(error)))
    return built


def _built(recipe: Recipe, name: str, provider: Provider, folder: Path, progress: Progress, fixed_shapes: bool) -> Built:
    from edgekit_export import AsTraced, optimize_float
    from edgekit_export.rewrites import integer_activations
    from edgekit_export.traced_integers import kind_of, may_saturate

    source = source_of(recipe, progress, fixed_shapes=fixed_shapes)
    kind = kind_of(source.prepared)
    if kind == "float32":
        graph = optimize_float(source.prepared) if provider == Provider() else source.prepared
    else:
        graph = integer_activations(source.prepared)
    path = folder / f"variant-{name}.onnx"
    graph.save(path)
    scheme = AsTraced(name, saturates=may_saturate(source.prepared))
    return Built(Candidate(scheme, provider, SessionConfig()), path, kind, tuple(source.notes))
