"""``edgekit inspect --sensitivity``: which nodes of a model suffer from int8, and which to leave float."""

from pathlib import Path

from edgekit.calibration_data import feeds_from, feeds_of
from edgekit.candidates import scheme_named
from edgekit.evaluation import Evaluation
from edgekit.inspection.sensitivity import Sensitivity, sensitivity_of, variants_of
from edgekit.inspection.sensitivity_examples import study_of
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Recipe
from edgekit.recipe_file import load_recipe
from edgekit.source import source_of
from edgekit_runtime.bundle import is_bundle
from edgekit_runtime.errors import QuantizationError

__all__ = ["SCHEME", "TIME_BUDGET_S", "sensitivity"]

SCHEME = "static-u8s7-minmax-everything"
TIME_BUDGET_S = 60.0
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


def sensitivity(
    recipe: Recipe | str | Path,
    *,
    scheme: str = SCHEME,
    calibration: str | Path | None = None,
    examples: int | None = None,
    time_budget_s: float = TIME_BUDGET_S,
    layers: bool = False,
    plot: str | Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Finds what quantizing each node by itself costs, and what sparing it alone wins.

    Args:
        recipe: A recipe, the path of a recipe file, or of a float ``.onnx`` file.
        scheme: A static candidate's name, such as ``static-u8s8-minmax-weighted``.
        calibration: Feeds in place of the recipe's: a folder of ``.npz`` files, or one ``.npz``. Without an evaluation they are
            also what the outputs' SQNR is measured on.
        examples: How many of the recipe's evaluation examples to measure on, drawn at random; by default what the budget allows.
        time_budget_s: Seconds for measuring; tracing and calibration come before it.
        layers: Whether to tell the error of each tensor between too.
        plot: An ``.svg`` file to draw the worst groups into.
        progress: Told what is going on.

    Raises:
        TargetError: There is no such scheme.
        QuantizationError: The scheme is not static, the model is quantized already, or there is no calibration data.
        OutputError: The plot cannot be written.
    """
    from edgekit_export import StaticInt8, calibrate
    from edgekit_export.sensitivity import open_switchable

    progress = progress or Quiet()
    wanted = scheme_named(scheme)
    if not isinstance(wanted, StaticInt8):
        raise QuantizationError(
            f"sensitivity in {scheme}: only static schemes round tensor by tensor; give --scheme static-FLAVOUR-METHOD-PLACEMENT"
        )
    if not isinstance(recipe, Recipe):
        if is_bundle(Path(recipe)):
            raise QuantizationError(
                f"sensitivity of {recipe}: a bundle holds no float model; give its recipe, or the float .onnx file"
            )
        recipe = load_recipe(recipe)
    if calibration is None and recipe.calibration is None:
        raise QuantizationError(
            f"sensitivity of {recipe.name}: ranges need calibration data; give --calibration FILE.npz, or a recipe that has it"
        )
    if plot is not None:
        from edgekit.report.sensitivity_plot import check_plot_path

        check_plot_path(Path(plot))
    evaluation = Evaluation(recipe) if recipe.evaluation is not None and recipe.metric is not None else None
    source = source_of(recipe, progress)
    if found := sorted(QUANTIZED & source.prepared.operators().keys()):
        raise QuantizationError(
            f"sensitivity of {recipe.name}: the model is quantized already (it has {', '.join(found)}); give the float one"
        )
    progress.stage("calibrate")
    data, total = (feeds_from(Path(calibration)), None) if calibration is not None else feeds_of(recipe)
    statistics = calibrate(source.prepared, data, lambda done: progress.advance(done, total))
    progress.stage("build a graph with a switch for each node")
    switchable = open_switchable(source.prepared, wanted, statistics.histograms)
    known = recipe
    study = study_of(
        switchable,
        evaluation,
        lambda: feeds_from(Path(calibration)) if calibration is not None else feeds_of(known)[0],
        count=examples,
        budget_s=time_budget_s,
        variants=variants_of(switchable.groups),
    )
    notes = [] if evaluation else ["the recipe has no evaluation or no metric: outputs are compared on calibration data only"]
    if evaluation and not study.examples.indices:
        notes.append(
            f"no metric: one example takes several runs of the model, and a few whole ones take longer than {time_budget_s:g} s; "
            "give --examples, or a larger --time-budget"
        )
    if wanted.corrections or wanted.spared:
        notes.append(f"figures are those of {scheme} without its corrections, and with no node spared")
    result = sensitivity_of(study, model=recipe.name, scheme=scheme, layers=layers, notes=notes, progress=progress)
    if plot is not None:
        from edgekit.report.sensitivity_plot import write_plot

        write_plot(result, Path(plot))
    return result
