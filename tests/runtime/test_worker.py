"""The worker as whoever talks to it sees it: over real pipes, and message by message."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgekit_runtime import wire
from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.errors import InputError
from edgekit_runtime.health import board_health, throttling_flags
from edgekit_runtime.manifest import decode_manifest
from edgekit_runtime.model import load
from edgekit_runtime.selftest import unpack_golden
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.wire_tensors import Tensor, pack_feed, unpack_feed
from edgekit_runtime.worker import Server, serve

FEED = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
DTYPES = ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64", "complex64"]


def asked(server, request, kind):
    reply = server.answer(request)
    assert isinstance(reply, kind), reply
    return reply


def replies(data):
    """The replies in a stream of frames."""
    stream, found = io.BytesIO(data), []
    while header := stream.read(wire.HEADER_BYTES):
        found.append(wire.decode_reply(stream.read(wire.frame_length(header))))
    return found


@given(st.sampled_from(DTYPES).flatmap(lambda name: arrays_of.arrays(name, arrays_of.array_shapes(min_dims=0, min_side=0))))
def test_arrays_arrive_as_they_were(array):
    there = unpack_feed(pack_feed({"a": array, "turned": array.T, "big": array.astype(array.dtype.newbyteorder(">"))}, "input"))
    for name, wanted in (("a", array), ("turned", array.T), ("big", array)):
        assert there[name].dtype == array.dtype
        assert there[name].dtype.isnative
        assert there[name].shape == wanted.shape
        assert there[name].tobytes() == np.ascontiguousarray(wanted).tobytes()
        assert there[name].flags.writeable


@given(arrays_of.arrays("object", arrays_of.array_shapes(min_dims=0, min_side=0), elements=st.text(max_size=5)))
def test_texts_arrive_as_they_were(texts):
    there = unpack_feed(wire.decode_request(wire.encode(wire.Run(1, pack_feed({"t": texts}, "input")))[8:]).feed)["t"]
    assert there.dtype == object
    assert there.shape == texts.shape
    assert there.tolist() == texts.tolist()


@pytest.mark.parametrize("value", [np.asarray([{}, 1], object), np.zeros(2, "M8[s]"), np.zeros(2, "i4,f4"), [1, 2], b"raw"])
def test_what_is_no_plain_array_does_not_travel(value):
    with pytest.raises(InputError, match="send input 'x'"):
        pack_feed({"x": value}, "input")


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("float32", (3,), b"1234"),
        Tensor("float32", (2,), b"123"),
        Tensor("object", (1,), b"12345678"),
        Tensor("no such", (1,), b"1"),
        Tensor("str", (3,), texts=["a"]),
        Tensor("float32", (-1, -1), b"1234"),
    ],
)
def test_arrays_that_do_not_hold_together_are_refused(tensor):
    with pytest.raises(InputError, match="receive 'x'"):
        unpack_feed({"x": tensor})


def test_a_model_runs_there_as_here(shared_bundle, models):
    server = Server()
    for path in (shared_bundle, models / "qdq.onnx"):
        opened = asked(server, wire.Open(str(path), threads=1), wire.Opened)
        here = load(path, threads=1)
        assert (opened.inputs, opened.outputs, opened.provider, opened.threads) == (here.inputs, here.outputs, here.provider, 1)
        outputs = unpack_feed(asked(server, wire.Run(opened.handle, pack_feed(FEED, "input")), wire.Ran).outputs)
        assert all(np.array_equal(outputs[name], array) for name, array in here(FEED).items())
        asked(server, wire.Close(opened.handle), wire.Closed)
        assert asked(server, wire.Run(opened.handle, pack_feed(FEED, "input")), wire.Failed).kind == "InputError"


def test_options_of_the_callers_own_are_taken(shared_bundle):
    opened = asked(Server(), wire.Open(str(shared_bundle), Provider(), SessionConfig(threads=3), threads=2), wire.Opened)
    assert opened.threads == 2


def test_a_failure_is_an_answer_and_the_worker_goes_on(shared_bundle, tmp_path):
    server = Server()
    assert asked(server, wire.Open(str(tmp_path / "none.edge")), wire.Failed).kind == "BundleError"
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert asked(server, wire.Open(str(tmp_path / "bad.onnx")), wire.Failed).kind == "SessionError"
    assert asked(server, wire.Optimized(str(tmp_path / "bad.onnx")), wire.Failed).kind == "SessionError"
    handle = asked(server, wire.Open(str(shared_bundle)), wire.Opened).handle
    failed = asked(server, wire.Run(handle, pack_feed({"y": FEED["x"]}, "input")), wire.Failed)
    assert failed.kind == "InputError"
    assert "missing ['x']" in failed.message
    assert asked(server, wire.Hello(), wire.Welcome).pid == os.getpid()


def test_a_damaged_bundle_is_opened_in_no_way(bundle):
    (bundle / "model.onnx").write_bytes(b"other")
    for request in (
        wire.Open(str(bundle)),
        wire.Open(str(bundle), session=SessionConfig()),
        wire.Optimized(str(bundle)),
        wire.Bench(str(bundle)),
        wire.SelfTest(str(bundle)),
    ):
        assert asked(Server(), request, wire.Failed).kind == "BundleError"


def test_marks_are_even_and_never_repeat(shared_bundle):
    server = Server()
    handle = asked(server, wire.Open(str(shared_bundle)), wire.Opened).handle
    counted = [
        tag for runs in (3, 1, 2) for tag in asked(server, wire.Count(handle, pack_feed(FEED, "x"), runs), wire.Counted).tags
    ]
    assert len(counted) == 6
    assert len(set(counted)) == 6
    assert all(tag % 2 == 0 for tag in counted)
    assert asked(server, wire.Count(handle, pack_feed(FEED, "x"), 0), wire.Failed).kind == "InputError"


def test_marks_are_seen_by_whoever_watches_system_calls(shared_bundle, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "lseek", lambda *call: seen.append(call))
    server = Server()
    handle = asked(server, wire.Open(str(shared_bundle)), wire.Opened).handle
    tags = asked(server, wire.Count(handle, pack_feed(FEED, "x"), 2), wire.Counted).tags
    assert seen == [(-7701, mark, os.SEEK_SET) for tag in tags for mark in (tag, tag + 1)]


def test_bench_selftest_and_the_optimized_graph(shared_bundle):
    server = Server()
    benched = asked(server, wire.Bench(str(shared_bundle), None, 1, 1), wire.Benched).document
    assert benched["latency_ms"] > 0
    assert benched["threads"] == 1
    golden = unpack_golden(read_arrays(shared_bundle / "golden.npz"))[0][2]
    assert asked(server, wire.Bench(str(shared_bundle), pack_feed(golden, "x"), 1), wire.Benched).document["latency_ms"] > 0
    tested = asked(server, wire.SelfTest(str(shared_bundle)), wire.SelfTested).document
    assert tested["passed"]
    assert tested["bit_equal"]
    data = asked(server, wire.Optimized(str(shared_bundle)), wire.OptimizedGraph).data
    manifest = decode_manifest((shared_bundle / "manifest.json").read_bytes(), "here")
    assert all(spec.name.encode() in data for spec in (*manifest.inputs, *manifest.outputs))
    assert asked(server, wire.Memory(), wire.PeakMemory).peak_rss_bytes > 1_000_000


def test_frames_over_real_pipes_whatever_libraries_print(shared_bundle):
    """The worker of the command line; `print` and descriptor 1 are the same to it as to any library."""
    code = (
        "import os, sys\n"
        "from edgekit_runtime import worker\n"
        "hello = worker.Server._hello\n"
        "def loud(*given):\n"
        "    print('printed'); sys.stdout.flush(); os.write(1, b'written'); os.system('echo shouted; cat')\n"
        "    return hello(*given)\n"
        "worker.Server._hello = loud\n"
        "from edgekit_runtime.__main__ import main\n"
        "sys.exit(main(['worker']))\n"
    )
    asking = b"".join(wire.encode(request) for request in (wire.Hello(), wire.Open(str(shared_bundle)), wire.Quit(), wire.Hello()))
    done = subprocess.run([sys.executable, "-c", code], input=asking, capture_output=True, check=False)
    assert done.returncode == 0
    welcome, opened, closed = replies(done.stdout)
    assert (type(welcome), type(opened), type(closed)) == (wire.Welcome, wire.Opened, wire.Closed)
    assert welcome.versions["numpy"] == np.__version__
    for word in (b"printed", b"written", b"shouted"):
        assert word in done.stderr


def test_an_unknown_request_is_answered_and_the_next_one_served():
    given, told = io.BytesIO(), io.BytesIO()
    unknown = b"\x81\xa4type\xa5Dance"
    given.write(len(unknown).to_bytes(8, "little") + unknown + wire.encode(wire.Memory()))
    given.seek(0)
    assert serve(given, told) == 0
    failed, memory = replies(told.getvalue())
    assert "does not understand" in failed.message
    assert isinstance(memory, wire.PeakMemory)


def test_a_request_that_breaks_off_ends_the_worker_quietly():
    whole = wire.encode(wire.Memory())
    for cut in (0, 3, len(whole) - 1):
        told = io.BytesIO()
        assert serve(io.BytesIO(whole[:cut]), told) == 0
        assert told.getvalue() == b""


def test_something_else_than_frames_is_told_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "edgekit_runtime", "worker"], input=b"hello worker\n", capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"b'hello wo' is no length" in done.stderr
    assert b"Traceback" not in done.stderr


def board(root, zones=(), throttled=None, clock=None):
    for index, (kind, text) in enumerate(zones):
        zone = root / "class" / "thermal" / f"thermal_zone{index}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(text)
    if throttled is not None:
        folder = root / "devices" / "platform" / "soc" / "soc:firmware"
        folder.mkdir(parents=True)
        (folder / "get_throttled").write_text(throttled)
    if clock is not None:
        folder = root / "devices" / "system" / "cpu" / "cpu0" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{clock}\n")
        (folder / "cpuinfo_max_freq").write_text("1800000\n")
    return board_health(root)


def test_a_board_tells_how_it_is(tmp_path):
    seen = board(tmp_path, [("iwlwifi", "70000\n"), ("cpu-thermal", "61322\n"), ("nvme", "-274000\n")], "50005\n", 600000)
    assert seen.temperature_c == 61.322
    assert seen.throttling == ["under-voltage", "throttled", "under-voltage since boot", "throttled since boot"]
    assert (seen.frequency_mhz, seen.frequency_max_mhz) == (600.0, 1800.0)


def test_what_a_board_does_not_tell_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = board(tmp_path, [("cpu", "no number\n")])
    assert (seen.temperature_c, seen.throttling, seen.frequency_mhz) == (None, None, None)


def test_the_firmwares_own_program_is_asked(tmp_path, monkeypatch):
    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x80008\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert board_health(tmp_path).throttling == ["soft temperature limit", "soft temperature limit since boot"]


@pytest.mark.parametrize(("told", "flags"), [("throttled=0x0\n", []), ("0", []), ("error=1 error_msg=...", None), ("", None)])
def test_words_of_the_firmware(told, flags):
    assert throttling_flags(told) == flags
