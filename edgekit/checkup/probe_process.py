"""Running the integer probes in a process of their own, and what follows from what they saw."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from edgekit.checkup.check import Check
from edgekit.checkup.integer_probes import OnnxruntimeFacts, ProbeResult, Started

__all__ = ["ProbeReport", "probe_checks", "run_probes"]

TIMEOUT_S = 120
COMMAND = (sys.executable, "-m", "edgekit.checkup.integer_probes")
IMPORT = "import onnxruntime"
CANNOT_SATURATE = ("small values", "reduced range")


class ProbeReport(msgspec.Struct, frozen=True):
    """What came back from the probes.

    Attributes:
        onnxruntime: The onnxruntime that they ran on; ``None`` where it could not be imported.
        results: One entry a finished probe.
        died_in: The probe that brought the process down, or that it failed in; ``None`` where all went well.
        reason: How.
    """

    onnxruntime: OnnxruntimeFacts | None
    results: list[ProbeResult]
    died_in: str | None = None
    reason: str = ""


def run_probes(command: Sequence[str] = COMMAND, timeout_s: float = TIMEOUT_S) -> ProbeReport:
    """Runs the probes; whatever happens to their process ends up in the report."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        return _report(error.stdout or b"", f"no answer after {timeout_s:.0f} s")
    except OSError as error:
        return ProbeReport(None, [], "start", f"{error.strerror or error}")
    if done.returncode == 0:
        return _report(done.stdout, "")
    if done.returncode < 0:
        return _report(done.stdout, f"the process was killed by {signal.Signals(-done.returncode).name}")
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
    telling = next((line for line in lines if "_ARRAY_API" in line or "compiled using NumPy" in line), lines[-1])
    return _report(done.stdout, telling.strip())


def probe_checks(report: ProbeReport, isa: tuple[str, ...]) -> list[Check]:
    """What follows from the probes on a machine with these instruction sets."""
    checks = [] if report.died_in is None else [_death(report)]
    if report.onnxruntime is not None and report.died_in is None:
        checks.append(
            Check(
                "ok", f"onnxruntime {report.onnxruntime.version} imports and runs int8", f"{len(report.results)} integer probes ran"
            )
        )
    failed = [result for result in report.results if result.status == "failed"]
    if failed:
        checks.append(
            Check(
                "warning",
                f"integer probes could not run: {', '.join(result.name for result in failed)}",
                failed[0].detail,
                "models with these operators and types will not run here either; use another flavour",
            )
        )
    # Where nothing can saturate, only exact arithmetic is right.
    wrong = [
        result
        for result in report.results
        if result.status == "wrong" or (result.status == "saturates" and result.name.endswith(CANNOT_SATURATE))
    ]
    if wrong:
        checks.append(
            Check(
                "problem",
                f"int8 computes wrong values: {_examples(wrong)}",
                "neither exact arithmetic nor 16-bit saturation explains them: a kernel of this onnxruntime is broken on this "
                "processor",
                "install another onnxruntime release, and do not ship int8 to such a machine until this probe is clean",
            )
        )
    return checks + _saturation(report.results, isa)


def _saturation(results: list[ProbeResult], isa: tuple[str, ...]) -> list[Check]:
    hit = [result for result in results if result.status == "saturates" and not result.name.endswith(CANNOT_SATURATE)]
    if not hit:
        return []
    exact = [result.name for result in results if result.status == "exact" and "small values" not in result.name]
    vnni = " although it has vnni" if "vnni" in isa else ""
    return [
        Check(
            "warning",
            f"16-bit intermediates saturate on this processor{vnni}: {_examples(hit)}",
            "a model whose weights use all of their 8 bits loses accuracy here that it keeps on a processor with VNNI or on "
            f"ARM (microsoft/onnxruntime#6004); exact here: {', '.join(exact) or 'none'}",
            "deploy with a target such as cpu-x64-avx2, which tries U8U8 and reduced range, or open the model with "
            "session.x64quantprecision=1, which is exact and slower",
        )
    ]


def _death(report: ProbeReport) -> Check:
    if report.died_in == IMPORT:
        if "_ARRAY_API" in report.reason or "NumPy" in report.reason or "multiarray" in report.reason:
            return Check(
                "problem",
                "onnxruntime and numpy do not fit each other",
                f"{report.reason} (microsoft/onnxruntime#21063)",
                "pip install --upgrade onnxruntime numpy",
            )
        return Check(
            "problem",
            "onnxruntime cannot be imported",
            report.reason,
            "pip install --force-reinstall onnxruntime; after an illegal instruction (SIGILL) take another release, this one is "
            "built for newer processors",
        )
    return Check(
        "problem",
        f"integer probes stopped at {report.died_in}",
        report.reason,
        "a model with this operator can take its process down in the same way: take another onnxruntime release",
    )


def _report(output: bytes, reason: str) -> ProbeReport:
    facts: OnnxruntimeFacts | None = None
    results: list[ProbeResult] = []
    running: str | None = "start"
    for line in output.splitlines():
        try:
            told = msgspec.json.decode(line, type=Started | OnnxruntimeFacts | ProbeResult)
        except msgspec.MsgspecError:
            continue
        if isinstance(told, Started):
            running = told.name
        elif isinstance(told, OnnxruntimeFacts):
            facts, running = told, "the first probe"
        else:
            results.append(told)
    # An import that fails before the first line is most likely onnxruntime's, too: edgekit's own packages need it.
    if facts is None and running == "start":
        running = IMPORT
    return ProbeReport(facts, results, running if reason else None, reason)


def _examples(results: list[ProbeResult]) -> str:
    texts = [
        f"{result.name} gives {result.got:,.0f} for {result.expected:,.0f}" for result in results if result.expected is not None
    ]
    return "; ".join(texts)
