"""The command line: one JSON document, exit statuses, signals, pipes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit_runtime import load
from edgekit_runtime.errors import EdgekitError

EDGEKIT = [sys.executable, "-m", "edgekit"]


def document(ended):
    """The one JSON document on standard output."""
    assert ended.status == 0, ended.err
    assert ended.out.count("\n") == 1
    return json.loads(ended.out)


NOISY = 'import os, sys, subprocess\nprint("loading")\nos.system("echo from a shell")\nos.write(1, b"from C")\n'


@pytest.fixture
def noisy(project):
    """A project whose recipe prints wherever it can, in Python, in C and from other programs."""
    recipe = project / "recipe.py"
    text = NOISY + recipe.read_text().replace("def predict(run, feed):", "def predict(run, feed):\n    print('predicting')")
    recipe.write_text(text.replace("def calibration():", "def calibration():\n    print('calibrating')"))
    return project


def test_json_is_one_document_whatever_the_recipe_prints(noisy, cli, quick):
    recipe, out = noisy / "recipe.py", noisy / "a.edge"
    deployed = cli("deploy", recipe, "--target", noisy / "small.toml", "--out", out, "--json")
    assert document(deployed)["bundle"] == str(out)
    for text in ("loading", "from a shell", "from C", "predicting", "calibrating"):
        assert text in deployed.err
    assert "evaluate float32\n" in deployed.err  # progress, as plain lines
    assert document(cli("export", recipe, "--out", noisy / "e.onnx", "--json"))["route"] == "onnx file"
    scheme = ("--scheme", "static-u8u8-minmax-weighted")
    assert document(cli("quantize", recipe, *scheme, "--out", noisy / "q.onnx", "--json"))["kind"] == "int8"
    compared = document(cli("compare", noisy / "e.onnx", out, "--recipe", recipe, "--rounds", 3, "--json"))
    assert {"a", "b", "examples", "gates", "passed"} == set(compared)


@pytest.mark.parametrize("kind", ["bundle", "file"])
def test_single_models_by_every_verb(deployed, cli, tmp_path, kind):
    folder, _ = deployed
    model = folder / ("quadrants.edge" if kind == "bundle" else "quadrants.onnx")
    np.savez(tmp_path / "feed.npz", image=np.zeros((2, 64), np.float32))
    feed, out = ("--input", tmp_path / "feed.npz"), tmp_path / "outputs.npz"
    assert document(cli("bench", model, *feed, "--rounds", 2, "--threads", 1, "--json"))["threads"] == 1
    ran = document(cli("run", model, *feed, "--output", out, "--threads", 1, "--json"))
    assert ran["outputs"]["logits"]["shape"] == [2, 4]
    assert np.load(out)["logits"].shape == (2, 4)
    assert document(cli("run", model, "--json"))["outputs"]["logits"]["dtype"] == "float32"
    inspected = document(cli("inspect", model, "--json"))
    assert (inspected["bundle"] is None) == (kind == "file")
    for verb in ("bench", "run", "inspect"):
        ended = cli(verb, model, *(("--rounds", 2) if verb == "bench" else ()))
        assert ended.status == 0
        assert "logits" in ended.out or "latency" in ended.out
    wrong = cli("run", folder / "none.onnx")
    assert (wrong.status, "does not exist" in wrong.line) == (1, True)
    np.savez(tmp_path / "feed.npz", picture=np.zeros((2, 64), np.float32))
    wrong = cli("run", model, *feed)
    assert (wrong.status, "missing ['image'] and unknown ['picture']" in wrong.line) == (1, True)


def test_doctor_says_what_is_wrong_first(cli):
    ended = cli("doctor")
    assert ended.status == 0
    assert re.match(r"(problem|warning|ok)  ", ended.out)
    assert ended.out.index("machine\n") < ended.out.index("integer probes\n")
    assert document(cli("doctor", "--json"))["machine"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nothing",),
        ("deplyo",),
        ("deploy",),
        ("deploy", "recipe.py", "--max-drop", "-1"),
        ("deploy", "recipe.py", "--optimize", "speed"),
        ("bench", "a.onnx", "--rounds", "0"),
        ("bench", "a.onnx", "--threads", "0"),
        ("quantize", "recipe.py"),
        ("compare", "a.onnx"),
    ],
)
def test_wrong_usage_is_2(cli, arguments):
    ended = cli(*arguments)
    assert ended.status == 2
    assert ended.out == ""


WORDS = ["deploy", "export", "quantize", "compare", "bench", "run", "selftest", "certify", "inspect", "card", "doctor"]


@pytest.mark.parametrize("word", WORDS)
def test_every_verb_has_help_and_json(cli, word):
    ended = cli(word, "-h")
    assert ended.status == 0
    assert "--json" in ended.out
    assert "--debug" in ended.out


def test_gates_are_3_and_the_result_is_printed_all_the_same(project, cli, quick):
    (project / "float.toml").write_text('description = "float only"\narchitecture = "any"\n')
    arguments = ("deploy", project / "recipe.py", "--target", project / "float.toml", "--out", project / "a.edge", "--json", "-q")
    ended = cli(*arguments, "--require-int8")
    assert ended.status == 3
    assert json.loads(ended.out)["verdict"] == "float32"
    assert "gate not met: --require-int8: float32 ships" in ended.err
    assert cli(*arguments, "--require-certified").status == 0
    without = cli("deploy", project / "quadrants.onnx", *arguments[2:], "--require-certified")
    assert without.status == 3
    assert (project / "a.edge" / "manifest.json").is_file()


def test_a_pick_that_was_not_tried_is_one_line_that_lists_what_was(project, cli, quick):
    arguments = ("deploy", project / "recipe.py", "--target", project / "small.toml", "--out", project / "a.edge", "-q")
    ended = cli(*arguments, "--time-budget", "0", "--pick", "none-such")
    assert ended.status == 1
    assert "pick none-such: none that was tried has this name; none of these beats another: " in ended.line
    assert not (project / "a.edge").exists()


@pytest.mark.parametrize(("debug", "traces"), [((), 0), (("--debug",), 1)])
def test_a_traceback_is_shown_when_asked_for(project, cli, debug, traces):
    ended = cli("deploy", project / "none.py", *debug)
    assert ended.status == 1
    assert ended.err.count("Traceback (most recent call last)") >= traces
    assert ("Traceback" in ended.err) == bool(traces)


@pytest.mark.parametrize("max_drop", [float("nan"), float("inf"), -0.1])
def test_budgets_that_are_no_budget_are_refused(project, max_drop):
    model = project / "quadrants.onnx"
    with pytest.raises(EdgekitError, match=r"max_drop=.*expected a finite number of at least 0"):
        edgekit.deploy(project / "recipe.py", max_drop=max_drop, out=project / "a.edge")
    with pytest.raises(EdgekitError, match=r"max_drop=.*expected a finite number of at least 0"):
        edgekit.compare(model, model, recipe=project / "recipe.py", max_drop=max_drop)


def test_an_internal_error_is_one_line_that_asks_for_a_report(deployed, cli, monkeypatch):
    import edgekit.commands.run

    monkeypatch.setattr(edgekit.commands.run, "run", lambda *_, **__: 1 / 0)
    ended = cli("run", deployed[0] / "quadrants.onnx")
    assert ended.status == 1
    assert ended.line.startswith("internal error: ZeroDivisionError: division by zero; this is a defect of edgekit")

    def greedy(*_, **__):
        raise MemoryError

    monkeypatch.setattr(edgekit.commands.run, "run", greedy)
    assert cli("run", deployed[0] / "quadrants.onnx").line.startswith("error: out of memory")


@pytest.mark.parametrize("columns", [80, 160])
def test_tables_fit_the_terminal(deployed, capsys, monkeypatch, columns):
    from edgekit.cli.tables import show_deployment

    monkeypatch.setenv("COLUMNS", str(columns))
    show_deployment(deployed[1])
    out = capsys.readouterr().out
    assert all(len(line) <= columns for line in out.splitlines())
    for one in deployed[1].candidates:
        row = next(line for line in out.splitlines() if re.match(rf"{one.name} +{one.status} ", line))
        assert f"{one.measurement.speedup:.2f}" in row
        assert "…" not in row
    assert "why the others lost" in out


def shell(command, **more):
    script = command.replace("edgekit ", f"{sys.executable} -m edgekit ")
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, **more)


def test_a_reader_that_goes_away_and_a_full_disk(deployed):
    folder, _ = deployed
    for flags in ("", "--json"):
        done = shell(f"edgekit run quadrants.onnx {flags} | true; echo ${{PIPESTATUS[0]}}", cwd=folder)
        assert (done.stdout.strip(), done.stderr) == ("0", "")
    if Path("/dev/full").exists():
        done = shell("edgekit run quadrants.onnx --json > /dev/full", cwd=folder)
        assert done.returncode == 1
        assert done.stderr == "error: write standard output: No space left on device\n"


MOMENTS = {
    "load": ("def images(count, seed):", "wait()\ndef images(count, seed):"),
    "calibrate": ("def calibration():", "def calibration():\n    wait()"),
    "evaluate": ("def predict(run, feed):", "def predict(run, feed):\n    wait()"),
}
# Says that the moment has come, and gives the signal time to.
WAIT = """
import os, time
def wait():
    if os.environ.get("WAIT"):
        open(os.environ["WAIT"], "w").close()
        time.sleep(60)
"""


def started(folder, moment, signals=signal.SIGINT):
    """A deployment onto the bundle a.edge in `folder`, at a moment of its work."""
    recipe = folder / "recipe.py"
    old, new = MOMENTS[moment]
    recipe.write_text(WAIT + recipe.read_text().replace(old, new))
    reached = folder / "reached"
    command = [*EDGEKIT, "deploy", str(recipe), "--target", str(folder / "small.toml"), "--out", str(folder / "a.edge"), "--json"]
    process = subprocess.Popen(
        command, env={**os.environ, "WAIT": str(reached)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    deadline = time.monotonic() + 60
    while not reached.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signals)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("moment", "sent", "status", "before"),
    [
        ("load", signal.SIGINT, 130, "bundle"),
        ("calibrate", signal.SIGINT, 130, "nothing"),
        ("evaluate", signal.SIGINT, 130, "bundle"),
        ("evaluate", signal.SIGTERM, 143, "nothing"),
        ("load", signal.SIGTERM, 143, "nothing"),
    ],
)
def test_a_signal_leaves_what_was_there_before(deployed, project, moment, sent, status, before):
    if before == "bundle":
        shutil.copytree(deployed[0] / "quadrants.edge", project / "a.edge")
    returned, out, err = started(project, moment, sent)
    assert returned == status
    assert out == ""
    assert "Traceback" not in err
    assert "what stood at the output before is untouched" in err
    assert not list(project.glob(".*.tmp"))
    assert (project / "a.edge").exists() == (before == "bundle")
    if before == "bundle":
        load(project / "a.edge")


def test_what_a_killed_run_leaves_is_removed_by_the_next(deployed, project, cli, quick):
    shutil.copytree(deployed[0] / "quadrants.edge", project / "a.edge")
    returned, _, _ = started(project, "evaluate", signal.SIGKILL)
    assert returned == -signal.SIGKILL
    load(project / "a.edge")
    assert list(project.glob(".a.edge.*.tmp"))
    ended = cli("deploy", project / "recipe.py", "--target", project / "small.toml", "--out", project / "a.edge", "--json", "-q")
    assert ended.status == 0
    assert not list(project.glob(".*.tmp"))
    load(project / "a.edge")


def test_figures_from_a_part_of_the_examples_are_marked(capsys):
    from edgekit.cli.tables import show_deployment
    from edgekit.deployment import CandidateResult, Deployment
    from edgekit_runtime.measurement import Measurement

    def one(name, status, examples):
        return CandidateResult(
            name=name, status=status, reason="because", measurement=Measurement(), kind="int8", examples=examples
        )

    def shown(*examples):
        candidates = [one("float32", "chosen", 10_000), *(one(f"c{index}", "rejected", n) for index, n in enumerate(examples))]
        show_deployment(
            Deployment(
                bundle="x.edge",
                name="x",
                target="host",
                measured="real",
                verdict="float32",
                reason="because",
                certified=True,
                max_drop=0.01,
                optimize="latency",
                baseline=Measurement(),
                candidates=candidates,
                claims_not_made=[],
                environment={},
                created="",
            )
        )
        return capsys.readouterr().out

    assert "measured on 500 of 10000 examples only: c1" in " ".join(shown(10_000, 500).split())
    assert "examples only" not in shown(10_000, 10_000)
