"""A worker in a process of its own, asked over pipes."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.labs.place import HostPlace
from edgekit.labs.worker import PipeChannel, Worker
from edgekit_runtime import load, wire
from edgekit_runtime.errors import BundleError, DeviceError, EdgekitError, InputError, SessionError, WorkerCrashedError
from edgekit_runtime.session import Provider, SessionConfig

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


@pytest.fixture(scope="module")
def worker():
    with HostPlace().start() as started:
        yield started


class Scripted:
    """A channel that answers with given bytes."""

    def __init__(self, answers):
        self.answers = answers

    def write(self, data):
        pass

    def read(self, count):
        taken, self.answers = self.answers[:count], self.answers[count:]
        return taken

    def close(self):
        pass


def test_who_is_there(worker):
    welcome = worker.hello()
    assert welcome.versions["numpy"] == np.__version__
    assert welcome.machine.cores >= 1
    assert Path(f"/proc/{welcome.pid}").exists() or sys.platform != "linux"


def test_a_bundle_runs_there_bit_for_bit(worker, deployed):
    bundle = deployed[0] / "quadrants.edge"
    remote, local = worker.open(HostPlace().put(bundle), threads=1), load(bundle, threads=1)
    feed = {"image": np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)}
    assert (remote.inputs, remote.outputs, remote.provider, remote.threads) == (local.inputs, local.outputs, local.provider, 1)
    assert np.array_equal(remote(feed)["logits"], local(feed)["logits"])
    assert len(remote.count(feed, 2)) == 2
    remote.close()
    with pytest.raises(InputError, match="no model"):
        remote(feed)


def test_bench_selftest_memory_and_health(worker, deployed):
    bundle = str(deployed[0] / "quadrants.edge")
    figures = worker.bench(bundle, rounds=1, threads=1)
    assert figures.latency_ms > 0
    assert worker.selftest(bundle).bit_equal
    assert worker.memory() > 1_000_000
    assert worker.health().throttling in (None, [])


def test_the_graph_as_it_is_optimized_there(worker, deployed):
    graph = onnx.load_from_string(
        worker.optimized(str(deployed[0] / "quadrants.onnx"), provider=Provider(), session=SessionConfig())
    )
    assert {"FusedGemm", "Gemm"}.intersection(node.op_type for node in graph.graph.node)


def test_failures_there_are_raised_here_as_what_they_are(worker, deployed, tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        worker.open(str(tmp_path / "none.edge"))
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(SessionError, match=r"bad\.onnx"):
        worker.optimized(str(tmp_path / "bad.onnx"))
    model = worker.open(str(deployed[0] / "quadrants.edge"))
    with pytest.raises(InputError, match="does not fit"):
        model({"image": np.zeros((1, 3), np.float32)})
    with pytest.raises(InputError, match="Python objects"):
        model({"image": np.asarray([None])})


def test_a_worker_that_is_killed_says_how():
    with HostPlace().start() as worker:
        pid = worker.hello().pid
        subprocess.run(["kill", "-9", str(pid)], check=True)
        with pytest.raises(WorkerCrashedError, match=r"ended by itself .*SIGKILL"):
            worker.hello()
        with pytest.raises(WorkerCrashedError):
            worker.hello()


def test_last_words_are_told():
    code = "import sys; sys.stderr.write('first\\nno such module\\n'); sys.exit(7)"
    process = subprocess.Popen([sys.executable, "-c", code], **PIPES, stderr=subprocess.PIPE)
    told = r"the worker on there ended by itself \(exit status 7: no such module\)"
    with Worker(PipeChannel(process, "there")) as worker, pytest.raises(WorkerCrashedError, match=told):
        worker.hello()


def test_a_worker_that_does_not_hear_is_ended(monkeypatch):
    import edgekit.labs.worker

    monkeypatch.setattr(edgekit.labs.worker, "END_TIMEOUT_S", 0.2)
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    Worker(PipeChannel(process)).close()
    assert process.returncode == -signal.SIGKILL


def test_a_closed_worker_is_not_asked(deployed):
    with HostPlace().start() as worker:
        model = worker.open(str(deployed[0] / "quadrants.edge"))
    with pytest.raises(DeviceError, match="it was closed"):
        model({"image": np.zeros((1, 64), np.float32)})
    worker.close()


@pytest.mark.parametrize(
    ("answers", "error", "told"),
    [
        (b"Welcome to raspberrypi\n", DeviceError, r"b'Welcome '…, which is no message; .*\.bashrc"),
        ((3).to_bytes(8, "little") + b"\xc1\xc1\xc1", DeviceError, "of another release"),
        (wire.encode(wire.Closed()), DeviceError, "answered Closed, expected Welcome"),
        (wire.encode(wire.Failed("SystemExit", "no")), EdgekitError, "on pi: no"),
        (wire.encode(wire.Failed("BundleError", "damaged")), BundleError, "on pi: damaged"),
    ],
)
def test_answers_that_are_none_are_told_apart(answers, error, told):
    with pytest.raises(EdgekitError, match=told) as raised:
        Worker(Scripted(answers), "pi").hello()
    assert type(raised.value) is error
