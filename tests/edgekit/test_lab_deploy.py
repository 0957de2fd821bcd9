"""Deploying to an emulated board: candidates are searched by the instructions that they take there, and certified there."""

import json
import os
from pathlib import Path

import pytest

import edgekit
from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.counts import can_count
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.setup import unfinished
from edgekit_runtime.bundle import read_manifest

LAB = Lab(lab_folder())
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(unfinished(LAB)), reason="the lab of emulated boards is not set up; run: edgekit lab setup"),
    pytest.mark.skipif(not can_count(load_board("raspberry-pi-4"), LAB), reason="the lab is numeric only: there is no C compiler"),
]


@pytest.fixture(autouse=True)
def lab(monkeypatch):
    """The user's own lab in the test's cache folder."""
    Path(os.environ["EDGEKIT_CACHE"]).mkdir(parents=True, exist_ok=True)
    (Path(os.environ["EDGEKIT_CACHE"]) / "lab").symlink_to(LAB.folder)


def test_a_board_gets_what_takes_fewest_instructions_there_and_no_times(project, cli):
    ended = cli("deploy", project / "recipe.py", "--target", "raspberry-pi-4", "--out", project / "a.edge", "--json", "-q")
    assert ended.status == 0, ended.err
    document = json.loads(ended.out)
    chosen, base = document["chosen"], document["baseline"]
    counted = [one for one in document["candidates"] if one["instructions"] is not None and one["metric_drop"] is not None]
    assert base["instructions"] > 0
    if document["verdict"] == "float32":
        assert all(one["instructions"] * 1.02 > base["instructions"] for one in counted if one["metric_drop"] <= 0.01)
    else:
        assert chosen["instructions"] * 1.02 < base["instructions"]
        assert chosen["metric_drop"] <= 0.01
    inside = [one["instructions"] for one in counted if one["metric_drop"] <= 0.01]
    assert chosen["instructions"] <= min(inside) * 1.021
    for one in document["candidates"]:
        assert one["latency_ms"] is None
        assert one["speedup"] is None
        assert "as fast" not in one["reason"]
    assert "no times" in document["summary"]
    assert any(claim.startswith("latency") for claim in document["claims_not_made"])
    # A second run counts nothing anew.
    again = json.loads(
        cli("deploy", project / "recipe.py", "--target", "raspberry-pi-4", "--out", project / "b.edge", "--json", "-q").out
    )
    assert again["chosen"] == chosen


def test_a_certificate_has_a_row_for_each_processor(deployed, project, cli):
    edgekit.deploy(
        project / "recipe.py", target="raspberry-pi-5", out=project / "a.edge", pick="static-s8s8-minmax-everything", max_drop=0.05
    )
    places = ["raspberry-pi-5", "host"]
    ended = cli(
        *("certify", project / "a.edge", "--isa", ",".join(places), "--recipe", project / "recipe.py"),
        *("--examples", 40, "--json", "-q"),
    )
    assert ended.status in (0, 3), ended.err
    rows = {row["isa"]: row for row in json.loads(ended.out)["certificates"]}
    assert list(rows) == places
    board = rows["raspberry-pi-5"]
    assert board["kind"] == "emulated"
    assert board["status"] != "failed"
    assert board["instructions"] > 0
    assert board["integer_nodes"] > 0
    # What is computed there is what integer arithmetic says, up to a step or two.
    near = sum(board["lsb"][label] for label in ("0", "1", "2"))
    assert near >= 0.99 * sum(board["lsb"].values())
    assert [row.isa for row in read_manifest(project / "a.edge").certificates] == places


def test_for_size_alone_nothing_is_counted_and_nothing_says_so(project):
    deployment = edgekit.deploy(project / "recipe.py", target="raspberry-pi-4", out=project / "a.edge", optimize="size")
    assert deployment.measured == "software"
    assert "nstructions were counted" not in deployment.summary
    assert all(one.measurement.instructions is None for one in deployment.candidates)


def test_a_pick_is_counted_however_early_the_search_left_it(project):
    pick = "static-s8s8-minmax-everything"
    deployment = edgekit.deploy(project / "recipe.py", target="raspberry-pi-4", out=project / "a.edge", pick=pick)
    assert deployment.chosen.name == pick
    assert deployment.chosen.measurement.instructions > 0
