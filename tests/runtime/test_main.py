"""``python -m edgekit_runtime``: one JSON document, the exit status, and one line where something is wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from edgekit_runtime import __main__ as command
from edgekit_runtime.fresh_process import FreshRun


def refuse(word):
    raise AssertionError(f"{word} is not JSON")


def document(text):
    """The one JSON document that is all of `text`."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.setattr("edgekit_runtime.benchmark.run_in_fresh_process", lambda *_: FreshRun(1.0, None))

    def call(*arguments):
        try:
            status = command.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def succeed(call, *arguments):
    status, out, err = call(*arguments)
    assert (status, err) == (0, "")
    return document(out)


def fail(call, *arguments):
    """The one line of an error."""
    status, out, err = call(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_info(call, shared_bundle, models):
    found = succeed(call, "info", shared_bundle, "--json")
    assert found["name"] == "qdq"
    assert found["verdict"] == "int8"
    assert found["inputs"] == ["x float32[batch, 4]"]
    assert found["chosen"]["metric"] == 0.9
    assert found["chosen"]["latency_ms"] is None
    assert found["machine"]["cores"] >= 1
    plain = succeed(call, "info", models / "qdq.onnx", "--json")
    assert "name" not in plain
    assert plain["provider"] == "CPUExecutionProvider"


def test_run_on_the_golden_example_and_on_a_file(call, shared_bundle, tmp_path):
    assert succeed(call, "run", shared_bundle, "--json")["outputs"]["y"]["shape"] == [1, 3]
    np.savez(tmp_path / "in.npz", x=np.zeros((2, 4), np.float32))
    found = succeed(call, "run", shared_bundle, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--json")
    assert found["saved"] == str(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as saved:
        assert found["outputs"]["y"]["first"] == pytest.approx(saved["y"].ravel().tolist())


def test_outputs_that_json_cannot_hold(call, models, tmp_path):
    x = np.full((5, 2, 3), np.nan, np.float32)
    x[0] = np.inf
    arrays = {"scalar": np.array(-np.inf, np.float32), "flag": np.array([True]), "anonymous": x}
    assert "missing ['words']" in fail(call, "run", models / "kinds.onnx", "--input", saved(tmp_path, arrays), "--json")
    found = succeed(call, "run", models / "three_inputs.onnx", "--input", saved(tmp_path, nan_inputs()), "--json")
    assert found["outputs"]["total"]["first"] == [None] * 10


def saved(folder, arrays):
    np.savez(folder / "in.npz", **arrays)
    return folder / "in.npz"


def nan_inputs():
    return {name: np.full((2, 8), value, np.float32) for name, value in zip("abc", (np.nan, np.inf, 1.0), strict=True)}


def test_summaries_of_every_kind_of_output():
    assert command.summary(np.array(["a"], object)) == {"shape": [1], "dtype": "object", "first": ["a"]}
    assert command.summary(np.array(2.5, np.float16)) == {"shape": [], "dtype": "float16", "first": [2.5]}
    assert command.summary(np.array([True])) == {"shape": [1], "dtype": "bool", "first": [True]}
    assert command.summary([np.zeros(1)]) == {"type": "list", "length": 1}


def test_inputs_outside_of_what_calibration_saw(call, shared_bundle, tmp_path):
    np.savez(tmp_path / "raw.npz", x=np.full((1, 4), 255, np.float32))
    status, out, err = call("run", shared_bundle, "--input", tmp_path / "raw.npz", "--json")
    assert status == 0
    assert document(out)
    assert err.startswith("warning: input 'x' spans [255, 255], calibration saw [-3, 3]; is it preprocessed as it was then?")


def test_bench(call, shared_bundle):
    found = succeed(call, "bench", shared_bundle, "--rounds", 2, "--threads", 1, "--json")
    assert found["latency_ms"] > 0
    assert found["threads"] == 1
    assert found["peak_rss_bytes"] is None


def test_selftest(call, shared_bundle):
    found = succeed(call, "selftest", shared_bundle, "--json")
    assert found["passed"] is True
    assert found["examples"] == 3


def test_a_selftest_that_fails_prints_what_it_saw(call, bundle, change_golden):
    change_golden(bundle, lambda arrays: {name: array + (name[0] != "i") * np.float32(1) for name, array in arrays.items()})
    status, out, err = call("selftest", bundle, "--json")
    assert status == 1
    assert document(out)["passed"] is False
    assert err.startswith("error: self-test of ")
    assert err.count("\n") == 1


def test_for_people(call, shared_bundle):
    status, out, err = call("info", shared_bundle)
    assert (status, err) == (0, "")
    assert "name: qdq\n" in out


def test_a_fallback_is_told(call, models):
    arguments = ("run", models / "qdq.onnx", "--provider", "QNNExecutionProvider", "--json")
    assert "pip install onnxruntime-qnn" in fail(call, *arguments)
    status, out, err = call(*arguments, "--fallback", "CPUExecutionProvider")
    assert status == 0
    assert document(out)
    assert "running on CPUExecutionProvider" in err


def test_one_line_for_everything_that_a_user_gets_wrong(call, bundle, models, tmp_path):
    assert "does not exist" in fail(call, "info", tmp_path / "none", "--json")
    assert "there is no manifest.json" in fail(call, "run", tmp_path, "--json")
    assert "no golden outputs" in fail(call, "selftest", models / "qdq.onnx", "--json")
    assert "No such file" in fail(call, "run", bundle, "--input", tmp_path / "none.npz", "--json")
    wrong = saved(tmp_path, {"x": np.zeros((1, 4))})
    assert "got dtype float64" in fail(call, "run", bundle, "--input", wrong, "--json")
    assert "write " in fail(call, "run", bundle, "--output", tmp_path / "no" / "out.npz", "--json")
    (bundle / "model.onnx").write_bytes(b"junk")
    assert "model.onnx has 4 bytes" in fail(call, "bench", bundle, "--json")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    assert "refused it" in fail(call, "info", tmp_path / "junk.onnx", "--json")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance", "x"],
        ["info"],
        ["info", "x", "--loud"],
        ["bench", "x", "--rounds", "0"],
        ["run", "x", "--threads", "0"],
        ["run", "x", "--threads", "two"],
    ],
)
def test_wrong_usage(call, arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "usage:" in err


def test_ctrl_c(call, shared_bundle, monkeypatch):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load", interrupt)
    assert call("info", shared_bundle) == (130, "", "interrupted\n")


def python_m(*arguments, **options):
    words = [sys.executable, "-m", "edgekit_runtime", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, check=False, **options)


@pytest.mark.parametrize("verb", ["bench", "selftest"])
def test_as_a_process_of_its_own(shared_bundle, verb):
    done = python_m(verb, shared_bundle, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    found = document(done.stdout.decode("ascii"))
    assert found.get("passed", True)
    assert found.get("cold_start_ms", 1.0) > 0


def test_paths_beyond_ascii(bundle):
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    accented = bundle.rename(bundle.with_name("café.edge"))
    done = python_m("info", accented, "--json", env=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert document(done.stdout.decode("ascii"))["path"].endswith("café.edge")
    done = python_m("info", accented, env=ascii_only)
    assert done.returncode == 0
    assert b"caf\\xe9.edge" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names beyond UTF-8")
def test_a_path_that_is_not_utf8(bundle):
    odd = bundle.rename(bundle.with_name("caf\udce9.edge"))
    done = python_m("info", odd, "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: open model.onnx: onnxruntime opens no path that is not UTF-8")
    assert done.stderr.count(b"\n") == 1


def test_a_damaged_bundle_as_a_process(bundle):
    (bundle / "golden.npz").write_bytes(b"")
    done = python_m("info", bundle, "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"golden.npz has 0 bytes" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_goes_away(shared_bundle):
    words = [sys.executable, "-m", "edgekit_runtime", "info", str(shared_bundle)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (1, b"")
