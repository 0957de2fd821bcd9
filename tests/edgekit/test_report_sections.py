"""The report of a long search: the front, findings, times by operator, sensitivity; absent where there is nothing to show."""

import msgspec
import pytest

from edgekit.deployment import OperatorTime
from edgekit.report import render
from edgekit.report.operator_bars import operator_bars
from edgekit.report.points import front_line, points_of
from tests.edgekit.crowded_deployment import crowded_deployment
from tests.edgekit.test_report import Page

SECTIONS = ("findings", "operators", "sensitivity")


@pytest.fixture(scope="module")
def given():
    return crowded_deployment()


@pytest.fixture(scope="module")
def page(given):
    return render(given)


def test_every_section_is_there_once(page):
    parsed = Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    for section in SECTIONS:
        assert f"{section}-title" in parsed.ids
    assert {"wide-front", "narrow-front", "wide-sensitivity-alone-0", "narrow-sensitivity-spared-0"} <= set(parsed.ids)
    assert "http:" not in page


def test_sections_with_nothing_to_show_are_absent(given):
    bare = msgspec.structs.replace(
        given, findings=[], operator_times=[], sensitivity=None, front=[], seed=None, budget_s=None, spent_s=None
    )
    parsed = Page(render(bare))
    assert not {f"{section}-title" for section in SECTIONS} & set(parsed.ids)
    assert "wide-front" not in parsed.ids
    for words in ("nothing beats these", "Seed", "Time for the search", "on the front"):
        assert words not in parsed.words


def test_candidates_say_how_sure_they_are_what_runs_them_and_in_which_stage_they_were_tried(page):
    words = Page(page).words
    for fact in ("accuracy certified · on the front · OpenVINO", "CPU · 1 thread · stage: settings", "accuracy accepted"):
        assert fact in words
    for kind in ("chosen, certified", "beaten, certified", "beaten, accepted", "rejected"):
        assert kind in words


def test_findings_have_their_evidence_and_advice(given, page):
    words = Page(page).words
    for finding in given.findings:
        for text in (finding.title, finding.advice, *finding.evidence):
            assert text in words


def test_the_front_goes_down_in_drop_as_it_goes_up_in_latency(given):
    line = front_line(points_of(given))
    assert len(line) > 1
    assert line == sorted(line)
    drops = [drop for _, drop in line]
    assert drops == sorted(drops, reverse=True)
    # The chosen one is the fastest, so the line begins with it.
    assert line[0][0] == given.chosen.measurement.latency_ms


def test_operators_are_told_the_longest_first_and_none_is_lost(given):
    bars, total = operator_bars(given.operator_times)
    shares = [max(bar.float_share, bar.chosen_share) for bar in bars[:-1]]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 100
    assert bars[-1].operator == "13 others"
    assert (total.float_us, total.chosen_us, total.change) == ("31\u202f225", "14\u202f485", "2.16×")
    assert operator_bars([]) == ([], None)
    only = operator_bars([OperatorTime("Conv", 0.0, None)])
    assert only[0][0].chosen_us == "—"


def test_what_is_picked_against_the_budget_is_no_accepted_one():
    heading = Page(render(crowded_deployment(pick="static-u8s8-mse-everything"))).words
    assert "int8, outside the budget" in heading
    assert "picked by hand although it would be rejected: loses 0.1710" in heading


def test_memory_is_told_where_it_was_wished_for():
    words = Page(render(crowded_deployment("memory"))).words
    assert "Peak memory 84.0" in words
    assert "least memory" in words


def test_settings_of_float_are_not_float_itself():
    given = crowded_deployment()
    words = Page(render(given)).words
    assert "1 float32 beaten the float model itself" in words
    assert words.count("the float model itself") == 1


def test_candidates_without_a_metric_are_marks_on_the_latency_axis(page):
    parsed = Page(page)
    marks = {name for name in parsed.ids if name.startswith("wide-untested-")}
    assert marks == {"wide-untested-26", "wide-untested-27", "wide-untested-28"}
    assert "metric not measured" in parsed.words
    # One that is twenty times as slow as float is told instead: it would push all others together.
    assert "29 dynamic-s8s8" in parsed.words.partition("Not drawn")[2]
