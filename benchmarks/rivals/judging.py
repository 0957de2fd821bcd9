"""What the rounds say: ratios over onnxruntime's float32, and edgekit against the best rival whose outputs are at least as near.

A rival counts where its SQNR is that of edgekit's choice or better. From `FLOAT_DB` on the differences are float32's own rounding:
models of that class count as equal, so that a float choice of ours has every rival's float32 against it.
"""

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Any

import msgspec
import numpy as np

from benchmarks.document import Bar, at_least
from benchmarks.rivals.causes import CAUSES
from benchmarks.rivals.environments import OURS
from benchmarks.rivals.models import BASELINE, DEFAULTS
from edgekit_runtime.timing import Ratio, Timings, speedup

__all__ = ["CPU", "EQUAL_OUTPUTS_DB", "HOST", "Result", "bars", "best_rival", "over", "rows", "summary"]

HOST, CPU = f"{OURS}/host", f"{OURS}/cpu"
FLOAT_DB = 60.0
EQUAL_OUTPUTS_DB = 200.0
"""Stands for infinity, and its negative for outputs that are not numbers: JSON has neither."""
EQUAL_DB = 0.1
"""SQNR on eight feeds is not known better than this."""
OVER_RIVALS, OVER_FLOAT, OVER_DEFAULTS = 1.0, 2.0, 2.0


class Result(msgspec.Struct, frozen=True):
    """One contestant on one network.

    Attributes:
        name: Of the contestant, ``peer/way``.
        about: What it is, in words.
        medians_ms: The median of each round; empty where it failed.
        sqnr_db: Outputs against float32's, over all of them, up to `EQUAL_OUTPUTS_DB`; ``None`` where it did not run.
        failure: Why there are no figures.
    """

    name: str
    about: str
    medians_ms: list[float] = []
    sqnr_db: float | None = None
    failure: str | None = None

    @property
    def closeness_db(self) -> float:
        """SQNR as it is compared: equal outputs and float's own rounding are one class."""
        return -EQUAL_OUTPUTS_DB if self.sqnr_db is None else min(self.sqnr_db, FLOAT_DB)


Results = Mapping[str, Result]


def over(result: Result, other: Result) -> Ratio:
    """How many times faster a result is than another of the same rounds."""
    slow, fast = (Timings(np.asarray(one.medians_ms)[:, None]) for one in (other, result))
    return speedup(slow, fast)


def best_rival(ours: Result, results: Results, peer: str = "") -> Result | None:
    """The fastest that is not edgekit's and whose outputs are at least as near to float32's; of one peer, or of all."""
    rivals = [result for result in results.values() if result.medians_ms and not result.name.startswith(f"{OURS}/")]
    near = [one for one in rivals if one.name.startswith(peer) and one.closeness_db >= ours.closeness_db - EQUAL_DB]
    return min(near, key=lambda result: float(np.median(result.medians_ms)), default=None)


def rows(network: str, results: Results) -> list[dict[str, Any]]:
    """A row a contestant; edgekit's own say which rival is best, and why they lost to it where they did."""
    found = []
    for result in results.values():
        row: dict[str, Any] = {"network": network, "contestant": result.name}
        if not result.medians_ms or not results[BASELINE].medians_ms:
            found.append({**row, "note": result.failure or "there is no float32 to compare with"})
            continue
        ratio = over(result, results[BASELINE])
        row |= {
            "speedup": ratio.value,
            "speedup_ci": list(ratio.interval),
            "sqnr_db": result.sqnr_db,
            "latency_ms": float(np.median(result.medians_ms)),
        }
        rival = best_rival(result, results) if result.name in (HOST, CPU) else None
        if rival is not None:
            against = over(result, rival)
            row |= {"best_rival": rival.name, "over_rival": against.value, "over_rival_ci": list(against.interval)}
            if against.value < OVER_RIVALS and result.name == HOST:
                row["note"] = CAUSES.get(network, "lost; the cause is not known yet")
        found.append(row)
    return found


def summary(measured: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Geometric means over float32: edgekit's two choices, and beside each the best rivals of equal or better SQNR."""
    found = []
    for name, peer in ((HOST, ""), (CPU, "onnxruntime/")):
        ours: list[float | None] = []
        rivals: list[float | None] = []
        for results in measured.values():
            mine, base = results.get(name), results[BASELINE]
            rival = best_rival(mine, results, peer) if mine is not None and mine.medians_ms else None
            ours.append(over(mine, base).value if mine is not None and rival is not None else None)
            rivals.append(over(rival, base).value if rival is not None else None)
        beside = f"best of {peer or 'all peers/'}*, as near as {name}"
        for contestant, values in ((name, ours), (beside, rivals)):
            found.append({"network": "geometric mean", "contestant": contestant, "speedup": _mean(values)})
    return found


def bars(measured: Mapping[str, Results]) -> list[Bar]:
    """The figures that the issue asks for, over all networks measured, and the first of them network by network."""
    against: dict[str, float | None] = {}
    judged: list[Bar] = []
    for network, results in measured.items():
        ours = results.get(HOST)
        rival = best_rival(ours, results) if ours is not None and ours.medians_ms else None
        against[network] = over(ours, rival).value if ours is not None and rival is not None else None
        judged.append(
            at_least(f"{network}: edgekit over {rival.name if rival else 'the best rival'}", against[network], OVER_RIVALS)
        )
    defaults, mean = "quantize_static's defaults", "geometric mean"
    return [
        at_least(f"edgekit over the best rival of equal or better SQNR, {mean}", _mean(list(against.values())), OVER_RIVALS),
        at_least(f"edgekit on the CPU provider over float32, {mean}", _mean(_overs(measured, BASELINE)), OVER_FLOAT),
        at_least(f"edgekit on the CPU provider over {defaults}, {mean}", _mean(_overs(measured, DEFAULTS)), OVER_DEFAULTS),
        *judged,
    ]


def _overs(measured: Mapping[str, Results], other: str) -> list[float | None]:
    """Edgekit on the CPU provider over `other`, by network; nothing where the other gave no model to be faster than."""
    found: list[float | None] = []
    for results in measured.values():
        ours, theirs = results.get(CPU), results.get(other)
        if theirs is not None and theirs.failure is not None:
            continue
        known = ours is not None and theirs is not None and ours.medians_ms and theirs.medians_ms
        found.append(over(ours, theirs).value if known and ours is not None and theirs is not None else None)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """The geometric mean; ``None`` where one is missing, since it would be a mean over other networks."""
    known = [value for value in values if value is not None]
    return geometric_mean(known) if known and len(known) == len(values) else None
