"""`edgekit inspect --sensitivity`, and the choice of nodes to spare."""

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from edgekit.candidates import scheme_named
from edgekit.commands.sensitivity import sensitivity
from edgekit.evaluation import Evaluation
from edgekit.inspection.sensitivity import Sensitivity, worst
from edgekit.inspection.sensitivity_examples import study_of
from edgekit.inspection.sensitivity_study import Examples, Study
from edgekit.inspection.sparing import spare_until
from edgekit.recipe_file import load_recipe
from edgekit.report.sensitivity_plot import sensitivity_svg
from edgekit_export import Graph, calibrate, prepare, quantize_static
from edgekit_export.sensitivity import open_switchable
from edgekit_runtime import load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.errors import QuantizationError

SCHEME = "static-u8s7-minmax-weighted"
NODES = ("first", "relu", "second")


@pytest.fixture
def recipe(project):
    return load_recipe(project / "recipe.py")


@pytest.fixture
def opened(recipe):
    """The prepared graph, what calibration saw of it, and its switchable form."""
    graph = prepare(Graph.read(recipe.model), [{"image": recipe.example()["image"]}])
    histograms = calibrate(graph, recipe.calibration()).histograms
    return graph, histograms, open_switchable(graph, scheme_named(SCHEME), histograms)


def study(opened, recipe, count=None, budget_s=1.0):
    return study_of(opened[2], Evaluation(recipe), recipe.calibration, count=count, budget_s=budget_s, variants=5)


def test_a_recipe_gives_both_figures_of_every_group(recipe):
    found = sensitivity(recipe, scheme=SCHEME, examples=50)
    assert (found.model, found.scheme, found.feeds, found.examples) == ("quadrants", SCHEME, 50, 50)
    single = [group for group in found.groups if group.kind == "node"]
    assert {group.name: group.nodes for group in single} == {"first": ["first", "relu"], "second": ["second"]}
    assert {group.name: group.operators[0] for group in single} == {"first": "Gemm", "second": "Gemm"}
    for group in found.groups:
        assert group.alone_sqnr_db > found.quantized_sqnr_db
        assert group.alone_metric_drop == pytest.approx(0.0, abs=0.1)
        assert group.spared_sqnr_gain_db is not None
        assert group.spared_metric_gain == pytest.approx(0.0, abs=0.1)
    assert [group.alone_sqnr_db for group in found.groups] == sorted(group.alone_sqnr_db for group in found.groups)
    assert 0.5 < found.quantized_metric <= 1.0
    assert json.loads(msgspec.json.encode(found)) == found.document()


def test_figures_are_those_of_really_quantizing(recipe, opened, tmp_path):
    """Both SQNR and metric, on the same examples; U8S7 saturates nowhere, so ordinary kernels will do."""
    graph, histograms, _ = opened
    found = sensitivity(recipe, scheme=SCHEME, examples=200)
    evaluation = Evaluation(recipe)
    feeds = [feed for feed, _ in evaluation.examples]
    floats = [load_graph(graph, tmp_path)(feed) for feed in feeds]
    for group in found.groups:
        if group.kind != "node":
            continue
        for names, figure, metric in (
            (group.nodes, group.alone_sqnr_db, found.metric - group.alone_metric_drop),
            (
                [name for name in NODES if name not in group.nodes],
                found.quantized_sqnr_db + group.spared_sqnr_gain_db,
                found.quantized_metric + group.spared_metric_gain,
            ),
        ):
            model = load_graph(quantize_static(graph, scheme_named(SCHEME), histograms, only=names).graph, tmp_path)
            # Fused kernels round where pairs of Q/DQ do, up to sums that end on the other side of a border.
            assert figure == pytest.approx(difference([model(feed) for feed in feeds], floats).sqnr_db, abs=0.3)
            assert metric == pytest.approx(evaluation.metric(evaluation.predict(model)), abs=0.011)


def load_graph(graph, folder):
    graph.save(folder / "model.onnx")
    return load(folder / "model.onnx")


def test_an_onnx_file_with_calibration_files_has_an_sqnr_alone(project, cli):
    np.savez(project / "data.npz", image=np.random.default_rng(1).normal(size=(24, 64)).astype(np.float32))
    ended = cli(
        *("inspect", project / "quadrants.onnx", "--sensitivity", "--calibration", project / "data.npz", "--json", "-q"),
        *("--scheme", SCHEME, "--layers", "--plot", project / "plot.svg"),
    )
    assert ended.status == 0, ended.err
    found = msgspec.json.decode(ended.out, type=Sensitivity)
    assert (found.metric, found.examples, found.feeds) == (None, None, 24)
    assert all(group.alone_metric_drop is None and group.spared_metric_gain is None for group in found.groups)
    assert any("no evaluation or no metric" in note for note in found.notes)
    assert [layer.tensor for layer in found.layers] == ["image", "active", "logits"]
    assert all(layer.sqnr_db > 20 for layer in found.layers)
    drawn = ET.fromstring((project / "plot.svg").read_text())
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in (project / "plot.svg").read_text()


def test_the_table_names_the_groups_and_the_plot_draws_them(project, cli):
    ended = cli("inspect", project / "recipe.py", "--sensitivity", "--examples", 20, "-q")
    assert ended.status == 0, ended.err
    for words in ("quadrants in static-u8s7-minmax-everything", "20 runs", "first", "Gemm +1", "alone dB", "won spared"):
        assert words in ended.out
    svg = sensitivity_svg(sensitivity(project / "recipe.py", examples=5))
    assert "first (Gemm Relu)" in svg
    assert svg.count("<title>") == 4  # two bars for each of the two groups


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("recipe.py", ("--scheme", "dynamic-u8u8"), "only static schemes round tensor by tensor"),
        ("recipe.py", ("--scheme", "int8"), "scheme 'int8'"),
        ("quadrants.onnx", (), "give --calibration FILE.npz, or a recipe"),
        ("recipe.py", ("--plot", "plot.png"), "plots are SVG"),
        ("recipe.py", ("--plot", "nowhere/plot.svg"), "there is no folder nowhere"),
        ("quantized.onnx", ("--calibration", "data.npz"), "the model is quantized already"),
    ],
)
def test_what_goes_wrong_is_told(project, cli, monkeypatch, opened, model, options, told):
    monkeypatch.chdir(project)
    np.savez("data.npz", image=np.zeros((2, 64), np.float32))
    quantize_static(opened[0], scheme_named(SCHEME), opened[1]).graph.save(project / "quantized.onnx")
    ended = cli("inspect", model, "--sensitivity", *options, "-q")
    assert (ended.status, told in ended.line) == (1, True), ended.err


def test_a_bundle_holds_no_float_model(deployed, cli):
    ended = cli("inspect", deployed[0] / "quadrants.edge", "--sensitivity")
    assert (ended.status, "a bundle holds no float model" in ended.line) == (1, True)


def test_its_options_need_it(project, cli):
    ended = cli("inspect", project / "quadrants.onnx", "--examples", 3)
    assert (ended.status, "--examples needs --sensitivity" in ended.err) == (2, True)


def test_batches_give_what_single_runs_give(opened, recipe, monkeypatch):
    import edgekit.inspection.sensitivity_study as module

    together = study(opened, recipe, 30)
    monkeypatch.setattr(module, "MOST_BATCH", 1)
    one_by_one = study(opened, recipe, 30)
    calls = {"together": 0, "one_by_one": 0}
    run = opened[2].run
    for name, one in (("together", together), ("one_by_one", one_by_one)):
        monkeypatch.setattr(opened[2], "run", lambda *given, name=name: calls.update({name: calls[name] + 1}) or run(*given))
        one.measure(NODES)
    assert calls == {"together": 1, "one_by_one": 30}
    assert together.measure(NODES).sqnr_db == pytest.approx(one_by_one.measure(NODES).sqnr_db, abs=0.1)
    assert together.measure(NODES).metric == one_by_one.measure(NODES).metric


def test_the_budget_decides_how_many_examples(opened, recipe):
    few, more = (len(study(opened, recipe, None, budget_s).examples.feeds) for budget_s in (1e-6, 30.0))
    assert few == 4 < more <= 200


def test_the_same_examples_every_time_and_each_once(opened, recipe):
    one, other = study(opened, recipe, 40), study(opened, recipe, 40)
    assert one.examples.indices == other.examples.indices
    assert len(set(one.examples.indices)) == 40


def several_runs(recipe, runs=5):
    """The recipe with a predict that runs the model several times, each time on what the last run gave."""

    def predict(run, feed):
        image, total = feed["image"], 0.0
        for _ in range(runs):
            logits = run({"image": image})["logits"]
            image = (image + 0.01 * logits.max()).astype(np.float32)
            total = total + logits
        return int(total.argmax())

    return replace(recipe, predict=predict)


def test_an_example_of_several_runs(opened, recipe):
    """Whole examples for the metric, single runs of others beside them; feeds that depend on outputs are run anew."""
    given = several_runs(recipe)
    whole = study(opened, given, 6)
    assert (len(whole.examples.feeds), len(whole.examples.indices)) == (30, 6)
    assert whole.measure(NODES).metric is not None
    short = study(opened, given, None, 1e-6)
    assert (len(short.examples.feeds), short.examples.indices) == (4, [])
    assert short.measure(NODES).metric is None
    long = study(opened, given, None, 600.0)
    assert 2 * len(long.examples.indices) <= len(long.examples.feeds)
    assert long.examples.indices


def test_a_metric_that_does_not_exist_on_few_examples_is_noted(recipe):
    def metric(predictions, labels):
        return float("nan")

    found = sensitivity(replace(recipe, metric=metric), scheme=SCHEME, examples=3)
    assert found.metric is None
    assert any("no metric for some variants" in note for note in found.notes)


def test_sparing_reaches_a_bound_with_as_few_groups_as_it_takes(opened, recipe):
    one = study(opened, recipe, 20)
    everything = one.measure(one.switchable.nodes).sqnr_db
    nothing = spare_until(one, sqnr_db=everything)
    assert (nothing.nodes, nothing.reached) == ((), True)
    gains = {
        group.nodes: one.measure([name for name in NODES if name not in group.nodes]).sqnr_db
        for group in one.switchable.groups
        if group.kind == "node"
    }
    best = max(gains, key=lambda nodes: gains[nodes])
    found = spare_until(one, sqnr_db=gains[best])
    assert (found.nodes, found.sqnr_db, found.reached) == (best, gains[best], True)
    every = spare_until(one, sqnr_db=500.0)
    assert (set(every.nodes), every.sqnr_db, every.reached) == (set(NODES), np.inf, True)
    short = spare_until(one, sqnr_db=500.0, most=1)
    assert (len(short.nodes) <= 2, short.reached) == (True, False)
    assert spare_until(one, metric_drop=0.5).nodes == ()
    # The names are what a scheme takes.
    graph, histograms, _ = opened
    spared = quantize_static(graph, replace(scheme_named(SCHEME), spared=found.nodes), histograms)
    assert {weight.node for weight in spared.left_float} == set(found.nodes) & {"first", "second"}


def test_what_sparing_needs_is_told(opened, recipe):
    feeds = Examples(feeds=[recipe.example()], outputs=[opened[2].run(recipe.example(), ())])
    without_metric = Study(opened[2], feeds)
    with pytest.raises(QuantizationError, match="give an SQNR to reach"):
        spare_until(without_metric)
    with pytest.raises(QuantizationError, match="there is no metric"):
        spare_until(without_metric, metric_drop=0.1)


def test_worst_names_the_nodes_whose_sparing_wins_most(recipe):
    found = sensitivity(recipe, scheme=SCHEME, examples=20)
    gains = {group.name: group.spared_sqnr_gain_db for group in found.groups if group.kind == "node"}
    first = max(gains, key=lambda name: gains[name])
    assert worst(found, count=1)[0] == first
    assert set(worst(found, count=9)) == set(NODES)
    assert worst(found, until_sqnr_db=found.quantized_sqnr_db - 1) == []
    assert worst(found, until_sqnr_db=found.quantized_sqnr_db + 0.9 * gains[first])[0] == first
    for arguments in ({}, {"count": 1, "until_sqnr_db": 3.0}):
        with pytest.raises(QuantizationError, match="either a count"):
            worst(found, **arguments)
