"""Compare: two bundles or models side by side, with gates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.comparison import Comparison, Gate, Limits
from edgekit.junit import junit_xml
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Arrays, Recipe
from edgekit.recipe_file import load_recipe
from edgekit.text_file import check_text_path, write_text
from edgekit_runtime.errors import EvaluationError, InputError
from edgekit_runtime.measurement import Measurement, finite

if TYPE_CHECKING:
    from edgekit.evaluation import Evaluation
    from edgekit_runtime.model import Model

__all__ = ["Comparison", "Gate", "compare"]

PARITY_FEEDS = 32


def compare(
    a: str | Path,
    b: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    max_drop: float | None = None,
    require_certified: bool = False,
    min_speedup: float | None = None,
    max_size_ratio: float | None = None,
    min_sqnr_db: float | None = None,
    junit: str | Path | None = None,
    rounds: int = 25,
    check_isa: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Compares B with A: accuracy, output parity, latency, memory and size.

    Args:
        a: The reference: a bundle or an ``.onnx`` file.
        b: What is compared with it.
        recipe: Where examples and the metric come from; without one, accuracy is not compared.
        max_drop: A gate: what B may lose of the metric against A.
        require_certified: A gate: the worst end of what it loses must be inside `max_drop`, too, on enough examples to say so.
        min_speedup: A gate: how many times as fast as A B must be, at the lower end of the interval.
        max_size_ratio: A gate: how many times A's files B's may weigh.
        min_sqnr_db: A gate: how near to A's outputs B's must be, in dB.
        junit: An ``.xml`` file that the gates are written to as JUnit reports tests.
        rounds: Interleaved timing rounds.
        check_isa: Refuse a bundle whose figures do not hold on this machine's instruction sets.
        progress: Told what is going on.

    Raises:
        BundleError: A bundle is damaged.
        EvaluationError: A gate on the metric was asked for and there is none, or a limit is no limit.
        InputError: The two take different inputs.
        OutputError: The JUnit file could not be written.
    """
    from edgekit.evaluation import Evaluation
    from edgekit.labs.host import HostLab
    from edgekit_runtime.model import load
    from edgekit_runtime.timing import speedup

    progress = progress or Quiet()
    limits = Limits(max_drop, require_certified, min_speedup, max_size_ratio, min_sqnr_db)
    if junit is not None:
        if limits == Limits():
            raise EvaluationError("compare --junit: no gate was asked for; give --max-drop, --min-speedup, or another one")
        check_text_path(Path(junit), ".xml")
    models = {"a": load(a, check_isa=check_isa), "b": load(b, check_isa=check_isa)}
    _check_inputs(models["a"], models["b"], a, b)
    loaded = recipe if recipe is None or isinstance(recipe, Recipe) else load_recipe(recipe)
    evaluation = Evaluation(loaded) if loaded and loaded.evaluation and loaded.metric else None
    if limits.need_metric and evaluation is None:
        raise EvaluationError("compare --max-drop: a metric is needed; give --recipe with evaluation and metric")
    figures: dict[str, dict[str, Any]] = {"a": {"max_abs_diff": 0.0}, "b": {}}
    feeds = _evaluate(models, evaluation, figures, progress) if evaluation is not None else _feeds(list(models.values()), loaded)
    figures["b"] |= _differences(models, feeds, a, b)
    progress.stage(f"time both in {rounds} interleaved rounds")
    timings = HostLab().time(models, feeds[0], rounds, progress.advance)
    ratio = speedup(timings["a"], timings["b"])
    progress.stage("open each in a process of its own")
    for key, (value, bounds) in {"a": (1.0, (1.0, 1.0)), "b": (ratio.value, ratio.interval)}.items():
        figures[key] |= {"latency_ms": timings[key].median_ms, "latency_p99_ms": timings[key].p99_ms}
        figures[key] |= {"speedup": value, "speedup_ci": bounds, **_fresh(models[key], feeds[0])}
    one, other, examples = Measurement(**figures["a"]), Measurement(**figures["b"]), len(evaluation) if evaluation else 0
    comparison = Comparison(
        a=str(a),
        b=str(b),
        figures_a=one,
        figures_b=other,
        examples=examples,
        gates=limits.gates(one, other, examples),
        junit=str(junit) if junit is not None else None,
    )
    if junit is not None:
        write_text(Path(junit), junit_xml(comparison))
    return comparison


def _check_inputs(one: "Model", other: "Model", a: str | Path, b: str | Path) -> None:
    if [(spec.name, spec.dtype) for spec in one.inputs] != [(spec.name, spec.dtype) for spec in other.inputs]:
        first, second = ("; ".join(str(spec) for spec in model.inputs) for model in (one, other))
        raise InputError(f"compare: {a} takes {first}, {b} takes {second}; they must take the same")


def _evaluate(
    models: "Mapping[str, Model]", evaluation: "Evaluation", figures: dict[str, dict[str, Any]], progress: Progress
) -> list[Arrays]:
    """Fills in the metric of both; gives some of the feeds that they were evaluated on."""
    from edgekit.evaluation import Recorder

    progress.stage("evaluate A")
    recorder = Recorder(models["a"], PARITY_FEEDS)
    reference = evaluation.reference(evaluation.predict(recorder, None, progress.advance))
    if not recorder.feeds:
        raise EvaluationError("compare: the recipe's predict() never calls run(feed), so no model is evaluated by it")
    progress.stage("evaluate B")
    predictions = evaluation.predict(models["b"], None, progress.advance)
    drop, interval = evaluation.drop(reference, predictions)
    figures["a"] |= {"metric": reference.score, "metric_drop": 0.0, "metric_drop_ci": (0.0, 0.0)}
    figures["b"] |= {"metric": evaluation.metric(predictions), "metric_drop": drop, "metric_drop_ci": interval}
    return recorder.feeds


def _differences(models: "Mapping[str, Model]", feeds: Sequence[Arrays], a: str | Path, b: str | Path) -> dict[str, Any]:
    """Output parity of B with A."""
    from edgekit_runtime.accuracy import difference

    names = [spec.name for spec in models["a"].outputs]
    others = [spec.name for spec in models["b"].outputs]
    if sorted(names) != sorted(others):
        raise InputError(f"compare: {a} gives {', '.join(names)}, {b} gives {', '.join(others)}; they must give the same")
    found = difference([models["b"](feed) for feed in feeds], [models["a"](feed) for feed in feeds])
    return {"max_abs_diff": finite(found.max_abs_diff), "sqnr_db": finite(found.sqnr_db)}


def _feeds(models: "Sequence[Model]", recipe: Recipe | None) -> list[Arrays]:
    """What to compare on without a metric: the recipe's example, a bundle's golden inputs, or random values."""
    from edgekit.source import example_of
    from edgekit_runtime.benchmark import example_feed

    if recipe is not None:
        return [example_of(recipe)]
    bundled = next((model for model in models if model.manifest is not None), models[0])
    return [example_feed(bundled)]


def _fresh(model: "Model", feed: Arrays) -> dict[str, Any]:
    from edgekit_runtime.benchmark import model_file, size_bytes
    from edgekit_runtime.fresh_process import run_in_fresh_process
    from edgekit_runtime.session import Provider, SessionConfig

    file = model_file(model)
    manifest = model.manifest
    provider = manifest.provider if manifest else Provider()
    fresh = run_in_fresh_process(file, feed, provider, manifest.session if manifest else SessionConfig())
    return {
        "size_bytes": size_bytes(file),
        "peak_rss_bytes": fresh.peak_rss_bytes,
        "cold_start_ms": fresh.cold_start_ms,
    }
