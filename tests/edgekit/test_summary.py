"""The paragraph for whoever signs: the figures that matter, no jargon, and nothing that was not measured."""

import re

import msgspec
import pytest

from edgekit_runtime.measurement import Measurement
from tests.edgekit.crowded_deployment import BASELINE, crowded_deployment

JARGON = re.compile(r"\b(dB|SQNR|quantiz\w*|bootstrap|interval|Pareto|RSS|None|nan|inf)\b")


def without_metric(deployment):
    fields = dict.fromkeys(("metric", "metric_drop", "metric_drop_ci"))
    replace = msgspec.structs.replace
    candidates = [replace(one, measurement=replace(one.measurement, **fields)) for one in deployment.candidates]
    baseline = replace(deployment.baseline, **fields)
    return replace(deployment, baseline=baseline, candidates=candidates, certified=False)


def test_it_says_what_ships_and_what_that_wins_and_costs():
    told = crowded_deployment().summary
    assert told.startswith("For the machine that it was measured on, efficientnet-lite0 ships as a version that computes with")
    assert "One call takes 14.9 ms, where the full model takes 31.4 ms (2.11× as fast)" in told
    assert "its file weighs 5.30 MB instead of 18.5 MB" in told
    assert "a loss of 0.0030 (0.39 % of the full model's score), inside the 0.01 that was allowed" in told
    assert "This is certified" in told
    assert "29 ways of deploying it were tried in 2.5 minutes" in told
    assert "The next best, static-u8s7-mse-placed, gains less: 2.02× as fast" in told
    assert "Not known: whether the ONNX file that was given does what its PyTorch model did." in told


@pytest.mark.parametrize("optimize", ["latency", "size", "memory"])
@pytest.mark.parametrize("max_drop", [0.0, 0.004, 0.01, 0.05])
@pytest.mark.parametrize("pick", [None, "a16w8", "static-u8s8-mse-everything", "float32"])
def test_it_has_no_jargon_and_never_contradicts_the_verdict(optimize, max_drop, pick):
    deployment = crowded_deployment(optimize, max_drop, pick)
    told = deployment.summary
    assert not JARGON.search(told)
    assert "  " not in told
    assert ("This is certified" in told) == (deployment.certified and deployment.chosen.name != "float32")
    assert ("picked by hand" in told) == (pick is not None)
    drop = deployment.chosen.measurement.metric_drop
    assert ("MORE than" in told) == (drop > max_drop)
    if deployment.chosen.name == "float32":
        assert "ships unchanged" in told


def test_accepted_says_how_many_examples_would_make_sure():
    told = crowded_deployment(pick="static-u8s7-mse-conv", max_drop=0.005).summary
    assert "This is accepted, not certified: with bad luck in the choice of examples the loss may be 0.0090" in told
    assert "about 9\u202f000 examples would be needed to be sure" in told


def test_without_a_metric_nothing_is_said_of_accuracy():
    told = without_metric(crowded_deployment()).summary
    assert "What it loses in the task was not measured" in told
    assert "score" not in told
    assert "is certified" not in told


def test_figures_that_are_missing_are_left_out():
    given = crowded_deployment()
    bare = [
        msgspec.structs.replace(one, measurement=BASELINE if one.name == "float32" else Measurement()) for one in given.candidates
    ]
    told = msgspec.structs.replace(given, candidates=bare, certified=False, measured="static").summary
    assert not re.search(r"—|unknown|nan", told)
    assert "Times are estimates" in told


def test_it_is_in_the_document_the_text_and_the_report(capsys):
    from edgekit.cli.tables import show_deployment
    from edgekit.report import render

    given = crowded_deployment()
    assert given.document()["summary"] == given.summary
    show_deployment(given)
    assert " ".join(given.summary.split()) in " ".join(capsys.readouterr().out.split())
    assert given.summary.replace("'", "&#39;") in render(given)
