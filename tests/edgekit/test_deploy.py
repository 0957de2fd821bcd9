"""Deploying from recipe to bundle: what comes out, and that whatever goes wrong costs nothing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import edgekit
from edgekit.lineup import Lineup
from edgekit_runtime import load
from edgekit_runtime.errors import OutputError
from edgekit_runtime.selftest import selftest

MEASUREMENT = {
    "metric",
    "metric_drop",
    "metric_drop_ci",
    "latency_ms",
    "latency_p99_ms",
    "speedup",
    "speedup_ci",
    "size_bytes",
    "peak_rss_bytes",
    "cold_start_ms",
    "max_abs_diff",
    "sqnr_db",
    "instructions",
}


def no_infinity(text):
    raise AssertionError(f"{text} in JSON")


def test_the_document_is_the_designs(deployed):
    folder, deployment = deployed
    document = json.loads(json.dumps(deployment.document()), parse_constant=no_infinity)
    wanted = {"bundle", "target", "verdict", "reason", "certified", "baseline", "chosen", "candidates"}
    more = {"claims_not_made", "summary", "front", "picked", "findings", "operator_times", "search", "earlier_figures"}
    assert set(document) == wanted | more
    assert set(document["baseline"]) == MEASUREMENT
    assert set(document["chosen"]) == MEASUREMENT | {"name"}
    for candidate in document["candidates"]:
        assert set(candidate) == MEASUREMENT | {"name", "status", "reason", "notes", "stage", "provider", "session"}
        assert candidate["reason"]
    names = [one["name"] for one in document["candidates"]]
    assert names[:3] == ["float32", "dynamic-u8u8", "static-u8u8-minmax-weighted"]
    assert len(set(names)) == len(names)
    assert [one["status"] for one in document["candidates"]].count("chosen") == 1
    assert document["bundle"] == str(folder / "quadrants.edge")


def test_figures_hang_together(project):
    """As many rounds as a user's deployment takes: here nothing is hurried."""
    deployment = edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / "a.edge")
    base = deployment.baseline
    assert base.metric > 0.8
    assert base.metric_drop == 0
    for one in deployment.candidates:
        figures = one.measurement
        if figures.metric is not None:  # what cannot win is not evaluated
            assert figures.metric_drop == pytest.approx(base.metric - figures.metric, abs=1e-9)
            assert figures.metric_drop_ci[0] <= figures.metric_drop <= figures.metric_drop_ci[1]
        assert figures.speedup_ci[0] <= figures.speedup <= figures.speedup_ci[1]
    chosen = deployment.chosen.measurement
    assert chosen.speedup == pytest.approx(base.latency_ms / chosen.latency_ms)
    if deployment.verdict != "float32":
        assert chosen.speedup_ci[0] > 1
        assert chosen.metric_drop <= deployment.max_drop


def test_the_bundle_opens_proves_itself_and_has_its_report(deployed):
    folder, deployment = deployed
    model = load(folder / "quadrants.edge")
    assert selftest(model).passed
    assert model.manifest.chosen.name == deployment.chosen.name
    assert model(np.zeros((3, 64), np.float32))["logits"].shape == (3, 4)
    assert (folder / "quadrants.edge" / "report.html").stat().st_size < 1_500_000
    assert not list(folder.glob(".*.tmp"))


def test_without_data_less_is_claimed(project, quick):
    deployment = edgekit.deploy(project / "quadrants.onnx", target=str(project / "small.toml"), out=project / "a.edge")
    claims = " ".join(deployment.claims_not_made)
    for claim in ("accuracy: ", "static int8: ", "parity with PyTorch: "):
        assert claim in claims
    assert "latency" not in claims
    assert not deployment.certified
    assert deployment.baseline.metric is None
    assert selftest(load(project / "a.edge")).passed


def test_a_target_that_is_not_here_has_no_latency_and_says_so(project, quick):
    text = (project / "small.toml").read_text().replace('measured = "real"', 'measured = "software"')
    (project / "small.toml").write_text(text)
    deployment = edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / "a.edge")
    assert deployment.measured == "software"
    assert deployment.optimize == "size"
    assert "latency, cold start and memory: small cannot be timed on this machine" in " ".join(deployment.claims_not_made)
    for one in deployment.candidates:
        figures = one.measurement
        assert figures.latency_ms is figures.speedup is figures.cold_start_ms is figures.peak_rss_bytes is None
        assert figures.metric is not None
    assert deployment.verdict == "int8"
    assert deployment.chosen.measurement.size_bytes < deployment.baseline.size_bytes


BROKEN = [
    ('{"image": images(1, 0)[0]}', '{"picture": images(1, 0)[0]}', "picture"),
    ('{"image": images(1, 0)[0]}', '{"image": images(1, 0)[0] * np.nan}', "NaN"),
    ('{"image": images(1, 0)[0]}', "[1, 2]", "expected a dict of input name to numpy array"),
    ('return {"image": images(1, 0)[0]}', "return 1 / 0", "example() raised ZeroDivisionError"),
    ('dynamic={"image": {0: "batch"}}', 'dynamic={"image": {7: "batch"}}', "axis 7 is not there"),
    ("in images(32, 1)[0]", "in images(0, 1)[0]", "gave no example"),
    ('yield {"image": image[None]}', 'yield {"image": image[None] * np.nan}', "holds NaN"),
    ('yield {"image": image[None]}', 'yield {"image": image[None].astype(float)}', "float64"),
    ('yield {"image": image[None]}', 'yield {"image": image}', "calibrate on example 0: input 'image': shape [64]"),
    ('yield {"image": image[None]}', "yield image", "expected a dict of input name to array"),
    (
        'yield {"image": image[None]}',
        'yield {"image": image[None]}\n        raise OSError("disk gone")',
        "raised OSError: disk gone",
    ),
    ('    for image in images(32, 1)[0]:\n        yield {"image": image[None]}', "    return 5", "calibration() gave int"),
    ("    return float(np.mean(np", "    return float('nan') * float(np.mean(np", "metric() gave nan on 200 examples"),
    ("    return float(np.mean(np", "    1 / 0\n    return float(np.mean(np", "metric() raised ZeroDivisionError"),
    ('return int(run(feed)["logits"].argmax())', "return 3", "predict() never calls run(feed)"),
    ('["logits"].argmax()', '["scores"].argmax()', "predict() on example 0 raised KeyError: 'scores'"),
    ("for image, label in zip(*images(200, 2))]", "for image, label in zip(*images(0, 2))]", "evaluation() gave no examples"),
    ('HERE / "quadrants.onnx"', 'HERE / "none.onnx"', "there is no such file"),
    ('HERE / "quadrants.onnx"', "HERE", "not a sound ONNX model"),
    ('HERE / "quadrants.onnx"', 'HERE / "recipe.py"', "not a sound ONNX model"),
    ('HERE / "quadrants.onnx"', "lambda: 3", "it returned int, expected a torch.nn.Module"),
    ('HERE / "quadrants.onnx"', "lambda: exit(4)", "called sys.exit(4)"),
    ('HERE / "quadrants.onnx"', "lambda: 1 / 0", "model() raised ZeroDivisionError"),
]


@pytest.mark.parametrize(("old", "new", "told"), BROKEN, ids=[told for _, _, told in BROKEN])
def test_a_broken_recipe_costs_one_clear_line_and_nothing_else(deployed, project, cli, old, new, told):
    recipe = project / "recipe.py"
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))
    # One output is not there before, the other is an old bundle.
    out, kept = project / "new.edge", deployed[0] / "quadrants.edge"
    before = {file.name: file.read_bytes() for file in kept.iterdir()}
    ended = cli("deploy", recipe, "--target", project / "small.toml", "--out", out, "--json", "-q")
    assert ended.status == 1
    assert ended.out == ""
    assert told in ended.line
    assert ended.line.startswith("error: ")
    assert cli("deploy", recipe, "--target", project / "small.toml", "--out", kept, "-q").status == 1
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == before
    assert not out.exists()
    assert not [*project.glob(".*.tmp"), *kept.parent.glob(".*.tmp")]


def test_an_output_that_is_something_else_is_left_alone(project, cli):
    (project / "photos").mkdir()
    (project / "photos" / "cat.jpg").write_text("meow")
    (project / "a.edge").write_text("a file")
    (project / "blocked").write_text("a file where a folder should be")
    for out, told in (
        ("photos", "is not a bundle"),
        ("a.edge", "is not a bundle"),
        ("blocked/a.edge", "blocked"),
    ):
        ended = cli("deploy", project / "recipe.py", "--out", project / out, "-q")
        assert (ended.status, told in ended.line) == (1, True)
    assert (project / "photos" / "cat.jpg").read_text() == "meow"
    assert (project / "a.edge").read_text() == "a file"


def test_a_folder_that_may_not_be_written_to(project, cli, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    ended = cli("deploy", project / "recipe.py", "--out", project / "a.edge", "-q")
    assert (ended.status, "no permission to write to" in ended.line) == (1, True)


def test_a_corrupt_model_file(project, cli):
    data = (project / "quadrants.onnx").read_bytes()
    (project / "quadrants.onnx").write_bytes(data[: len(data) // 2])
    ended = cli("deploy", project / "quadrants.onnx", "--out", project / "a.edge")
    assert (ended.status, "not a sound ONNX model" in ended.line) == (1, True)


def test_a_disk_that_fills_up_leaves_nothing(project, cli, quick, monkeypatch):
    import edgekit_export

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edgekit_export, "pack", full)
    ended = cli("deploy", project / "recipe.py", "--target", project / "small.toml", "--out", project / "a.edge", "-q")
    assert ended.status == 1
    assert "no space left on the device" in ended.line
    assert not (project / "a.edge").exists()
    assert not list(project.glob(".*.tmp"))


def test_a_disk_that_is_too_small_is_noticed_before_the_work(project, cli, monkeypatch):
    import shutil

    usage = shutil.disk_usage(project)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    ended = cli("deploy", project / "recipe.py", "--out", project / "a.edge", "-q")
    assert ended.status == 1
    assert "make room, choose an --out on another disk, or set EDGEKIT_CACHE" in ended.line


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_real_small_disk(project):
    command = f"{sys.executable} -m edgekit deploy recipe.py --target small.toml --out small/a.edge -q"
    script = f"mount -t tmpfs -o size=200k none small && {command}; status=$?; ls -A small; exit $status"
    (project / "small").mkdir()
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=project, capture_output=True, text=True)
    if "mount:" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this container mounts nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


def failing(model, when):
    """The model, failing on calls for which `when` holds."""
    calls = iter(range(10**9))

    def call(feed):
        if when(next(calls)):
            raise RuntimeError("a kernel of a provider gave up")
        return model(feed)

    return call


def nan(model):
    return lambda feed: {name: array * np.nan for name, array in model(feed).items()}


def test_placements_of_operators_that_are_not_there_are_no_candidates(project, quick):
    text = (project / "small.toml").read_text()
    (project / "small.toml").write_text(text.replace('["weighted"]', '["linear", "weighted", "conv"]'))
    deployment = edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / "a.edge")
    # "linear" and "weighted" come to the same nodes here, and there is no convolution.
    of_round_one = [one.name for one in deployment.candidates if one.stage in ("float", "schemes")]
    assert of_round_one == ["float32", "dynamic-u8u8", "static-u8u8-minmax-linear"]


BREAKS = {
    "while timed": (lambda model: failing(model, lambda call: call > 40), "gave up"),
    "when first run": (lambda model: failing(model, lambda _: True), "gave up"),
    "with NaN": (nan, "holds NaN or infinity"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_candidate_that_breaks_fails_alone(project, quick, monkeypatch, how):
    change, told = BREAKS[how]
    real = Lineup.model

    def broken(lineup: Lineup, name: str):
        model = real(lineup, name)
        return change(model) if name == "dynamic-u8u8" else model

    monkeypatch.setattr(Lineup, "model", broken)
    deployment = edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / "a.edge")
    status = {one.name: (one.status, one.reason) for one in deployment.candidates}
    assert status["dynamic-u8u8"][0] == "failed"
    assert told in status["dynamic-u8u8"][1]
    assert status["static-u8u8-minmax-weighted"][0] != "failed"
    assert selftest(load(project / "a.edge")).passed


def test_a_candidate_that_is_not_built_or_whose_predictions_have_no_metric_fails_alone(project, quick, monkeypatch):
    import edgekit.building

    real = edgekit.building.quantize_graph

    def quantize(graph, scheme, statistics, *further, **named):
        if scheme.name == "dynamic-u8u8":
            raise AttributeError("'NoneType' object has no attribute 'dims'")
        return real(graph, scheme, statistics, *further, **named)

    monkeypatch.setattr(edgekit.building, "quantize_graph", quantize)
    recipe = edgekit.recipe_file.load_recipe(project / "recipe.py")
    seen = []

    def metric(predictions, labels):
        seen.append(predictions)
        whole = len([one for one in seen if len(one) == 200]) and recipe.metric(predictions, labels)
        return whole if len(seen) <= 1001 else float("nan")

    broken = edgekit.Recipe(**{**vars(recipe), "metric": metric})
    # What is slower than float is not evaluated; all of them are smaller.
    deployment = edgekit.deploy(broken, target=str(project / "small.toml"), out=project / "a.edge", optimize="size")
    reasons = {one.name: (one.status, one.reason) for one in deployment.candidates}
    assert reasons["dynamic-u8u8"][0] == "failed"
    assert "has no attribute 'dims'" in reasons["dynamic-u8u8"][1]
    failed = [reason for name, (status, reason) in reasons.items() if status == "failed" and name != "dynamic-u8u8"]
    assert failed
    assert all("metric() gave nan on 200 examples" in reason for reason in failed)
    assert deployment.verdict == "float32"


def test_a_full_disk_while_building_is_no_candidates_fault(project, monkeypatch):
    import edgekit.building

    def full(*_, **__):
        raise OutputError("write a.onnx: No space left on device")

    monkeypatch.setattr(edgekit.building, "quantize_graph", full)
    with pytest.raises(OutputError, match="No space left"):
        edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / "a.edge")
    assert not (project / "a.edge").exists()


def test_a_candidate_outside_the_budget_is_evaluated_on_a_random_part(project, quick, monkeypatch):
    import edgekit.search.judging as judging

    monkeypatch.setattr(judging, "PROBE_EXAMPLES", 50)
    real = Lineup.model

    def wrong(lineup: Lineup, name: str):
        model = real(lineup, name)
        return model if name == "float32" else lambda feed: {key: -array for key, array in model(feed).items()}

    # Outputs of the wrong sign are 6 dB below float's, which the search would not even evaluate.
    monkeypatch.setattr("edgekit.search.standing.HOPELESS_DB", -100.0)
    monkeypatch.setattr(Lineup, "model", wrong)
    deployment = edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / "a.edge", optimize="size")
    rejected = [one for one in deployment.candidates if one.status == "rejected"]
    assert rejected
    for one in rejected:
        assert one.examples == 50
        assert any("on 50 of 200 examples, drawn at random" in note for note in one.notes)
        assert one.measurement.metric_drop == pytest.approx(deployment.baseline.metric - one.measurement.metric)
    assert deployment.verdict == "float32"


def test_static_everything_of_a_masked_attention_is_rejected_by_the_metric(attention, quick):
    deployment = edgekit.deploy(attention / "recipe.py", target=str(attention / "small.toml"), out=attention / "a.edge")
    assert deployment.baseline.metric == 1.0
    everything = next(one for one in deployment.candidates if one.name == "static-u8u8-minmax-everything")
    assert everything.status != "chosen"
    if everything.measurement.metric is not None:  # one that is slower than float is not even evaluated
        assert everything.status == "rejected"
        assert everything.reason.startswith("loses ")
        assert everything.measurement.metric < 0.7
    assert deployment.chosen.measurement.metric_drop <= deployment.max_drop
