"""Cold start and peak memory from a process of its own, and what is said when that process dies."""

import os
import signal
import sys

import numpy as np
import pytest

from edgekit_runtime import Provider, SessionConfig, SessionError, fresh_process
from edgekit_runtime.errors import InputError, OutputError
from edgekit_runtime.fresh_process import exit_name, peak_rss_bytes, run_in_fresh_process

FEED = {"x": np.zeros((2, 4), np.float32)}


def fresh(model, feed=FEED, **options):
    return run_in_fresh_process(model, feed, Provider(), SessionConfig(threads=1), **options)


def instead(monkeypatch, code):
    """Runs `code` in the place of the real child."""
    monkeypatch.setattr(fresh_process, "child_command", lambda: [sys.executable, "-c", code])


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system does not tell a process's peak")  # noqa: PTH110


@needs_proc
def test_figures_and_a_big_parent_does_not_weigh_on_the_child(models):
    before = fresh(models / "qdq.onnx")
    assert before.cold_start_ms > 0
    # Python with numpy and onnxruntime takes tens of megabytes, and a model of 500 bytes adds nothing that shows.
    assert 20e6 < before.peak_rss_bytes < 400e6
    ballast = np.ones(500_000_000 // 8)
    assert peak_rss_bytes() > 500e6
    during = fresh(models / "qdq.onnx")
    assert ballast[-1] == 1.0
    # The shared machine's page cache and allocator make the peak wander by a few percent; 500 MB would be sevenfold.
    assert during.peak_rss_bytes == pytest.approx(before.peak_rss_bytes, rel=0.3)


def test_names_that_are_no_identifiers_and_the_working_directory(models, tmp_path, monkeypatch):
    """A file in the working directory that is called as a library is does not get into the child."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (tmp_path / "signal.py").write_text("raise SystemExit('the wrong signal')")
    monkeypatch.chdir(tmp_path)
    assert fresh(models / "qdq.onnx").cold_start_ms > 0


def test_a_model_that_does_not_load(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"junk")
    with pytest.raises(SessionError, match=r"^run bad\.onnx in a fresh process: open bad\.onnx on CPU.*refused it") as caught:
        fresh(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_model_that_does_not_run(models):
    with pytest.raises(SessionError, match=r"run crash\.onnx in a fresh process: .*Gather.*out of data bounds"):
        fresh(models / "crash.onnx", {"ids": np.array([9])})


def test_a_missing_model(tmp_path):
    with pytest.raises(SessionError, match=r"run none\.onnx in a fresh process: .*No such file"):
        fresh(tmp_path / "none.onnx")


@pytest.mark.skipif(os.name != "posix", reason="signals end a process on POSIX systems only")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_a_process_that_is_killed(models, monkeypatch, name):
    instead(monkeypatch, f"import os, sys; sys.stdin.read(); os.kill(os.getpid(), {signal.Signals[name].value})")
    with pytest.raises(SessionError, match=rf"run qdq\.onnx in a fresh process: it brought its process down \({name}\)"):
        fresh(models / "qdq.onnx")


def test_a_process_that_fails_in_another_way(models, monkeypatch):
    instead(monkeypatch, "raise ImportError('libfoo is missing')")
    with pytest.raises(SessionError, match=r"brought its process down \(exit status 1: ImportError: libfoo is missing\)"):
        fresh(models / "qdq.onnx")


@pytest.mark.parametrize("code", ["pass", "print('hello')", "print('{}')", "print(b'\\xff')"])
def test_a_process_that_ends_without_an_answer(models, monkeypatch, code):
    instead(monkeypatch, code)
    with pytest.raises(SessionError, match="it ended without an answer"):
        fresh(models / "qdq.onnx")


def test_a_process_that_hangs(models, monkeypatch):
    instead(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(SessionError, match="no output after 0 s"):
        fresh(models / "qdq.onnx", timeout_s=0.2)


def test_a_process_that_cannot_be_started(models, monkeypatch):
    monkeypatch.setattr(fresh_process, "child_command", lambda: ["/no/such/python"])
    with pytest.raises(OutputError, match=r"run qdq\.onnx in a fresh process: it could not be started"):
        fresh(models / "qdq.onnx")


def test_python_objects_are_not_sent(models):
    with pytest.raises(InputError, match="'words' holds Python objects"):
        fresh(models / "kinds.onnx", {"words": np.array(["a"], object)})


def test_names_of_endings():
    assert exit_name(-11) == "SIGSEGV"
    assert exit_name(-63) == "signal 63"
    assert exit_name(3221225477) == "exit status 3221225477"


@needs_proc
def test_peak_memory_without_proc(monkeypatch):
    exact = peak_rss_bytes()
    # The kernel keeps both; a child's own counter may still carry its parent's peak, and never less than VmHWM.
    assert fresh_process._rusage_peak_bytes() >= 0.9 * exact
