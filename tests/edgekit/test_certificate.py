import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.certificate.evidence import argmax_agreement, fusion, lsb_histogram, output_steps
from edgekit.certificate.kept_outputs import KeptOutputs
from edgekit.report.certificates import with_certificates
from edgekit_runtime import load
from edgekit_runtime.bundle import read_manifest
from edgekit_runtime.certificate import Certificate

values = st.floats(-1e3, 1e3, width=32)
rows = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=values)


class Doubling:
    """A model that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, feed):
        self.calls += 1
        return {name: array * 2 for name, array in feed.items()}


@given(st.lists(rows, min_size=1, max_size=5), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_outputs_are_computed_once_and_a_torn_end_is_computed_again(tmp_path_factory, feeds, torn):
    path = tmp_path_factory.mktemp("kept") / "a.kept"
    model = Doubling()
    kept = KeptOutputs(path, lambda: model)
    first = [kept({"x": feed}) for feed in feeds]
    distinct = len({(feed.shape, feed.tobytes()) for feed in feeds})
    assert model.calls == kept.made == distinct

    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - torn)])
    again = KeptOutputs(path, lambda: model)
    for feed, expected in zip(feeds, first, strict=True):
        np.testing.assert_array_equal(again({"x": feed})["x"], expected["x"])
    assert (torn == 0) == (again.made == 0)
    # What was torn off is whole again.
    assert path.read_bytes().startswith(whole[:1])
    assert KeptOutputs(path, pytest.fail)({"x": feeds[0]})["x"].tobytes() == first[0]["x"].tobytes()


def test_a_model_is_not_started_for_what_is_known(tmp_path):
    feed = {"x": np.ones((1, 2), np.float32)}
    KeptOutputs(tmp_path / "a.kept", Doubling)(feed)
    KeptOutputs(tmp_path / "a.kept", lambda: pytest.fail("it was started"))(feed)


@given(rows, st.integers(-12, 12))
def test_values_are_counted_by_how_many_steps_they_are_away(reference, steps):
    moved = reference.astype(np.float64) + steps * 0.5
    found = lsb_histogram([{"y": moved}], [{"y": reference}], {"y": 0.5})
    assert sum(found.values()) == reference.size
    away = abs(steps)
    label = str(away) if away <= 2 else "3-4" if away <= 4 else "5-8" if away <= 8 else ">8"
    assert found[label] == reference.size


def test_nan_and_other_shapes_are_far_away():
    reference = np.zeros((2, 3))
    assert lsb_histogram([{"y": np.full((2, 3), np.nan)}], [{"y": reference}], {"y": 1.0})[">8"] == 6
    assert lsb_histogram([{"y": np.zeros(2)}], [{"y": reference}], {"y": 1.0})[">8"] == 6


@given(rows)
def test_a_model_agrees_with_itself(outputs):
    share = argmax_agreement([{"y": outputs}], [{"y": outputs}])
    assert share == (1.0 if outputs.shape[-1] > 1 else None)


def row(isa="host", **more):
    known = {"kind": "host", "processor": "a <b>", "features": ["avx2"], "status": "passed", "reason": "r", "examples": 3}
    return Certificate(isa=isa, examples_of=10, **(known | more))


def test_a_report_holds_the_latest_rows_once_and_escapes_them():
    page = '<main><section aria-labelledby="environment-title"></section></main>'
    once = with_certificates(page, [row(reason="<script>")])
    assert "<script>" not in once
    assert once.index("certificates-title") < once.index("environment-title")
    twice = with_certificates(once, [row(reason="later")])
    assert twice.count('id="certificates-title"') == 1
    assert "later" in twice
    assert "&lt;script&gt;" not in twice


@pytest.fixture
def recipe(deployed):
    folder, _ = deployed
    return folder / "recipe.py"


@pytest.fixture
def bundle(deployed, tmp_path):
    folder, _ = deployed
    shutil.copytree(folder / "quadrants.edge", tmp_path / "copy.edge")
    return tmp_path / "copy.edge"


def test_the_host_is_certified_with_the_recipe(cli, recipe, bundle):
    ended = cli("certify", bundle, "--isa", "host", "--recipe", recipe, "--examples", 40, "--json", "-q")
    assert ended.status == 0, ended.err
    document = json.loads(ended.out)
    (found,) = document["certificates"]
    assert document["passed"]
    assert (found["isa"], found["kind"], found["examples"]) == ("host", "host", 40)
    assert found["status"] in ("passed", "certified")
    assert found["metric_drop_ci"][0] <= found["metric_drop"] <= found["metric_drop_ci"][1]
    assert found["argmax_agreement"] > 0.9
    assert sum(found["lsb"].values()) > 0
    # The bundle says so, too, and is whole.
    manifest = read_manifest(bundle)
    assert [one.isa for one in manifest.certificates] == ["host"]
    load(bundle)
    assert "certificates-title" in (bundle / "report.html").read_text(encoding="utf-8")


def test_without_a_recipe_the_golden_examples_speak(cli, bundle):
    ended = cli("certify", bundle, "--json", "-q")
    assert ended.status == 0, ended.err
    (found,) = json.loads(ended.out)["certificates"]
    assert found["metric"] is None
    assert "without a recipe" in found["reason"]
    assert found["examples"] == 3


def test_a_place_where_the_budget_is_not_kept_fails_and_says_so(cli, recipe, bundle, monkeypatch):
    from edgekit.labs.worker import RemoteModel

    plain = RemoteModel.__call__
    monkeypatch.setattr(RemoteModel, "__call__", lambda self, feed: {name: -array for name, array in plain(self, feed).items()})
    ended = cli("certify", bundle, "--recipe", recipe, "--examples", 40, "--json", "-q")
    assert ended.status == 3
    assert "gate not met: host: loses" in ended.err
    (found,) = json.loads(ended.out)["certificates"]
    assert found["status"] == "failed"
    assert found["argmax_agreement"] < 0.5
    load(bundle)


def test_what_cannot_be_certified_is_told_in_a_line(cli, bundle, tmp_path):
    assert "no such one; emulated boards are" in cli("certify", bundle, "--isa", "raspberry-pi-9").line
    assert "it is no bundle" in cli("certify", tmp_path).line
    assert "no place was named" in cli("certify", bundle, "--isa", " ,").line


def test_steps_and_fusion_are_read_from_the_graph(bundle):
    manifest = read_manifest(bundle)
    outputs = [{spec.name: np.asarray([[0.0, 2.55]], np.float32) for spec in manifest.outputs}]
    steps = output_steps(bundle / manifest.model, outputs)
    assert set(steps) == {spec.name for spec in manifest.outputs}
    assert all(step > 0 for step in steps.values())
    conversions, integers = fusion((bundle / manifest.model).read_bytes())
    assert conversions >= 0
    assert integers >= 0
