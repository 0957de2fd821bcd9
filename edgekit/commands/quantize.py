"""Quantize: one model in one scheme, as a file, with what it lost; `deploy` is what measures and chooses."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.building import quantize_graph
from edgekit.calibration_data import feeds_from, feeds_of
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.scheme_names import scheme_named, sparing
from edgekit.source import source_of
from edgekit_runtime.errors import QuantizationError, TargetError
from edgekit_runtime.measurement import finite
from edgekit_runtime.session import KEEP_FLOAT_WEIGHTS

__all__ = ["QuantizedFile", "quantize"]


class QuantizedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A quantized model.

    Attributes:
        model: The file.
        scheme: The scheme's name.
        kind: ``int8``, ``int4``, ``float16``, ``bfloat16``, or ``mixed`` where some weights stayed float.
        size_bytes: Its size.
        float_size_bytes: The float model's.
        sqnr_db: Outputs against the float model's on the example; ``None`` where they are equal.
        max_abs_diff: Largest absolute difference there.
        calibration_examples: How many feeds the ranges come from.
        isa: Instruction sets without which it computes something else, by architecture.
        notes: What a user should know, in sentences.
    """

    model: str
    scheme: str
    kind: str
    size_bytes: int
    float_size_bytes: int
    sqnr_db: float | None
    max_abs_diff: float | None
    calibration_examples: int
    isa: dict[str, list[str]]
    notes: list[str]


def quantize(
    recipe: Recipe | str | Path,
    *,
    scheme: str,
    out: str | Path | None = None,
    calibration: str | Path | None = None,
    spare: Sequence[str] = (),
    calibration_state: str | Path | None = None,
    progress: Progress | None = None,
) -> QuantizedFile:
    """Quantizes a recipe's model, or an ``.onnx`` file, in one scheme.

    Args:
        recipe: A recipe, the path of a recipe file, or of an ``.onnx`` file.
        scheme: A candidate's name, such as ``dynamic-u8s8``, ``static-u8s8-minmax-weighted-debiased`` or ``weights-int4-b32``.
        out: The file to write; ``NAME-SCHEME.onnx`` in the current folder where left out.
        calibration: Feeds for static schemes in place of the recipe's: a folder of ``.npz`` files, or one ``.npz``.
        spare: Names of nodes that stay float all the same.
        calibration_state: A file that keeps what calibration has seen: one that was killed goes on from there, and one that is
            repeated on the same model and data runs nothing.
        progress: Told what is going on.

    Raises:
        TargetError: There is no such scheme.
        CalibrationError: A static scheme has no data, or the data does not fit.
        QuantizationError: There is nothing to quantize so.
    """
    import tempfile

    from edgekit_export import Sample, calibrate, required_isa
    from edgekit_export.saving import save_aside
    from edgekit_export.schemes import StaticInt8, parts_of
    from edgekit_runtime.accuracy import difference
    from edgekit_runtime.benchmark import size_bytes
    from edgekit_runtime.model import load

    progress = progress or Quiet()
    wanted = sparing(scheme_named(scheme), spare)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if wanted.name == "float32":
        raise TargetError("quantize to float32: there is nothing to quantize; use edgekit export")
    path = Path(out) if out is not None else Path(f"{recipe.name}-{wanted.name}.onnx")
    source = source_of(recipe, progress)
    statistics, notes, sample = None, list(source.notes), Sample([])
    static = any(isinstance(part, StaticInt8) for part in parts_of(wanted))
    if calibration is not None and not static:
        notes.append(f"the calibration data {calibration} was not used: {scheme} needs none")
    if static:
        progress.stage("calibrate")
        if calibration is None and recipe.calibration is None:
            raise QuantizationError(
                f"quantize {recipe.name} in {scheme}: a static scheme needs calibration data; give --calibration FILE.npz, or a "
                "recipe that has it, or use a dynamic scheme"
            )
        data, total = (feeds_from(Path(calibration)), None) if calibration is not None else feeds_of(recipe)
        sample = Sample(data)
        statistics = calibrate(
            source.prepared,
            sample,
            lambda done: progress.advance(done, total),
            state=Path(calibration_state) if calibration_state is not None else None,
            on_note=notes.append,
        )
    if any(isinstance(part, StaticInt8) and (part.spared or part.placement != "everything") for part in parts_of(wanted)):
        entry = ", ".join(f"{key}={value}" for key, value in KEEP_FLOAT_WEIGHTS.items())
        notes.append(
            f"outside edgekit's runtime, open it with the session entry {entry}, or onnxruntime quantizes what stayed float"
        )
    progress.stage(f"quantize in {scheme}")
    # Built so, it was opened and run once by onnxruntime: what that will not do is not written.
    quantized = quantize_graph(source.prepared, wanted, statistics, sample.feeds or [source.example])
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        given = Path(folder) / "float.onnx"
        source.prepared.save(given)
        float_bytes, reference = size_bytes(given), load(given)(source.example)
        candidate = Path(folder) / "quantized.onnx"
        quantized.graph.save(candidate)
        found = difference([load(candidate)(source.example)], [reference])
    save_aside(quantized.graph, path, source=recipe.model if isinstance(recipe.model, Path) else None)
    return QuantizedFile(
        model=str(path),
        scheme=wanted.name,
        kind=quantized.kind,
        size_bytes=size_bytes(path),
        float_size_bytes=float_bytes,
        sqnr_db=finite(found.sqnr_db),
        max_abs_diff=finite(found.max_abs_diff),
        calibration_examples=statistics.examples if statistics else 0,
        isa=required_isa(wanted),
        notes=[*notes, *quantized.notes],
    )
