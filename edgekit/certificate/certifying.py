"""Certifying a bundle at one place: the evaluation there, beside float and exact integer arithmetic on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edgekit.certificate.evaluating import Observed, examples_in, kept_at, observe, plan_for
from edgekit.certificate.evidence import argmax_agreement, fusion, lsb_histogram, output_steps
from edgekit.certificate.kept_outputs import KeptOutputs
from edgekit.evaluation import Evaluation
from edgekit.labs.devices.resuming import put_resuming, resuming
from edgekit.labs.place import Place
from edgekit.labs.worker import Worker
from edgekit.progress import Progress
from edgekit.recipe import Arrays, Run
from edgekit.verdict import Tried, accuracy_gate, judgement
from edgekit_runtime.accuracy import Difference, difference
from edgekit_runtime.certificate import Certificate
from edgekit_runtime.errors import EvaluationError, SessionError
from edgekit_runtime.manifest import Manifest
from edgekit_runtime.measurement import Measurement, finite
from edgekit_runtime.wire import Welcome

__all__ = ["Subject", "certify_at"]

Status = Literal["certified", "passed", "failed"]
FLOAT = "float32"
# A model whose quantization loses next to nothing may still differ between processors by this share of its largest output.
FLOAT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Subject:
    """What is certified, and what it is compared with.

    Attributes:
        bundle: The bundle's directory.
        manifest: Its manifest.
        max_drop: What the metric may lose.
        evaluation: The recipe's examples; ``None`` without a recipe.
        float_run: The float model on this machine, or, without a recipe, the float outputs of the golden examples.
        exact_run: The bundle's model on this machine, computed without saturation.
        golden: The golden inputs.
        examples: How many examples to take at each place; ``None`` for as many as there is time for.
        budget_s: Seconds for each place.
        folder: Where outputs are kept.
    """

    bundle: Path
    manifest: Manifest
    max_drop: float
    evaluation: Evaluation | None
    float_run: Run
    exact_run: Run
    golden: Sequence[Arrays]
    examples: int | None
    budget_s: float
    folder: Path


def certify_at(subject: Subject, place: Place, progress: Progress) -> Certificate:
    """The certificate of a bundle at one place.

    A model that does not open or run there has failed there. What was computed before a kill, or before a connection was lost, is
    not computed again.

    Args:
        subject: What is certified.
        place: Where.
        progress: Told what is going on.

    Raises:
        DeviceError: The place itself cannot be had.
        ConnectionLostError: It was lost, and did not come back.
        EvaluationError: The recipe's code raises.
    """
    progress.stage(f"start {place.name}")
    path = put_resuming(place, subject.bundle)
    return resuming(place, lambda worker: _certified(subject, place, worker, path, progress))


def _certified(subject: Subject, place: Place, worker: Worker, path: str, progress: Progress) -> Certificate:
    who = worker.hello()
    try:
        model = worker.open(path, check_isa=False, threads=1 if place.kind == "emulated" else None)
        conversions, integer_nodes = fusion(worker.optimized(path))
        observed = _observed(subject, place, who, model, progress)
    except SessionError as error:
        return _row(place, who, status="failed", reason=f"it does not run there: {error}")
    progress.stage(f"compare {place.name} with float on this machine")
    here = observe(subject.float_run, subject.evaluation, observed.indices, subject.golden, progress)
    comparable = [
        (there, floats, feed)
        for there, floats, feed, own in zip(observed.outputs, here.outputs, observed.feeds, here.feeds, strict=True)
        if feed.keys() == own.keys() and all(np.array_equal(feed[name], own[name]) for name in feed)
    ]
    if not comparable:
        raise EvaluationError(
            f"certify at {place.name}: the recipe's predict() never calls run(feed), or feeds it something else each time, so no "
            "model is evaluated by it"
        )
    outputs, floats = [one for one, _, _ in comparable], [one for _, one, _ in comparable]
    exact = [subject.exact_run(feed) for _, _, feed in comparable]
    away = difference(outputs, floats)
    measured = _measured(subject, here, observed, away)
    status, reason = _judged(subject, observed, here, measured, outputs, exact, floats)
    return _row(
        place,
        who,
        status=status,
        reason=reason,
        examples=len(observed.indices) or len(observed.outputs),
        examples_of=len(subject.evaluation) if subject.evaluation else 0,
        metric=measured.metric,
        metric_drop=measured.metric_drop,
        metric_drop_ci=measured.metric_drop_ci,
        sqnr_db=measured.sqnr_db,
        lsb=lsb_histogram(outputs, exact, output_steps(subject.bundle / subject.manifest.model, floats)),
        argmax_agreement=argmax_agreement(outputs, floats),
        conversions=conversions,
        integer_nodes=integer_nodes,
        peak_rss_bytes=worker.memory(),
    )


def _observed(subject: Subject, place: Place, who: Welcome, model: Run, progress: Progress) -> Observed:
    sha = subject.manifest.files[subject.manifest.model].sha256
    known = (place.name, who.machine, who.versions, sha, subject.manifest.session, subject.manifest.provider)
    path = kept_at(subject.folder, *known)
    kept = KeptOutputs(path, lambda: model)
    indices: Sequence[int] = []
    if subject.evaluation is not None:
        order = examples_in(subject.evaluation)
        count = subject.examples
        if count is None:
            progress.stage(f"time an example at {place.name}")
            sized = path.with_name(f"{path.stem}-{len(order)}-{subject.budget_s:g}.plan")
            count = plan_for(sized, subject.evaluation, kept, subject.budget_s).examples
        indices = order[:count]
    progress.stage(f"evaluate at {place.name}")
    return observe(kept, subject.evaluation, indices, subject.golden, progress)


def _measured(subject: Subject, here: Observed, there: Observed, away: Difference) -> Measurement:
    evaluation = subject.evaluation
    parity = Measurement(max_abs_diff=finite(away.max_abs_diff), sqnr_db=finite(away.sqnr_db))
    if evaluation is None:
        return parity
    drop, interval = evaluation.drop(evaluation.reference(here.predictions, there.indices), there.predictions)
    metric = evaluation.metric(there.predictions, there.indices)
    return msgspec.structs.replace(parity, metric=metric, metric_drop=drop, metric_drop_ci=interval)


def _judged(
    subject: Subject,
    observed: Observed,
    here: Observed,
    measured: Measurement,
    outputs: Sequence[Arrays],
    exact: Sequence[Arrays],
    floats: Sequence[Arrays],
) -> tuple[Status, str]:
    """Status and reason: by the metric where there is one, else by the self-test's rule."""
    if subject.evaluation is not None:
        reference = subject.evaluation.metric(here.predictions, observed.indices)
        base = Tried(FLOAT, FLOAT, Measurement(metric=reference, metric_drop=0.0, metric_drop_ci=(0.0, 0.0)))
        tried = Tried(subject.manifest.chosen.name, subject.manifest.chosen.verdict, measured, len(observed.indices))
        refusal = accuracy_gate(tried, base, subject.max_drop)
        if refusal is not None:
            return "failed", refusal.reason
        certified, told = judgement(tried, base, subject.max_drop)
        return ("certified" if certified else "passed"), told
    off, own = difference(outputs, exact), difference(exact, floats)
    tolerance = max(own.rms_diff, FLOAT_TOLERANCE * own.peak)
    told = f"outputs are {off.rms_diff:.3g} (rms) from exact integer arithmetic, of {tolerance:.3g} that quantization itself costs"
    return ("passed" if off.rms_diff <= tolerance else "failed"), f"without a recipe: {told}"


def _row(place: Place, who: Welcome, **found: object) -> Certificate:
    known: dict[str, object] = {"examples": 0, "examples_of": 0, **found}
    return Certificate(
        isa=place.name,
        kind=place.kind,
        processor=who.machine.cpu,
        features=list(who.machine.isa),
        onnxruntime=who.versions.get("onnxruntime", ""),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **known,  # type: ignore[arg-type]
    )
