"""Quantize: one model in one scheme, as a file, with what it lost; `deploy` is what measures and chooses."""

from pathlib import Path

import msgspec

from edgekit.building import quantize_graph
from edgekit.calibration_data import feeds_from, feeds_of
from edgekit.candidates import scheme_named
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import source_of
from edgekit_runtime.errors import QuantizationError, TargetError
from edgekit_runtime.measurement import finite

__all__ = ["QuantizedFile", "quantize"]


class QuantizedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A quantized model.

    Attributes:
        model: The file.
        scheme: The scheme's name.
        kind: ``int8``, or ``mixed`` where some weights stayed float.
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
    progress: Progress | None = None,
) -> QuantizedFile:
    """Quantizes a recipe's model, or an ``.onnx`` file, in one scheme.

    Args:
        recipe: A recipe, the path of a recipe file, or of an ``.onnx`` file.
        scheme: A candidate's name, such as ``dynamic-u8s8`` or ``static-u8s8-minmax-weighted``.
        out: The file to write; ``NAME-SCHEME.onnx`` in the current folder where left out.
        calibration: Feeds for static schemes in place of the recipe's: a folder of ``.npz`` files, or one ``.npz``.
        progress: Told what is going on.

    Raises:
        TargetError: There is no such scheme.
        CalibrationError: A static scheme has no data, or the data does not fit.
        QuantizationError: There is nothing to quantize so.
    """
    import tempfile

    from edgekit_export import StaticInt8, calibrate, required_isa
    from edgekit_export.saving import save_aside
    from edgekit_runtime.accuracy import difference
    from edgekit_runtime.benchmark import size_bytes
    from edgekit_runtime.model import load

    progress = progress or Quiet()
    wanted = scheme_named(scheme)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if wanted.name == "float32":
        raise TargetError("quantize to float32: there is nothing to quantize; use edgekit export")
    path = Path(out) if out is not None else Path(f"{recipe.name}-{scheme}.onnx")
    source = source_of(recipe, progress)
    statistics, notes = None, list(source.notes)
    if calibration is not None and not isinstance(wanted, StaticInt8):
        notes.append(f"the calibration data {calibration} was not used: {scheme} finds its ranges while running")
    if isinstance(wanted, StaticInt8):
        progress.stage("calibrate")
        if calibration is None and recipe.calibration is None:
            raise QuantizationError(
                f"quantize {recipe.name} in {scheme}: a static scheme needs calibration data; give --calibration FILE.npz, or a "
                "recipe that has it, or use a dynamic scheme"
            )
        data, total = (feeds_from(Path(calibration)), None) if calibration is not None else feeds_of(recipe)
        statistics = calibrate(source.prepared, data, lambda done: progress.advance(done, total))
    progress.stage(f"quantize in {scheme}")
    quantized = quantize_graph(source.prepared, wanted, statistics)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        given = Path(folder) / "float.onnx"
        source.prepared.save(given)
        float_bytes, reference = size_bytes(given), load(given)(source.example)
        candidate = Path(folder) / "quantized.onnx"
        quantized.graph.save(candidate)
        # The load test: what onnxruntime will not open is not written.
        found = difference([load(candidate)(source.example)], [reference])
    save_aside(quantized.graph, path, source=recipe.model if isinstance(recipe.model, Path) else None)
    return QuantizedFile(
        model=str(path),
        scheme=scheme,
        kind=quantized.kind,
        size_bytes=size_bytes(path),
        float_size_bytes=float_bytes,
        sqnr_db=finite(found.sqnr_db),
        max_abs_diff=finite(found.max_abs_diff),
        calibration_examples=statistics.examples if statistics else 0,
        isa=required_isa(wanted),
        notes=[*notes, *quantized.notes],
    )
