"""The decision: DESIGN's three rules, or the user's own pick."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekit.deployment import Status
from edgekit.verdict.certainty import judgement
from edgekit.verdict.front import front
from edgekit.verdict.gains import Gains
from edgekit.verdict.gates import Refusal, gate
from edgekit.verdict.tried import FLOAT, Optimize, Tried
from edgekit_runtime.errors import RecipeError

__all__ = ["Verdict", "decide"]


@dataclass(frozen=True)
class Verdict:
    """Who ships.

    Attributes:
        chosen: Name of the candidate.
        kind: ``int8``, ``mixed``, … or ``float32``.
        reason: In a sentence or two.
        certified: Whether the worst end of the metric's interval is inside the budget, too, on enough examples to say so.
        outcomes: Status and reason of every candidate, by name.
        front: Names of those that no other one beats, of those inside the budget; the chosen one is always among them.
        picked: Whether the user picked it by its name.
    """

    chosen: str
    kind: str
    reason: str
    certified: bool
    outcomes: dict[str, tuple[Status, str]]
    front: list[str] = field(default_factory=list)
    picked: bool = False


def decide(
    baseline: Tried,
    candidates: Sequence[Tried],
    max_drop: float,
    optimize: Optimize,
    *,
    pick: str | None = None,
    empty_rss_bytes: int | None = None,
) -> Verdict:
    """Applies DESIGN's three rules: drop what fails or loses too much, drop what gains nothing, take the best of the rest.

    Args:
        baseline: The float model.
        candidates: All others.
        max_drop: What the metric may lose.
        optimize: What to gain. Where no latency was measured it must be ``size``.
        pick: The name of the one that ships, whatever gates it does not pass.
        empty_rss_bytes: Peak memory of a process without a model, for ``memory``.

    Raises:
        RecipeError: There is no candidate of the name to pick, or it does not load or run.
    """
    gains = Gains(baseline, optimize, empty_rss_bytes or 0)
    refusals = {one.name: gate(one, baseline, max_drop, optimize, empty_rss_bytes=empty_rss_bytes or 0) for one in candidates}
    outcomes = {name: (refusal.status, refusal.reason) for name, refusal in refusals.items() if refusal}
    passed = [one for one in candidates if refusals[one.name] is None]
    ahead = front(baseline, candidates, max_drop)
    if pick is not None:
        return _picked(_find(pick, baseline, candidates, ahead), baseline, passed, refusals, outcomes, ahead, max_drop, gains)
    if not passed:
        reason = _float_reason([refusal for refusal in refusals.values() if refusal])
        measured = baseline.measurement.metric is not None
        outcomes = {baseline.name: ("chosen", reason), **outcomes}
        return Verdict(baseline.name, FLOAT, reason, measured, outcomes, _with(baseline.name, ahead))
    best = _best(passed, ahead, gains)
    for one in passed:
        outcomes[one.name] = "beaten", f"{gains.told(one)}; {gains.better(best, one)}"
    certified, judged = judgement(best, baseline, max_drop)
    reason = f"{best.name}: {gains.told(best)}; {judged}"
    outcomes[best.name] = ("chosen", reason)
    outcomes[baseline.name] = ("beaten", f"the float model itself; {best.name} is better: {gains.told(best)}")
    return Verdict(best.name, best.kind, reason, certified, outcomes, _with(best.name, ahead))


def _best(passed: Sequence[Tried], ahead: Sequence[str], gains: Gains) -> Tried:
    """The one that gains most; of those that gain as much, one of the front, and of these the one nearest to float's outputs.

    Of those that are as small, or as sparing of memory, the fastest comes before the nearest, where they were timed.
    """
    most = max(gains.of(one) for one in passed)
    equal = [one for one in passed if gains.is_most(one, most)]
    equal = [one for one in equal if one.name in ahead] or equal
    fastest = Gains(gains.baseline, "latency")
    speed = max(fastest.of(one) for one in equal)
    return max((one for one in equal if fastest.is_most(one, speed)), key=lambda one: one.nearness)


def _with(chosen: str, ahead: Sequence[str]) -> list[str]:
    """The front, and what ships all the same: float where nothing gains anything beyond doubt, or what the user picked."""
    return list(ahead) if chosen in ahead else [chosen, *ahead]


def _find(pick: str, baseline: Tried, candidates: Sequence[Tried], ahead: Sequence[str]) -> Tried:
    named = next((one for one in (baseline, *candidates) if one.name == pick), None)
    if named is None:
        rest = [one.name for one in (baseline, *candidates) if one.name not in ahead]
        others = f"; tried as well: {', '.join(rest)}" if rest else ""
        best = f"none of these beats another: {', '.join(ahead)}"
        raise RecipeError(f"pick {pick}: none that was tried has this name; {best}{others}")
    if named.failure is not None:
        raise RecipeError(f"pick {pick}: it failed: {named.failure}; pick another one: {', '.join(ahead)}")
    return named


def _picked(
    picked: Tried,
    baseline: Tried,
    passed: Sequence[Tried],
    refusals: dict[str, Refusal | None],
    outcomes: dict[str, tuple[Status, str]],
    ahead: Sequence[str],
    max_drop: float,
    gains: Gains,
) -> Verdict:
    """The verdict that the user asked for, which says what it would have been refused for."""
    for one in passed:
        outcomes[one.name] = "beaten", f"{gains.told(one)}; {picked.name} was picked by hand"
    outcomes[baseline.name] = "beaten", f"the float model itself; {picked.name} was picked by hand"
    if picked is baseline:
        reason, certified = f"{picked.name} was picked by hand: the float model itself", baseline.measurement.metric is not None
    else:
        refusal = refusals[picked.name]
        certified, judged = judgement(picked, baseline, max_drop)
        would_be = "would be rejected" if refusal and refusal.status == "rejected" else "was left by the search"
        although = f" although it {would_be}: {refusal.reason}" if refusal else f": {gains.told(picked)}"
        over = picked.measurement.metric_drop is not None and picked.measurement.metric_drop > max_drop
        reason = f"{picked.name} was picked by hand{although}" + ("" if over else f"; {judged}")
    outcomes[picked.name] = ("chosen", reason)
    return Verdict(picked.name, picked.kind, reason, certified, outcomes, _with(picked.name, ahead), picked=True)


def _float_reason(refusals: Sequence[Refusal]) -> str:
    if not refusals:
        return "float32 ships: nothing else suits this target and this model"
    counted = ", ".join(f"{count} {gate}" for gate, count in Counter(refusal.gate for refusal in refusals).items())
    return f"float32 ships: of {len(refusals)} other candidates none passed ({counted})"
