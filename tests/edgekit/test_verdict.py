import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.evaluation import examples_to_certify, examples_to_settle, fewest_to_certify
from edgekit.verdict import Tried, accuracy_gate, decide, front
from edgekit_runtime.errors import RecipeError
from edgekit_runtime.measurement import Measurement

BASE = Tried("float32", "float32", Measurement(metric=0.9, metric_drop=0.0, metric_drop_ci=(0, 0), size_bytes=1000), 100)

drops = st.floats(-0.1, 0.3)
ratios = st.floats(0.2, 5.0)


@st.composite
def candidates(draw, measured_metric=True):
    found = []
    for index in range(draw(st.integers(0, 6))):
        drop, ratio = draw(drops), draw(ratios)
        metric = {"metric": 0.9 - drop, "metric_drop": drop, "metric_drop_ci": (drop - draw(ratios) / 50, drop + draw(ratios) / 50)}
        timing = {"speedup": ratio, "speedup_ci": (ratio * draw(st.floats(0.7, 1.0)), ratio * draw(st.floats(1.0, 1.3)))}
        figures = Measurement(
            **(metric if measured_metric and draw(st.integers(0, 9)) else {}),
            **(timing if draw(st.integers(0, 9)) else {}),
            size_bytes=draw(st.integers(1, 2000)),
            peak_rss_bytes=draw(st.none() | st.integers(50_000_000, 200_000_000)),
            sqnr_db=draw(st.none() | st.floats(-10, 80)),
            max_abs_diff=draw(st.none() | st.sampled_from([0.0, 1.0])),
        )
        found.append(Tried(f"c{index}", "int8", figures, 100, draw(st.none() | st.none() | st.just("c: it would not load"))))
    return found


def well_formed(verdict, tried):
    assert set(verdict.outcomes) == {"float32", *(one.name for one in tried)}
    assert [name for name, (status, _) in verdict.outcomes.items() if status == "chosen"] == [verdict.chosen]
    assert all(reason.strip() for _, reason in verdict.outcomes.values())
    assert verdict.reason
    assert verdict.chosen in verdict.front
    assert set(verdict.front) <= set(verdict.outcomes)


@given(candidates(), st.floats(0, 0.1), st.sampled_from(["latency", "size"]))
def test_nothing_ships_that_lost_too_much_or_gains_nothing(tried, max_drop, optimize):
    verdict = decide(BASE, tried, max_drop, optimize)
    well_formed(verdict, tried)

    def passes(one):
        figures = one.measurement
        if one.failure or figures.metric_drop is None or figures.metric_drop > max_drop:
            return False
        if optimize == "size":
            return figures.size_bytes < 1000
        return figures.speedup_ci is not None and figures.speedup_ci[0] > 1 and figures.speedup >= 1.02

    good = {one.name: one for one in tried if passes(one)}
    assert (verdict.chosen == "float32") == (not good)
    if not good:
        assert verdict.kind == "float32"
        return
    chosen = good[verdict.chosen].measurement
    # 100 examples were looked at: too few to speak of a share below 3 in 100.
    assert verdict.certified == (chosen.metric_drop_ci[1] <= max_drop and max_drop >= 0.03)
    assert ("certified: " in verdict.reason) == verdict.certified
    # The best of those that passed, or within 2 % of it.
    if optimize == "latency":
        assert chosen.speedup * 1.021 >= max(one.measurement.speedup for one in good.values())
    else:
        assert chosen.size_bytes <= min(one.measurement.size_bytes for one in good.values()) * 1.051
    for one in tried:
        status = verdict.outcomes[one.name][0]
        assert status == ("failed" if one.failure else "rejected" if one.name not in good else status)
        assert (one.name in good) == (status in ("chosen", "beaten"))


@given(candidates(measured_metric=False))
def test_without_a_metric_outputs_must_be_near_and_nothing_is_certified(tried):
    base = Tried("float32", "float32", Measurement(size_bytes=1000))
    verdict = decide(base, tried, 0.01, "latency")
    well_formed(verdict, tried)
    assert not verdict.certified
    if verdict.chosen != "float32":
        figures = next(one.measurement for one in tried if one.name == verdict.chosen)
        assert figures.max_abs_diff == 0.0 or figures.sqnr_db >= 20


def test_outputs_that_cannot_be_compared_do_not_pass_as_equal():
    # Both "equal" and "infinitely far" have no SQNR; only the first has a difference, zero.
    broken = Tried("a", "int8", Measurement(speedup=2, speedup_ci=(1.9, 2.1), size_bytes=1, sqnr_db=None, max_abs_diff=None))
    equal = Tried("b", "int8", Measurement(speedup=2, speedup_ci=(1.9, 2.1), size_bytes=1, sqnr_db=None, max_abs_diff=0.0))
    base = Tried("float32", "float32", Measurement(size_bytes=10))
    verdict = decide(base, [broken, equal], 0.01, "latency")
    assert verdict.chosen == "b"
    assert verdict.outcomes["a"][0] == "rejected"


def made(name, speedup=2.0, drop=0.0, ci=(0.0, 0.0), **more):
    figures = {"metric": 0.9 - drop, "metric_drop": drop, "metric_drop_ci": ci, "size_bytes": 500, "sqnr_db": 40.0}
    figures |= {"speedup": speedup, "speedup_ci": (speedup * 0.95, speedup * 1.05)} if speedup else {}
    return Tried(name, "int8", Measurement(**(figures | more)), 400)


def test_reasons_say_what_happened_with_figures():
    tried = [
        made("lossy", drop=0.2, ci=(0.15, 0.25)),
        made("slow", speedup=0.5),
        made("doubtful", speedup=1.01),
        Tried("broken", "int8", Measurement(), 0, "open broken.onnx: onnxruntime refused it"),
    ]
    verdict = decide(BASE, tried, 0.01, "latency")
    reasons = {name: reason for name, (_, reason) in verdict.outcomes.items()}
    assert reasons["lossy"] == "loses 0.2000 [0.1500, 0.2500] of the metric on 400 examples; the budget is 0.01"
    assert reasons["slow"] == "slower than float: 0.50× [0.47, 0.53]"
    assert reasons["doubtful"].startswith("not faster than float beyond doubt: 1.01×")
    assert reasons["broken"] == "open broken.onnx: onnxruntime refused it"
    assert "of 4 other candidates none passed" in verdict.reason
    for part in ("1 lost too much of the metric", "1 slower than float", "1 failed", "1 not faster than float beyond doubt"):
        assert part in verdict.reason


def test_of_equally_fast_candidates_the_one_nearest_to_float_ships():
    far, near = made("far", 2.01, sqnr_db=25.0), made("near", 2.0, sqnr_db=50.0)
    verdict = decide(BASE, [far, near], 0.01, "latency")
    assert verdict.chosen == "near"
    assert "near is as fast within 2 % and nearer to float's outputs" in verdict.outcomes["far"][1]


def test_a_small_model_that_is_slower_says_so():
    verdict = decide(BASE, [made("tiny", speedup=0.5, size_bytes=100)], 0.01, "size")
    assert verdict.chosen == "tiny"
    assert "0.10× the size of float" in verdict.reason
    assert "0.50× as fast as float" in verdict.reason


def test_few_examples_certify_nothing_however_equal_they_are():
    equal = Tried("a", "int8", made("a", drop=0.0, ci=(0.0, 0.0)).measurement, examples=20)
    verdict = decide(BASE, [equal], 0.01, "latency")
    assert not verdict.certified
    assert "would need about 300 examples" in verdict.reason
    assert "no number of examples" in decide(BASE, [equal], 0.0, "latency").reason


def test_accepted_tells_how_many_examples_certification_needs():
    verdict = decide(BASE, [made("a", drop=0.005, ci=(-0.02, 0.03))], 0.01, "latency")
    assert not verdict.certified
    assert "accepted: it loses 0.0050" in verdict.reason
    assert "would need about 10000 examples" in verdict.reason


@given(st.integers(1, 10_000), st.floats(0, 0.02), st.floats(0, 0.1), st.floats(0, 0.05))
def test_examples_to_certify_grow_with_the_interval_and_the_drop(examples, drop, half, max_drop):
    needed = examples_to_certify(examples, drop, (drop - half, drop + half), max_drop)
    if needed is None:
        assert drop >= max_drop or half > 1000 * (max_drop - drop)
        return
    assert needed >= examples
    wider = examples_to_certify(examples, drop, (drop - half, drop + 2 * half), max_drop)
    assert wider is None or wider >= needed
    assert examples_to_certify(examples, drop, (drop - half, drop + half), max_drop + 0.01) <= needed
    if drop + half <= max_drop:
        assert needed <= examples + 1


@given(candidates(), st.floats(0, 0.1), st.data())
def test_what_is_picked_ships_and_its_failings_are_said(tried, max_drop, data):
    names = ["float32", *(one.name for one in tried)]
    name = data.draw(st.sampled_from(names))
    picked = next((one for one in tried if one.name == name), BASE)
    if picked.failure:
        with pytest.raises(RecipeError, match="it would not load"):
            decide(BASE, tried, max_drop, "latency", pick=name)
        return
    verdict = decide(BASE, tried, max_drop, "latency", pick=name)
    well_formed(verdict, tried)
    assert (verdict.chosen, verdict.picked) == (name, True)
    assert "picked by hand" in verdict.reason
    refused = decide(BASE, tried, max_drop, "latency").outcomes[name]
    if refused[0] == "rejected":
        assert f"although it would be rejected: {refused[1]}" in verdict.reason
    if picked.measurement.metric_drop is None or picked.measurement.metric_drop > max_drop:
        assert not verdict.certified
        assert "accepted: " not in verdict.reason


def test_a_pick_that_is_not_there_lists_the_front():
    with pytest.raises(RecipeError, match=r"none that was tried has this name; .*: near, small; tried as well: float32, worse$"):
        decide(BASE, [made("near", 2.0), made("small", 1.5, size_bytes=100), made("worse", 1.4)], 0.01, "latency", pick="fastest")


@given(candidates(), st.floats(0, 0.1), st.sampled_from(["latency", "size", "memory"]))
def test_nothing_on_the_front_is_beaten_and_what_is_not_is_beaten_by_something(tried, max_drop, optimize):
    ahead = front(BASE, tried, max_drop)
    assert ahead
    inside = {one.name: one for one in tried if not one.failure and accuracy_gate(one, BASE, max_drop) is None}
    assert set(ahead) <= {"float32", *inside}
    timed = [one for one in inside.values() if one.measurement.speedup is not None]
    fastest = max([1.0, *(one.measurement.speedup for one in timed)])
    on_it = [inside[name].measurement.speedup or 0.0 if name in inside else 1.0 for name in ahead]
    assert max(on_it) == fastest
    verdict = decide(BASE, tried, max_drop, optimize)
    assert [name for name in verdict.front if name in ahead] == ahead


def test_intervals_that_overlap_are_no_win():
    plain = made("plain", 2.0, drop=0.002, ci=(-0.001, 0.005))
    as_good = made("as-good", 2.0, drop=0.003, ci=(0.0, 0.006))
    assert front(BASE, [plain, as_good], 0.01) == ["plain", "as-good"]
    slower = made("slower", 1.5, drop=0.001, ci=(-0.002, 0.004))
    assert front(BASE, [plain, slower], 0.01) == ["plain"]
    surely_better = made("surely-better", 1.5, drop=-0.01, ci=(-0.012, -0.008))
    assert front(BASE, [plain, surely_better], 0.01) == ["plain", "surely-better"]
    smaller = made("smaller", 1.2, drop=0.003, ci=(0.0, 0.006), size_bytes=300)
    assert front(BASE, [plain, smaller], 0.01) == ["plain", "smaller"]
    assert front(BASE, [made("lossy", 3.0, drop=0.2, ci=(0.19, 0.21)), plain], 0.01) == ["plain"]


MEGABYTE = 1_000_000


def test_memory_is_compared_above_an_empty_process():
    base = Tried("float32", "float32", Measurement(metric=0.9, metric_drop=0.0, peak_rss_bytes=100 * MEGABYTE, size_bytes=9), 400)
    half = made("half", 0.8, peak_rss_bytes=80 * MEGABYTE)
    same = made("same", 2.0, peak_rss_bytes=int(99.5 * MEGABYTE))
    unknown = made("unknown", 2.0)
    verdict = decide(base, [half, same, unknown], 0.01, "memory", empty_rss_bytes=60 * MEGABYTE)
    assert verdict.chosen == "half"
    assert "0.50× the memory of float (20.00 MB above the 60.00 MB of an empty process), 0.80× as fast" in verdict.reason
    assert "as much memory as float within 1 MB" in verdict.outcomes["same"][1]
    assert "memory was not measured" in verdict.outcomes["unknown"][1]
    # Where it is not known what an empty process needs, the whole process is compared: a gain looks smaller, never larger.
    assert "0.80× the memory of float (80.00 MB)" in decide(base, [half], 0.01, "memory").reason


def test_of_equally_small_candidates_the_fastest_ships():
    slow, fast = made("slow", 0.5, size_bytes=100, sqnr_db=50.0), made("fast", 1.9, size_bytes=101, sqnr_db=30.0)
    verdict = decide(BASE, [slow, fast], 0.01, "size")
    assert verdict.chosen == "fast"
    assert "fast is as small within 5 % and faster" in verdict.outcomes["slow"][1]


def test_a_variant_of_float_is_a_candidate_like_others():
    openvino = Tried("float32@openvino", "float32", made("", 1.5).measurement, 400)
    verdict = decide(BASE, [openvino], 0.01, "latency")
    assert (verdict.chosen, verdict.kind) == ("float32@openvino", "float32")
    assert "int" not in verdict.reason


def test_a_rejection_in_doubt_says_how_many_examples_would_settle_it():
    verdict = decide(BASE, [made("a", drop=0.02, ci=(0.0, 0.04))], 0.01, "latency")
    assert "the budget is 0.01, which the interval reaches: about 1600 examples would tell" in verdict.outcomes["a"][1]
    assert "reaches" not in decide(BASE, [made("a", drop=0.2, ci=(0.15, 0.25))], 0.01, "latency").outcomes["a"][1]
    assert examples_to_settle(400, 0.01, (0.0, 0.02), 0.01) is None


def test_a_metric_of_any_scale_is_not_certified_on_a_handful():
    assert fewest_to_certify(93.1, 0.5) > 20
    base = Tried("float32", "float32", Measurement(metric=93.1, metric_drop=0.0, size_bytes=1000), 5)
    few = Tried("a", "int8", made("a").measurement, examples=5)
    assert not decide(base, [few], 0.5, "latency").certified
