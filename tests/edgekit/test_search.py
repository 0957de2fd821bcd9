"""The search: a killed one goes on where it was, a finished one is repeated without measuring, and its budget and picks hold."""

import msgspec
import pytest

import edgekit
from edgekit.search.ledger import Ledger
from edgekit_runtime import load
from edgekit_runtime.errors import RecipeError
from edgekit_runtime.selftest import selftest


def deploy(project, out="a.edge", **options):
    return edgekit.deploy(project / "recipe.py", target=str(project / "small.toml"), out=project / out, **options)


def figures(deployment):
    return [(one.name, one.status, msgspec.to_builtins(one.measurement)) for one in deployment.candidates]


def test_a_finished_search_is_repeated_with_the_same_figures_and_nothing_is_measured(project, quick, monkeypatch):
    first = deploy(project)

    def no(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("edgekit.labs.host.HostLab.time", no)
    monkeypatch.setattr("edgekit.labs.host.HostLab.fresh", no)
    monkeypatch.setattr("edgekit.building.quantize_graph", no)
    again = deploy(project, "b.edge")
    assert figures(again) == figures(first)
    assert again.reason == first.reason
    assert "measurements" in again.environment["from an earlier run"]
    earlier = again.document()["earlier_figures"]
    assert earlier["measurements"] == earlier["of"] > 0
    assert first.document()["earlier_figures"] is None
    assert selftest(load(project / "b.edge")).passed


@pytest.mark.parametrize("kill_at", [1, 4, 9, 14])
def test_a_killed_search_leaves_no_bundle_and_goes_on_where_it_was(project, quick, monkeypatch, kill_at):
    real, written = Ledger._write, []

    def dying(self, key, entry):
        if len(written) == kill_at:
            raise KeyboardInterrupt
        written.append(key)
        real(self, key, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            deploy(project)
    assert not (project / "a.edge").exists()
    assert not list(project.glob(".*.tmp"))

    anew: list[str] = []

    def counting(self, key, entry):
        anew.append(key)
        real(self, key, entry)

    monkeypatch.setattr(Ledger, "_write", counting)
    resumed = deploy(project)
    earlier = resumed.document()["earlier_figures"]
    assert earlier["measurements"] == earlier["of"] - len(anew) == kill_at
    assert not set(anew) & set(written)  # what was measured before the kill is not measured again
    assert selftest(load(project / "a.edge")).passed
    assert figures(deploy(project, "b.edge")) == figures(resumed)


def test_fresh_measures_everything_anew(project, quick):
    deploy(project)
    anew = deploy(project, "b.edge", fresh=True)
    assert "from an earlier run" not in anew.environment
    assert anew.document()["earlier_figures"] is None


def test_another_metric_is_evaluated_again_and_the_same_graph_is_not_built_again(project, quick, monkeypatch):
    first = deploy(project)
    recipe = project / "recipe.py"
    recipe.write_text(recipe.read_text().replace("return float(np.mean(", "return 0.5 * float(np.mean("))
    monkeypatch.setattr("edgekit.building.quantize_graph", lambda *_, **__: pytest.fail("built again"))
    again = deploy(project, "b.edge")
    assert again.baseline.metric == pytest.approx(first.baseline.metric / 2)


def test_a_budget_of_nothing_still_gives_a_verdict(project, quick):
    deployment = deploy(project, time_budget_s=0.0)
    assert [one.name for one in deployment.candidates] == ["float32"]
    assert deployment.verdict == "float32"
    assert deployment.budget_s == 0.0
    assert selftest(load(project / "a.edge")).passed


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(project, budget):
    with pytest.raises(RecipeError, match="time_budget_s"):
        deploy(project, time_budget_s=budget)


def test_a_pick_is_measured_in_full_and_ships_whatever_the_verdict_would_be(project, quick):
    deployment = deploy(project, pick="static-u8u8-mse-weighted")
    assert deployment.chosen.name == "static-u8u8-mse-weighted"
    assert deployment.chosen.measurement.metric is not None
    assert deployment.chosen.measurement.speedup is not None
    assert deployment.picked
    with pytest.raises(RecipeError, match="pick static-u9: none that was tried has this name"):
        deploy(project, "b.edge", pick="static-u9")
    assert not (project / "b.edge").exists()


def test_what_ships_is_looked_into(project, quick):
    deployment = deploy(project)
    assert {one.operator for one in deployment.operator_times} >= {"Gemm"}
    assert deployment.sensitivity is not None
    assert {node for group in deployment.sensitivity.groups for node in group.nodes} >= {"first", "second"}


@pytest.mark.parametrize("step", ["examining._sensitivity", "examining._findings", "placing._divisible"])
def test_what_a_verdict_can_do_without_cannot_end_a_deployment(project, quick, monkeypatch, step):
    def broken(*_, **__):
        raise AttributeError("'NoneType' object has no attribute 'dims'")

    monkeypatch.setattr(f"edgekit.search.{step}", broken)
    deployment = deploy(project)
    notes = [note for one in deployment.candidates for note in one.notes]
    assert any("did not work: AttributeError: 'NoneType' object has no attribute 'dims'" in note for note in notes)
    assert selftest(load(project / "a.edge")).passed
