"""``edgekit inspect --why``: why a model is slow, or wrong, in findings ranked by what each accounts for."""

import tempfile
from pathlib import Path

import msgspec

from edgekit.diagnosis.findings import Diagnosis, ranked
from edgekit.diagnosis.subject import NOTHING_QUANTIZED, gather
from edgekit.diagnosis.why_slow import why_slow
from edgekit.diagnosis.why_wrong import why_wrong
from edgekit.progress import Progress, Quiet
from edgekit.recipe import Recipe
from edgekit_runtime.errors import SessionError
from edgekit_runtime.machine import available_cores
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["diagnose"]


def diagnose(
    path: Recipe | str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    against: str | Path | None = None,
    scheme: str | None = None,
    threads: int | None = None,
    session: SessionConfig | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Says why a model is slow on this machine and why its outputs are not the float model's.

    Args:
        path: A ``NAME.edge`` bundle, an ``.onnx`` file, or a recipe, whose model is quantized first.
        recipe: The recipe behind a bundle or a file: its float model, its calibration and its evaluation.
        against: The float ``.onnx`` file, where no recipe makes it.
        scheme: How a recipe's model is quantized, such as ``static-u8s7-minmax-convnet``.
        threads: Intra-op threads that the model is to be diagnosed with; by default what its bundle says.
        session: All session options, in place of the bundle's.
        progress: Told what is going on.

    Raises:
        EdgekitError: One of its kinds, in one clear message.
    """
    progress = progress or Quiet()
    if threads is not None and threads < 1:
        raise SessionError(f"diagnose {path}: threads={threads}, expected 1 or more, or nothing for what the model asks for")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        subject = gather(path, recipe, against, scheme=scheme, session=session, folder=Path(name), progress=progress)
        options = subject.session
        if threads is not None:
            options = msgspec.structs.replace(options, threads=threads)
        progress.stage("why slow: time its nodes")
        slow = why_slow(subject.path, subject.provider, options, feed=subject.feeds[0], float_path=subject.float_path)
        progress.stage("why wrong: take causes of error away one by one")
        wrong = why_wrong(
            subject.path,
            # Where the provider cannot be had, which is a finding by now, the CPU provider stands in for it.
            Provider() if "provider-fallback" in [finding.name for finding in slow.findings] else subject.provider,
            # Threads do not change what is computed, and too many make it slow.
            msgspec.structs.replace(options, threads=None),
            feeds=subject.feeds,
            float_path=subject.float_path,
            calibration=subject.calibration,
            ranges=subject.ranges,
            score=subject.score,
        )
    notes = dict.fromkeys([*subject.notes, *slow.notes, *wrong.notes])
    if NOTHING_QUANTIZED in notes:
        notes = {note: None for note in notes if "--against" not in note}  # there is nothing to compare
    return Diagnosis(
        path=path.name if isinstance(path, Recipe) else str(path),
        provider=subject.provider.name,
        threads=options.threads or available_cores(),
        latency_ms=slow.total_us / 1e3,
        float_latency_ms=None if slow.float_us is None else slow.float_us / 1e3,
        sqnr_db=wrong.sqnr_db,
        findings=ranked([*slow.findings, *wrong.findings]),
        notes=list(notes),
    )
