"""The rows of the candidates table, and the figures at the top of the page."""

from dataclasses import dataclass

from edgekit.deployment import CandidateResult, Deployment
from edgekit.report.numbers import DASH, decibels, drop_decimals, fixed, interval, megabytes, ratio, significant, with_unit
from edgekit.report.words import LATENCY_LABELS, certainty, is_float_itself, size_ratio
from edgekit_runtime.measurement import Measurement

__all__ = ["Cell", "Row", "Tile", "candidate_rows", "tiles"]


@dataclass(frozen=True)
class Cell:
    """One figure under its column's label; `spread` is its interval, or nothing."""

    label: str
    unit: str
    value: str
    spread: str = ""


@dataclass(frozen=True)
class Row:
    """One candidate; the float model has no number and the status ``reference``.

    `facts` are what else is known of it in a few words each: how sure its accuracy is, what runs it, in which stage it was tried.
    """

    number: int | None
    name: str
    status: str
    reason: str
    notes: list[str]
    cells: list[Cell]
    facts: list[str]


@dataclass(frozen=True)
class Tile:
    """One of the large figures at the top."""

    label: str
    value: str
    detail: str


def candidate_rows(deployment: Deployment) -> list[Row]:
    """Float first, then the candidates in the order in which they were tried."""
    budget, measured = deployment.max_drop, deployment.measured
    rows = [
        Row(
            number,
            candidate.name,
            candidate.status,
            candidate.reason,
            list(candidate.notes),
            _cells(candidate.measurement, budget, measured, spread=not is_float_itself(candidate, deployment.baseline)),
            _facts(candidate, deployment),
        )
        for number, candidate in enumerate(deployment.candidates, 1)
    ]
    if any(is_float_itself(candidate, deployment.baseline) for candidate in deployment.candidates):
        return rows
    reason = "The model that all candidates are compared with."
    return [Row(None, "float", "reference", reason, [], _cells(deployment.baseline, budget, measured, spread=False), []), *rows]


def _facts(candidate: CandidateResult, deployment: Deployment) -> list[str]:
    facts = [
        f"accuracy {certainty(candidate, deployment)}" if certainty(candidate, deployment) else "",
        "on the front" if candidate.name in deployment.front else "",
        candidate.provider.removesuffix("ExecutionProvider"),
        candidate.session,
        f"stage: {candidate.stage}" if candidate.stage else "",
    ]
    return [fact for fact in facts if fact]


def _cells(figures: Measurement, max_drop: float, measured: str, spread: bool) -> list[Cell]:
    decimals = drop_decimals(max_drop)
    latency = LATENCY_LABELS.get(measured, "latency").capitalize()
    peak = figures.peak_rss_bytes
    return [
        Cell("Metric", "", fixed(figures.metric, decimals)),
        Cell(
            "Metric drop", "", fixed(figures.metric_drop, decimals), interval(figures.metric_drop_ci if spread else None, decimals)
        ),
        Cell(latency, "ms", significant(figures.latency_ms)),
        Cell("p99", "ms", significant(figures.latency_p99_ms)),
        Cell("Speedup", "", ratio(figures.speedup), interval(figures.speedup_ci if spread else None)),
        *([] if measured != "emulated" else [Cell("Instructions", "M", _millions(figures))]),
        Cell("Size", "MB", megabytes(figures.size_bytes)),
        Cell("Peak memory", "MB", megabytes(peak)),
        Cell("Cold start", "ms", significant(figures.cold_start_ms)),
        Cell("SQNR", "dB", decibels(figures.sqnr_db)),
        Cell("Max. difference", "", significant(figures.max_abs_diff, 2)),
    ]


def tiles(deployment: Deployment) -> list[Tile]:
    """Speed, size, metric and cold start of the chosen candidate, each with what float has."""
    before, after = deployment.baseline, deployment.chosen.measurement
    decimals = drop_decimals(deployment.max_drop)
    latency = LATENCY_LABELS.get(deployment.measured, "latency")
    return [
        _instructions_tile(before, after)
        if deployment.optimize == "instructions"
        else Tile(
            "Speedup" if deployment.measured == "real" else f"Speedup ({latency})",
            ratio(after.speedup),
            _change(with_unit(before.latency_ms, "ms"), with_unit(after.latency_ms, "ms")),
        ),
        Tile(
            "Smaller by",
            ratio(size_ratio(deployment)),
            _change(_megabytes(before.size_bytes), _megabytes(after.size_bytes)),
        ),
        Tile(
            "Metric drop",
            fixed(after.metric_drop, decimals),
            _change(fixed(before.metric, decimals), fixed(after.metric, decimals)),
        ),
        _memory_tile(before, after)
        if deployment.optimize == "memory"
        else Tile(
            "Cold start",
            with_unit(after.cold_start_ms, "ms"),
            _change(with_unit(before.cold_start_ms, "ms"), with_unit(after.cold_start_ms, "ms")),
        ),
    ]


def _memory_tile(before: Measurement, after: Measurement) -> Tile:
    now = _megabytes(after.peak_rss_bytes)
    return Tile("Peak memory", now, _change(_megabytes(before.peak_rss_bytes), now))


def _instructions_tile(before: Measurement, after: Measurement) -> Tile:
    fewer = before.instructions / after.instructions if before.instructions and after.instructions else None
    return Tile("Fewer instructions by", ratio(fewer), _change(f"{_millions(before)} M", f"{_millions(after)} M"))


def _millions(figures: Measurement) -> str:
    return DASH if figures.instructions is None else fixed(figures.instructions / 1e6, 2)


def _megabytes(size_bytes: int | None) -> str:
    return with_unit(None if size_bytes is None else size_bytes / 1e6, "MB")


def _change(before: str, after: str) -> str:
    return "not measured" if after == DASH else f"{before} → {after}"
