"""Variants: other modules for the same task, each a candidate as it is."""

import hashlib
from dataclasses import replace
from pathlib import Path

from edgekit.building import Built
from edgekit.candidates import Candidate
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.source import source_of
from edgekit_runtime.errors import EdgekitError, OutputError
from edgekit_runtime.session import KEEP_FLOAT_WEIGHTS, Provider, SessionConfig

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
    built = []
    for name, module in recipe.variants.items():
        progress.stage(f"trace the variant {name}")
        try:
            built.append(_built(replace(recipe, model=module, variants={}), name, provider, folder, progress, fixed_shapes))
        except (OSError, OutputError, MemoryError):
            raise  # a full disk is no fault of the variant
        except EdgekitError as error:
            built.append(_failed(name, provider, str(error)))
        except Exception as error:  # noqa: BLE001 - libraries raise anything on a graph they do not know; the others may still do
            built.append(_failed(name, provider, f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return built


def _failed(name: str, provider: Provider, reason: str) -> Built:
    from edgekit_export import AsTraced

    return Built(Candidate(AsTraced(name), provider, SessionConfig()), None, "float32", failure=reason)


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
    session = SessionConfig(entries={} if kind == "float32" else dict(KEEP_FLOAT_WEIGHTS))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    return Built(Candidate(scheme, provider, session), path, kind, tuple(source.notes), sha256=sha)
