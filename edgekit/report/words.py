"""The verdict and its parts in plain words."""

from edgekit.deployment import CandidateResult, Deployment
from edgekit.report.numbers import drop_decimals, fixed, interval, plain, ratio
from edgekit.verdict import FLOAT, is_certified
from edgekit_runtime.measurement import Measurement

__all__ = [
    "LATENCY_LABELS",
    "certainty",
    "headline",
    "how_measured",
    "is_float_itself",
    "latency_warning",
    "size_ratio",
    "standing",
    "verdict_name",
    "wish_in_words",
]

LATENCY_LABELS = {
    "real": "latency",
    "emulated": "emulated latency",
    "software": "software latency",
    "static": "estimated latency",
}

MEASURED = {
    "real": "on the hardware itself",
    "emulated": "in an emulator",
    "software": "with a software stand-in for the target's accelerator",
    "static": "statically, from the graph and without running it",
}

WISHES = {"size": "smaller", "memory": "more sparing of memory", "instructions": "more sparing of instructions"}

VERDICTS = {"mixed": "Mixed precision"}

PLACES = {
    "emulated": " in the emulator",
    "software": " in the software stand-in",
    "static": " by a static estimate",
}


def is_float_itself(candidate: CandidateResult, baseline: Measurement) -> bool:
    """Whether a candidate is the float model that the others are compared with, rather than a variant of it.

    The search tries float32 with other providers and settings, too: these have names of their own, and the same figures where
    nothing was timed.
    """
    figures = candidate.measurement
    return (candidate.name, candidate.kind) == (FLOAT, "float32") and (figures.metric, figures.latency_ms, figures.size_bytes) == (
        baseline.metric,
        baseline.latency_ms,
        baseline.size_bytes,
    )


def certainty(candidate: CandidateResult, deployment: Deployment) -> str:
    """``certified`` or ``accepted`` for a candidate inside the budget; nothing for others, and for float, which loses nothing."""
    figures, budget = candidate.measurement, deployment.max_drop
    if is_float_itself(candidate, deployment.baseline) or figures.metric_drop is None or figures.metric_drop > budget:
        return ""
    sure = is_certified(figures, candidate.examples, deployment.baseline.metric, budget)
    return "certified" if sure else "accepted"


def how_measured(deployment: Deployment) -> str:
    """How latency was measured, if it was."""
    measurements = [deployment.baseline, *(candidate.measurement for candidate in deployment.candidates)]
    if all(figures.latency_ms is None for figures in measurements):
        return "not at all"
    return MEASURED.get(deployment.measured, deployment.measured)


def latency_warning(deployment: Deployment) -> str:
    """What a reader must know about every latency on the page, or nothing where it was really measured."""
    how = how_measured(deployment)
    if how == "not at all":
        if any(claim.lower().startswith("latency") for claim in deployment.claims_not_made):
            return ""
        return "Latency was not measured, so nothing here says how fast the device is."
    if deployment.measured == "real":
        return ""
    return (
        f"Latency here is not device latency. It was measured {how}. "
        "It can rank candidates, but it does not tell how fast the device is: measure there before relying on it."
    )


def verdict_name(deployment: Deployment) -> str:
    """The verdict as a title."""
    return VERDICTS.get(deployment.verdict, deployment.verdict)


def standing(deployment: Deployment) -> str:
    """``unchanged``, ``certified``, ``accepted``, ``metric not measured`` or, for a pick, ``outside the budget``."""
    if is_float_itself(deployment.chosen, deployment.baseline):
        return "unchanged"
    if deployment.certified:
        return "certified"
    drop = deployment.chosen.measurement.metric_drop
    if drop is None:
        return "metric not measured"
    return "accepted" if drop <= deployment.max_drop else "outside the budget"


def size_ratio(deployment: Deployment) -> float | None:
    """How many times smaller than float the chosen candidate is."""
    before, after = deployment.baseline.size_bytes, deployment.chosen.measurement.size_bytes
    return before / after if before and after else None


def wish_in_words(deployment: Deployment) -> str:
    """What was to be gained, as what a candidate had to be beside float."""
    return WISHES.get(deployment.optimize, "faster")


def headline(deployment: Deployment) -> str:
    """The verdict in one sentence."""
    chosen = deployment.chosen
    wish = wish_in_words(deployment)
    if is_float_itself(chosen, deployment.baseline):
        within = f"stayed inside the budget of {plain(deployment.max_drop)}"
        if chosen.measurement.metric_drop is None:
            within = "could be shown to be safe"
        if deployment.picked:
            return "The float model ships as it is, because it was picked by hand."
        return f"The float model ships as it is: no candidate was {wish} than float and also {within}."
    place = PLACES.get(deployment.measured, "")
    predicates = [_speed(chosen.measurement, place), _size(size_ratio(deployment))]
    known = " and ".join(predicate for predicate in predicates if predicate)
    compared = f"it is {known}, and " if known else ""
    unknown = "" if chosen.measurement.speedup else "; its latency was not measured"
    picked = ", because it was picked by hand" if deployment.picked else ""
    return f"{chosen.name} ships{picked}: {compared}{_metric(deployment)}{unknown}."


def _speed(figures: Measurement, place: str) -> str:
    speedup, ends = figures.speedup, figures.speedup_ci
    if not speedup:
        return ""
    if ends and ends[0] <= 1 <= ends[1]:
        return f"as fast as float{place}, as far as the measurement can tell ({interval(ends)}×),"
    spread = f" (95 % interval {interval(ends)})" if ends else ""
    if speedup < 1:
        return f"slower than float{place}, at {ratio(speedup)} its speed{spread},"
    return f"{ratio(speedup)} as fast as float{place}{spread}"


def _size(times: float | None) -> str:
    if times is None:
        return ""
    if times > 1.005:
        return f"{ratio(times)} smaller"
    return f"{ratio(1 / times)} its size" if times < 0.995 else "as large"


def _metric(deployment: Deployment) -> str:
    figures, budget = deployment.chosen.measurement, deployment.max_drop
    drop, ends = figures.metric_drop, figures.metric_drop_ci
    if drop is None:
        return "what it loses of the metric was not measured"
    decimals = drop_decimals(budget)
    spread = f" (95 % interval {interval(ends, decimals)})" if ends else ""
    if drop == 0:
        change = f"it loses nothing of the metric{spread}"
    elif drop < 0:
        gain = (-ends[1], -ends[0]) if ends else None
        spread = f" (95 % interval {interval(gain, decimals)})" if gain else ""
        change = f"it gains {fixed(-drop, decimals)} in the metric{spread}"
    else:
        change = f"it loses {fixed(drop, decimals)} of the metric{spread}"
    if drop > budget:
        return f"{change}, which is more than the budget of {plain(budget)}"
    if deployment.certified:
        return f"{change}, all of it inside the budget of {plain(budget)}"
    reach = ", though the interval reaches past it" if ends and ends[1] > budget else ""
    return f"{change}, inside the budget of {plain(budget)}{reach}"
