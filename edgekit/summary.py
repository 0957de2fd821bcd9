"""A deployment in one paragraph, for whoever signs it: plain words, everyday units, and what is not known."""

from edgekit.deployment import CandidateResult, Deployment
from edgekit.report.numbers import drop_decimals, fixed, plain, ratio, share, significant
from edgekit.report.words import is_float_itself, wish_in_words
from edgekit.verdict import FLOAT, Optimize, Tried, gate
from edgekit.verdict.certainty import needed_to_certify
from edgekit.verdict.gains import Gains
from edgekit_runtime.measurement import Measurement

__all__ = ["summarize"]

KINDS = {
    "int8": "a version that computes with 8-bit integers",
    "mixed": "a version that computes partly with 8-bit integers",
    "int4": "a version that stores its weights in 4 bits",
    "float16": "a version that works with 16-bit numbers",
    "bfloat16": "a version that works with 16-bit numbers",
    "float32": "the model in full precision, in another form or with other settings",
}
UNKNOWNS = {
    "accuracy": "how well it does its task, since there is no test of that",
    "static int8": "whether integers with ranges fixed beforehand would do better, since there is no calibration data",
    "parity with PyTorch": "whether the ONNX file that was given does what its PyTorch model did",
    "latency, cold start and memory": "how fast it is on the device and how much memory it takes there",
}
STANDINS = {
    "emulated": "Instructions were counted under emulation of the device's processor: they can rank, but they are no times.",
    "software": "Times come from a software stand-in for the device's accelerator: they can rank, but they are not the device's.",
    "static": "Times are estimates from the model's structure, not measurements.",
}
# What a candidate's memory may differ by without anything to tell.
MEMORY_WORTH_TELLING = 0.02


def summarize(deployment: Deployment) -> str:
    """What ships, what it wins and costs, how sure that is, why the next best lost, and what is not known."""
    sentences = [_ships(deployment)]
    if is_float_itself(deployment.chosen, deployment.baseline):
        sentences += [_as_it_is(deployment)]
    else:
        sentences += [_won(deployment), _cost(deployment), _sure(deployment)]
    sentences += [_tried(deployment), _next_best(deployment), STANDINS.get(deployment.measured, ""), _unknown(deployment)]
    # Words that must not part on the page may in a text of any width.
    return " ".join(sentence for sentence in sentences if sentence).replace("\u00a0", " ")


def _ships(deployment: Deployment) -> str:
    chosen = deployment.chosen
    if is_float_itself(chosen, deployment.baseline):
        what = f"For {_target(deployment)}, the {deployment.name} model ships unchanged, in full precision"
    else:
        what = f"For {_target(deployment)}, {deployment.name} ships as {KINDS.get(chosen.kind, chosen.kind)} ({chosen.name})"
    if not deployment.picked:
        return f"{what}."
    return f"{what}. It was picked by hand, whatever the rules say; the verdict has what they say."


def _target(deployment: Deployment) -> str:
    return "the machine that it was measured on" if deployment.target == "host" else deployment.target


def _as_it_is(deployment: Deployment) -> str:
    others = [one for one in deployment.candidates if one is not deployment.chosen]
    wish = wish_in_words(deployment)
    figures = deployment.baseline
    known = []
    if figures.latency_ms is not None:
        known.append(f"takes {significant(figures.latency_ms)} ms a call")
    if figures.size_bytes is not None:
        known.append(f"weighs {_megabytes(figures.size_bytes)}")
    takes = f" It {' and '.join(known)}." if known else ""
    if deployment.picked or not others:
        return f"Nothing is lost and nothing is won.{takes}"
    return (
        f"Nothing that was tried was {wish} than it beyond doubt and lost no more than allowed, so nothing is lost or won.{takes}"
    )


def _won(deployment: Deployment) -> str:
    before, after = deployment.baseline, deployment.chosen.measurement
    parts = []
    if after.speedup is not None and after.latency_ms is not None:
        parts.append(f"One call takes {significant(after.latency_ms)} ms, {_speed(after)}")
    if before.instructions and after.instructions:
        parts.append(f"One call takes {_millions(after)} instructions where the full model takes {_millions(before)}")
    if before.size_bytes and after.size_bytes:
        was = f"{_megabytes(after.size_bytes)} instead of {_megabytes(before.size_bytes)}"
        parts.append(f"{'its file weighs' if parts else 'Its file weighs'} {was}")
    if before.peak_rss_bytes and after.peak_rss_bytes:
        parts.append(f"{'and running' if parts else 'Running'} it takes {_memory(before.peak_rss_bytes, after.peak_rss_bytes)}")
    return f"{', '.join(parts)}." if parts else ""


def _millions(figures: Measurement) -> str:
    return f"{significant((figures.instructions or 0) / 1e6)} million"


def _speed(figures: Measurement) -> str:
    """How fast in words, over the full model's latency in the same rounds."""
    speed = figures.speedup or 0.0
    before = significant((figures.latency_ms or 0.0) * speed)
    if figures.speedup_ci and figures.speedup_ci[0] <= 1.0 <= figures.speedup_ci[1]:
        return f"about as long as the full model ({before} ms)"
    if speed < 1.0:
        return f"longer than the full model's {before} ms"
    return f"where the full model takes {before} ms ({ratio(speed)} as fast)"


def _memory(before: int, after: int) -> str:
    if abs(after - before) < MEMORY_WORTH_TELLING * before:
        return f"as much memory as before ({_megabytes(after)})"
    return f"{_megabytes(after)} of memory instead of {_megabytes(before)}"


def _cost(deployment: Deployment) -> str:
    before, figures = deployment.baseline, deployment.chosen.measurement
    if figures.metric_drop is None or before.metric is None or figures.metric is None:
        why = "there was no test of that" if before.metric is None else "the search left it before its test"
        return f"What it loses in the task was not measured: {why}."
    decimals = drop_decimals(deployment.max_drop)
    test = f"On {_count(deployment.chosen.examples)} test examples" if deployment.chosen.examples else "In the test"
    scores = f"{test} it scores {fixed(figures.metric, decimals)} where the full model scores {fixed(before.metric, decimals)}"
    drop = figures.metric_drop
    if drop == 0:
        return f"{scores}, so nothing is lost."
    if drop < 0:
        return f"{scores}, so nothing is lost; a gain this small is more likely luck than merit."
    part = f" ({share(drop / before.metric)} of the full model's score)" if before.metric > drop else ""
    allowed = "inside" if drop <= deployment.max_drop else "which is MORE than"
    return f"{scores}: a loss of {fixed(drop, decimals)}{part}, {allowed} the {plain(deployment.max_drop)} that was allowed."


def _sure(deployment: Deployment) -> str:
    chosen = deployment.chosen
    figures = chosen.measurement
    if figures.metric_drop is None or figures.metric_drop_ci is None:
        return "So this is accepted, not certified."
    worst = fixed(max(figures.metric_drop_ci[1], 0.0), drop_decimals(deployment.max_drop))
    if figures.metric_drop > deployment.max_drop:
        return "So this is neither certified nor accepted."
    if deployment.certified:
        return f"This is certified: even with bad luck in the choice of examples, the loss would be {worst}, still allowed."
    needed = needed_to_certify(figures, chosen.examples, deployment.baseline.metric, deployment.max_drop)
    more = f"about {_count(needed)} examples would be needed to be sure" if needed else "no number of examples would make it sure"
    if figures.metric_drop_ci[1] <= deployment.max_drop:
        return f"This is accepted, not certified, because so few examples cannot show rare errors: {more}."
    return f"This is accepted, not certified: with bad luck in the choice of examples the loss may be {worst}, and {more}."


def _tried(deployment: Deployment) -> str:
    others = [one for one in deployment.candidates if not is_float_itself(one, deployment.baseline)]
    if not others:
        return "There was nothing else to try."
    failed = sum(one.status == "failed" for one in others)
    lost = sum(one.status == "rejected" and (one.measurement.metric_drop or 0.0) > deployment.max_drop for one in others)
    good = len(_would_have_done(deployment))
    idle = sum(one.status in ("beaten", "rejected") for one in others) - good - lost
    told = [
        f"{number} {words}"
        for number, words in (
            (good, "would have done, but not as well"),
            (lost, "lost too much"),
            (idle, "gained nothing or had no prospect of being the best"),
            (failed, "did not run at all"),
        )
        if number
    ]
    ways = "1 way of deploying it was" if len(others) == 1 else f"{len(others)} ways of deploying it were"
    took = "" if deployment.spent_s is None else f" in {_time(deployment.spent_s)}"
    return f"{ways} tried{took}" + (f"; of these {', '.join(told)}." if told else ".")


def _next_best(deployment: Deployment) -> str:
    """Why the one that came nearest did not ship."""
    chosen, optimize = deployment.chosen, _wish(deployment)
    gains = Gains(Tried(FLOAT, FLOAT, deployment.baseline), optimize, deployment.empty_rss_bytes or 0)
    others = [one for one in deployment.candidates if one is not chosen and not is_float_itself(one, deployment.baseline)]
    beaten = _would_have_done(deployment)
    rejected = [one for one in others if one.status == "rejected" and _gain(one, gains) > _gain(chosen, gains)]
    best = max(beaten or rejected, key=lambda one: _gain(one, gains), default=None)
    if best is None or _gain(best, gains) == 0:
        return ""
    told = _merit_in_words(best, optimize)
    if best.status == "rejected":
        return _why_rejected(best, told, deployment.max_drop)
    if deployment.picked:
        return f"By the rules, {best.name} was among the best ({told})."
    if not gains.is_most(_as_tried(best), _gain(chosen, gains)):
        return f"The next best, {best.name}, gains less: {told}."
    ours, theirs = chosen.measurement, best.measurement
    if optimize != "latency" and (ours.speedup or 0.0) > (theirs.speedup or 0.0):
        return f"The next best, {best.name}, gains about as much ({told}), but is slower."
    farther = _as_tried(best).nearness < _as_tried(chosen).nearness
    why = "its answers are farther from the full model's" if farther else "in what else counts it is beaten"
    return f"The next best, {best.name}, gains about as much ({told}), but {why}."


def _would_have_done(deployment: Deployment) -> list[CandidateResult]:
    """Those that pass every gate and did not ship."""
    float_itself, empty = Tried(FLOAT, FLOAT, deployment.baseline), deployment.empty_rss_bytes or 0

    def passes(candidate: CandidateResult) -> bool:
        one, wish = _as_tried(candidate), _wish(deployment)
        return gate(one, float_itself, deployment.max_drop, wish, empty_rss_bytes=empty) is None

    return [one for one in deployment.candidates if one.status == "beaten" and one.name != FLOAT and passes(one)]


def _why_rejected(best: CandidateResult, told: str, budget: float) -> str:
    drop = best.measurement.metric_drop
    if drop is None or drop <= budget:
        return ""
    return f"{best.name} would have gained more ({told}), but loses {fixed(drop, drop_decimals(budget))}, more than allowed."


def _wish(deployment: Deployment) -> Optimize:
    known: dict[str, Optimize] = {"size": "size", "memory": "memory", "instructions": "instructions"}
    return known.get(deployment.optimize, "latency")


def _as_tried(candidate: CandidateResult) -> Tried:
    return Tried(candidate.name, candidate.kind, candidate.measurement, candidate.examples)


def _gain(candidate: CandidateResult, gains: Gains) -> float:
    return gains.of(_as_tried(candidate))


def _merit_in_words(candidate: CandidateResult, optimize: str) -> str:
    figures = candidate.measurement
    if optimize == "latency":
        return f"{ratio(figures.speedup)} as fast as the full model"
    if optimize == "instructions":
        return f"{_millions(figures)} instructions a call"
    return _megabytes(figures.size_bytes if optimize == "size" else figures.peak_rss_bytes)


def _unknown(deployment: Deployment) -> str:
    names = [claim.partition(": ")[0] for claim in deployment.claims_not_made]
    told = [UNKNOWNS.get(name, name) for name in names]
    return f"Not known: {'; '.join(told)}." if told else ""


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _megabytes(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{significant(size_bytes / 1e6)} MB"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"
