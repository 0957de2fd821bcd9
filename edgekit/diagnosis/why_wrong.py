"""Why a quantized model's outputs are not the float model's: causes taken away one after the other, roots before symptoms."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.diagnosis.activations import behind_clamp, watch
from edgekit.diagnosis.error_account import ErrorAccount, decibels, error_power, share_wrong
from edgekit.diagnosis.findings import Finding, ranked
from edgekit.diagnosis.input_mismatch import Mismatch, find_mismatch
from edgekit.diagnosis.layers import coarse_weights, sensitive_layers, spread_error
from edgekit.diagnosis.outlier_channels import outlier_activations, outlier_weights
from edgekit.diagnosis.quantized_tensors import integer_weights, roundings_of, stored_arrays
from edgekit.diagnosis.replay import Replay
from edgekit.diagnosis.saturating_sums import saturating_sums
from edgekit.diagnosis.unfit_ranges import calibration_unlike_evaluation, saturated_ranges, wasted_ranges
from edgekit.recipe import Arrays, Run
from edgekit_runtime.errors import EdgekitError, GraphError
from edgekit_runtime.manifest import InputRange
from edgekit_runtime.model import Model
from edgekit_runtime.session import Provider, SessionConfig, open_session

if TYPE_CHECKING:
    import onnx

__all__ = ["Wrong", "why_wrong"]

# The replay stands for what runs where their errors are within a factor of this; where they are not, a note says so.
ALIKE = 4.0


@dataclass(frozen=True)
class Wrong:
    """What was found about a model's outputs.

    Attributes:
        findings: Worst first.
        sqnr_db: Outputs against the float model's on inputs as they were given; ``None`` without a float model, or where equal.
        notes: What could not be looked at.
    """

    findings: list[Finding]
    sqnr_db: float | None
    notes: list[str]


def why_wrong(
    path: Path,
    provider: Provider | None = None,
    session: SessionConfig | None = None,
    *,
    feeds: Sequence[Arrays],
    float_path: Path | None = None,
    calibration: Sequence[Arrays] = (),
    ranges: Mapping[str, InputRange] | None = None,
    score: Callable[[Run], float] | None = None,
) -> Wrong:
    """Finds what makes a quantized model's outputs differ from the float model's, or from what they should be.

    Args:
        path: The quantized model.
        provider: What it runs on.
        session: How it is opened.
        feeds: Inputs that it is used on, such as an evaluation's; a few dozen are enough.
        float_path: The float model. Without it only the inputs are looked at.
        calibration: Inputs that it was calibrated on.
        ranges: Ranges of these inputs, as a manifest keeps them.
        score: The metric of a model on examples with labels: it tells whether an odd input is the evaluation's or calibration's.

    Raises:
        SessionError: A model does not open or run.
    """
    provider, session = provider or Provider(), session or SessionConfig()
    model = Model(open_session(path, provider, session), path)
    reference = _float_run(float_path, session)
    mismatch, findings, notes = find_mismatch(feeds, calibration, ranges or {}), list[Finding](), list[str]()
    given = [model(feed) for feed in feeds]
    wanted = [reference(feed) for feed in feeds] if reference else given
    as_given = error_power(given, wanted)
    if mismatch is not None:
        blamed, told = _mismatched(mismatch, model, reference, feeds, given, score)
        if blamed is not None:
            findings.append(blamed)
            feeds = [mismatch.mend(feed) for feed in feeds]
        else:
            notes += told
    if reference is None or float_path is None:
        notes.append("errors were not looked into: that takes the float model; give --recipe, or --against FLOAT.onnx")
    else:
        try:
            more, said = _replayed(path, float_path, provider, session, feeds, calibration, model, reference, mismatch)
            findings, notes = findings + more, notes + said
        except EdgekitError as error:
            notes.append(f"errors were not looked into: {error}")
    sqnr = decibels(as_given)
    return Wrong(ranked(findings), sqnr if reference and isfinite(sqnr) else None, notes)


def _float_run(path: Path | None, session: SessionConfig) -> Run | None:
    return Model(open_session(path, config=SessionConfig(threads=session.threads)), path) if path is not None else None


def _mismatched(
    mismatch: Mismatch,
    model: Run,
    reference: Run | None,
    feeds: Sequence[Arrays],
    given: Sequence[Arrays],
    score: Callable[[Run], float] | None,
) -> tuple[Finding | None, list[str]]:
    """The finding; or, where the metric says that the inputs are right as they are, what that tells of calibration."""
    mended = [model(mismatch.mend(feed)) for feed in feeds]
    changed = share_wrong(error_power(given, mended))
    evidence = [*mismatch.evidence, f"mended, the outputs change by {changed:.0%} of their rms"]
    judge = reference or model
    if score is not None:
        as_is, after = score(judge), score(lambda feed: judge(mismatch.mend(feed)))
        if after < as_is:
            return None, [f"calibration's inputs are these {mismatch.words}, and the metric is worse so ({after:.4g}, {as_is:.4g})"]
        evidence.append(f"the metric of the {'float ' if reference else ''}model is {as_is:.4g} as given, {after:.4g} mended")
    return (
        Finding(
            name="preprocessing-mismatch",
            kind="wrong",
            impact=changed,
            title=f"input {mismatch.input!r} looks as at calibration only {mismatch.words}: it is preprocessed in another way",
            evidence=evidence,
            advice=f"give {mismatch.input!r} {mismatch.words}; use one preprocessing for training, calibration and the device",
            nodes=[mismatch.input],
        ),
        [],
    )


def _replayed(
    path: Path,
    float_path: Path,
    provider: Provider,
    session: SessionConfig,
    feeds: Sequence[Arrays],
    calibration: Sequence[Arrays],
    model: Run,
    reference: Run,
    mismatch: Mismatch | None,
) -> tuple[list[Finding], list[str]]:
    """The findings that the error is attributed to by leaving causes out."""
    import onnx

    wanted = [reference(feed) for feed in feeds]
    power = error_power([model(feed) for feed in feeds], wanted)
    sums, power = saturating_sums(path, provider, session, feeds, wanted, power)
    quantized, floating = onnx.load(path), onnx.load(float_path)
    stored, floats = stored_arrays(quantized), stored_arrays(floating)
    values = [value.name for value in floating.graph.input if value.name not in floats]
    values += [name for node in floating.graph.node for name in node.output if name]
    roundings = roundings_of(quantized, stored, values)
    weights = integer_weights(quantized, stored, floats)
    arrays = {name: weight.values for name, weight in weights.items()}
    found: list[Finding | None] = [sums]
    if not roundings and not weights:
        return [finding for finding in found if finding], [
            "no rounding could be traced back: it rounds nothing statically, or its tensors have other names than the float model's"
        ]
    notes: list[str] = []
    rounded = sum(node.op_type == "QuantizeLinear" and node.input[0] not in stored for node in quantized.graph.node)
    if rounded > len(roundings):
        notes.append(f"{len(roundings)} of {rounded} rounded activations could be traced back to the float model by their names")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder, threads = Path(name), session.threads
        if floating.ByteSize() > 1_900_000_000:
            raise GraphError(f"diagnose {float_path.name}: a graph of 2 GB and more cannot be replayed")

        def opened(values: dict[str, np.ndarray]) -> Replay:
            return Replay(floating, roundings, values, folder, threads)

        replay = opened(arrays)
        account = ErrorAccount(replay, feeds, wanted, share_wrong(power))
        if account.whole <= 0:
            return [finding for finding in found if finding], notes
        if not power / ALIKE < account.whole < power * ALIKE:
            notes.append(
                f"what could be traced back of its rounding gives {decibels(account.whole):.1f} dB SQNR, the model has "
                f"{decibels(power):.1f} dB: some of the error has another cause, such as dynamically quantized operators"
            )
        used = watch(floating, roundings, feeds, folder, threads)
        seen = watch(floating, roundings, calibration, folder, threads) if calibration else {}
        inputs = mismatch.evidence if mismatch else []
        found += [
            calibration_unlike_evaluation(account, roundings, used, seen, inputs),
            saturated_ranges(account, roundings, used),
            wasted_ranges(account, roundings, used),
            outlier_activations(account, used, weights, floats, partial(_readers, floating), opened),
            outlier_weights(account, weights, floats, opened),
            sensitive_layers(account, used),
            spread_error(account, used),
            coarse_weights(account, arrays, lambda: opened({})),
        ]
    return [finding for finding in found if finding], notes


def _readers(proto: onnx.ModelProto, tensor: str) -> list[str]:
    """Weights of the nodes that take a tensor, or what a clamp makes of it."""
    sources = {tensor, behind_clamp(proto, tensor, {})}
    return [name for node in proto.graph.node if sources.intersection(node.input) for name in node.input if name not in sources]
