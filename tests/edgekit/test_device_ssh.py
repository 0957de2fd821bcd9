"""Devices over SSH, against a real OpenSSH server on loopback that this file starts."""

import json
import os
import shlex
import signal
import stat
import sys
import threading
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from edgekit.labs.devices.address import Device, parse_address
from edgekit.labs.devices.device import SshDevice
from edgekit.labs.devices.registry import add_device
from edgekit.labs.devices.resuming import open_resuming, put_resuming, resuming
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.place import find_place
from edgekit.labs.placed import bench_at
from edgekit.labs.worker import Worker
from edgekit.progress import Quiet
from edgekit_runtime import load
from edgekit_runtime.errors import BundleError, ConnectionLostError, WorkerCrashedError

pytest.importorskip("asyncssh", reason="needs the extra: pip install '.[ssh]'")
pytestmark = pytest.mark.ssh

# Where the user's own lab is, before tests are given a cache of their own.
LAB = Lab(lab_folder())
WAITS_S = (0.0, 0.1, 0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        from ssh_server import NoServerError, SshServer
    finally:
        sys.path.pop(0)
    try:
        started = SshServer(tmp_path_factory.mktemp("ssh"))
        started.start()
    except NoServerError as error:
        pytest.skip(str(error))
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def account(server, tmp_path, monkeypatch):
    """The user's own side: a home folder that knows the server, and a list with the device `pi`."""
    home = tmp_path / "me"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "known_hosts").write_text(server.known_hosts)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("LOGNAME", server.user)  # the account may be one that nobody has written down
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    add_device("pi", device(server), [])
    return home


def device(server, **changes):
    import msgspec

    return msgspec.structs.replace(parse_address(server.address, sys.executable, str(server.key)), **changes)


def sites(server):
    """Folders of packages on the board."""
    return {path.name for path in (server.home / ".edgekit").glob("site-*")}


def board_files(server):
    """What stands on the board, below our folder there; what is on its way is not among it."""
    root = server.home / ".edgekit"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


class Cutting(Quiet):
    """Progress that cuts the connection once, when so many bytes have been sent."""

    def __init__(self, server, at):
        self.server, self.at = server, at

    def advance(self, done, _):
        if self.at is not None and done >= self.at:
            self.at = None
            assert self.server.cut() > 0


@pytest.fixture
def big(tmp_path):
    """Six megabytes that only have to arrive."""
    path = tmp_path / "big.onnx"
    path.write_bytes(os.urandom(6_000_000))  # that no other test has sent
    return path


def test_check_puts_the_runtime_there_once(server, cli):
    first = json.loads(cli("device", "check", "pi", "--json").out)
    assert (first["kind"], first["packages_from"]) == ("device", "the device")
    assert first["versions"]["numpy"] == np.__version__
    assert first["machine"]["cores"] >= 1
    assert set(first["health"]) == {"temperature_c", "throttling", "frequency_mhz", "frequency_max_mhz"}
    again = json.loads(cli("device", "check", "pi", "--json").out)
    assert again["sent_bytes"] == 0
    runtimes = list((server.home / ".edgekit").glob("runtime-*"))
    assert len(runtimes) == 1
    assert stat.S_IMODE((server.home / ".edgekit").stat().st_mode) == 0o700


def test_bench_selftest_and_run_by_the_command_line(server, deployed, cli, tmp_path):
    bundle = deployed[0] / "quadrants.edge"
    benched = json.loads(cli("bench", bundle, "--on", "pi", "--rounds", 2, "--threads", 1, "--json").out)
    assert (benched["place"], benched["kind"], benched["threads"]) == ("pi", "device", 1)
    assert benched["latency_ms"] > 0
    assert benched["cold_start_ms"] > 0
    assert benched["peak_rss_bytes"] > 1_000_000
    assert {"health_before", "health_after", "machine", "versions"} <= benched.keys()
    tested = json.loads(cli("selftest", bundle, "--on", "pi", "--json").out)
    assert (tested["place"], tested["kind"], tested["passed"], tested["bit_equal"]) == ("pi", "device", True, True)
    ran = cli("run", bundle, "--on", "pi", "--json", "--output", tmp_path / "out.npz")
    assert json.loads(ran.out)["place"] == "pi"
    golden = np.load(bundle / "golden.npz")
    here = load(bundle)({"image": golden["input/0/image"]})["logits"]
    assert np.array_equal(np.load(tmp_path / "out.npz")["logits"], here)


def test_the_runtime_that_runs_there_is_the_one_that_was_put_there(server, deployed):
    with find_place("pi").start() as worker:
        environment = Path(f"/proc/{worker.hello().pid}/environ").read_bytes().split(b"\0")
    folders = next(line for line in environment if line.startswith(b"PYTHONPATH=")).decode().removeprefix("PYTHONPATH=")
    assert folders.startswith(f"{server.home}/.edgekit/runtime-")


def test_a_second_bench_sends_nothing_anew(server, deployed):
    place = find_place("pi")
    bench_at(place, deployed[0] / "quadrants.edge", rounds=1)
    sent = place.sent_bytes
    bench_at(place, deployed[0] / "quadrants.edge", rounds=1)
    assert place.sent_bytes == sent


def test_only_what_changed_is_sent(server, tmp_path, big):
    place = find_place("pi")
    place.put(big)
    sent = place.sent_bytes
    assert sent >= 6_000_000
    renamed = tmp_path / "other" / "big.onnx"
    renamed.parent.mkdir()
    renamed.write_bytes(big.read_bytes())
    place.put(renamed)
    assert place.sent_bytes == sent


def test_a_connection_that_is_killed_mid_bench_begins_its_rounds_anew(server, deployed, monkeypatch):
    original, calls, told = Worker.bench, [], []

    def bench(worker, *given, **named):
        calls.append(named["rounds"])
        if len(calls) == 1:
            threading.Timer(0.3, server.cut).start()
            return original(worker, *given, **named | {"rounds": 500})  # five seconds, of which it gets a part
        return original(worker, *given, **named)

    monkeypatch.setattr(Worker, "bench", bench)

    class Listening(Quiet):
        def stage(self, text):
            told.append(text)

    figures = bench_at(find_place("pi"), deployed[0] / "quadrants.edge", rounds=2, progress=Listening())
    assert calls == [2, 2]
    assert figures.latency_ms > 0
    assert any("the connection was lost" in text and "connecting anew" in text for text in told)


def test_an_evaluation_goes_on_with_the_next_example(server, deployed):
    place, bundle = find_place("pi"), deployed[0] / "quadrants.edge"
    local, draw = load(bundle, threads=1), np.random.default_rng(1)
    feeds = [{"image": draw.normal(size=(1, 64)).astype(np.float32)} for _ in range(8)]
    lost, outputs = [], []
    with open_resuming(place, place.put(bundle), threads=1, waits_s=WAITS_S, on_lost=lost.append) as run:
        for index, feed in enumerate(feeds):
            if index in (3, 6):
                assert server.cut() > 0
            outputs.append(run(feed)["logits"])
    assert len(lost) == 2
    assert all(isinstance(error, ConnectionLostError) for error in lost)
    assert all(np.array_equal(output, local(feed)["logits"]) for output, feed in zip(outputs, feeds, strict=True))


def test_what_does_not_come_back_is_given_up_and_told(server, deployed):
    place, attempts = find_place("pi"), []

    def work(worker):
        attempts.append(worker.hello().pid)
        server.cut()
        worker.hello()

    with pytest.raises(ConnectionLostError, match="it did not come back in 2 attempts"):
        resuming(place, work, waits_s=(0.0, 0.1))
    assert len(set(attempts)) == 3


def test_a_server_that_comes_back_later_is_waited_for(server, deployed):
    place, began = find_place("pi"), []

    def work(worker):
        began.append(1)
        if len(began) == 1:
            server.stop()
            threading.Timer(0.5, server.start).start()
        return worker.hello().pid

    assert resuming(place, work, waits_s=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2)) > 0
    assert len(began) == 2


def test_a_worker_that_crashes_is_told_and_not_tried_again(server):
    place, pids = find_place("pi"), []

    def work(worker):
        pids.append(worker.hello().pid)
        os.kill(pids[-1], signal.SIGKILL)
        worker.hello()

    with pytest.raises(WorkerCrashedError, match=r"the worker on pi ended by itself \(.*KILL.*more memory than there is"):
        resuming(place, work, waits_s=WAITS_S)
    assert len(pids) == 1


def test_a_kill_during_an_upload_leaves_nothing_half_installed_and_is_gone_on_from(server, big):
    before = board_files(server)
    place = SshDevice("pi", device(server), Cutting(server, 3_000_000))
    with pytest.raises(ConnectionLostError, match="the connection was lost"):
        place.put(big)
    begun = board_files(server) - before
    assert len(begun) == 1
    assert next(iter(begun)).startswith("incoming/")
    path = Path(place.put(big))
    assert path.read_bytes() == big.read_bytes()
    # Of what was there already, the last chunk is sent once more.
    assert place.sent_bytes < 6_000_000 + 2 * (1 << 20)
    assert board_files(server) - before == {str(path.relative_to(server.home / ".edgekit"))}


def test_a_bundle_that_is_cut_off_on_its_way_arrives_all_the_same(server, big):
    place = SshDevice("pi", device(server), Cutting(server, 2_000_000))
    lost = []
    assert Path(put_resuming(place, big, waits_s=WAITS_S, on_lost=lost.append)).read_bytes() == big.read_bytes()
    assert len(lost) == 1


def test_a_kill_while_the_runtime_is_sent_leaves_nothing_half_installed(server, deployed, monkeypatch, tmp_path):
    root = server.home / ".edgekit"
    for runtime in root.glob("runtime-*"):
        runtime.rename(tmp_path / runtime.name)
    place = SshDevice("pi", device(server), Cutting(server, 20_000))
    with pytest.raises(ConnectionLostError), place.start():
        pytest.fail("there is no worker yet")
    assert list(root.glob("*runtime-*")) == []
    with place.start() as worker:
        assert worker.hello().pid > 0
    assert len(list(root.glob("*runtime-*"))) == 1


def test_what_arrives_damaged_is_sent_again(server, tmp_path):
    data = os.urandom(3_000_000)
    path = tmp_path / "rot.onnx"
    path.write_bytes(data)

    class Rotting(Quiet):
        """Flips a byte of the first attempt, once it is on the board's card."""

        flipped = 0

        def advance(self, done, total):
            if done == total and not self.flipped:
                self.flipped += 1
                part = max((server.home / ".edgekit" / "incoming").iterdir(), key=lambda file: file.stat().st_size)
                part.write_bytes(b"?" + part.read_bytes()[1:])

    progress = Rotting()
    place = SshDevice("pi", device(server), progress)
    assert Path(place.put(path)).read_bytes() == data
    assert progress.flipped == 1
    assert place.sent_bytes == 2 * len(data)


def test_a_damaged_bundle_and_failures_there_are_what_they_are(server, deployed, cli, tmp_path):
    assert "does not exist" in cli("bench", tmp_path / "none.edge", "--on", "pi").line
    with find_place("pi").start() as worker, pytest.raises(BundleError, match="on pi: "):
        worker.open("/nowhere.edge")


def test_an_unknown_host_key_is_refused_with_the_way_to_know_it(server, account, cli):
    known = account / ".ssh" / "known_hosts"
    known.unlink()
    line = cli("device", "check", "pi").line
    assert "its host key is not known" in line
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> ~/.ssh/known_hosts" in line
    assert not known.exists()


def test_another_host_key_than_the_known_one_is_refused(server, account, cli):
    kind, key = (server.folder / "key.pub").read_text().split()[:2]
    (account / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
    line = cli("device", "check", "pi").line
    assert "its host key is another one" in line
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in line


def test_a_key_that_is_not_let_in(server, cli):
    add_device("pi", device(server, identity=str(server.folder / "host_key")), [])
    assert "ssh-copy-id -i" in cli("device", "check", "pi").line


def test_a_key_that_cannot_be_read(server, cli, tmp_path):
    (tmp_path / "key").write_text("no key")
    add_device("pi", device(server, identity=str(tmp_path / "key")), [])
    assert "ssh-add" in cli("device", "check", "pi").line


def test_nobody_is_there(server, cli):
    add_device("pi", Device("127.0.0.1", server.user, 1, sys.executable, str(server.key)), [])
    assert "it is not reached" in cli("device", "check", "pi").line


def test_a_python_that_is_not_there(server, cli):
    add_device("pi", device(server, python="/nowhere/python3"), [])
    line = cli("device", "check", "pi").line
    assert "/nowhere/python3" in line
    assert "--python PATH" in line


def test_an_offline_board_gets_its_packages_from_here(server, deployed, tmp_path, monkeypatch):
    """A Python that sees no packages: wheels of what is installed here are sent, unpacked and run."""
    from edgekit.labs.devices import payload

    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)

    def fetch(command, what):
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        for name in ("numpy", "onnxruntime", "msgspec"):
            with zipfile.ZipFile(folder / f"{name}-0-cp311-none-any.whl", "w") as wheel:
                for file in distribution(name).files or ():
                    if ".." not in file.parts and not {"tests", "transformers", "__pycache__"}.intersection(file.parts):
                        wheel.write(file.locate(), str(file))

    monkeypatch.setattr(payload, "_fetch", fetch)
    place, before = SshDevice("pi", device(server, python=str(bare))), sites(server)
    with place.start() as worker:
        assert worker.hello().versions["numpy"] == np.__version__
        assert worker.selftest(place.put(deployed[0] / "quadrants.edge")).bit_equal
    sent = place.sent_bytes
    with place.start() as worker:
        assert worker.hello().versions["numpy"] == np.__version__
    assert place.sent_bytes == sent
    assert len(sites(server) - before) == 1


@pytest.mark.lab
def test_the_whole_way_to_a_pi(server, deployed, cli, tmp_path):
    """The lab's emulated ARM Python as the remote interpreter: the board reports, installs and computes as a Pi does."""
    from edgekit.labs.emulated.boards import load_board
    from edgekit.labs.emulated.launch import launch
    from edgekit.labs.emulated.setup import unfinished

    if unfinished(LAB):
        pytest.skip("the lab is not set up; run: edgekit lab setup")
    started = launch(LAB, load_board("raspberry-pi-4"), [])
    told = {key: value for key, value in started.environment.items() if key.startswith(("PYTHON", "LD_")) and key != "PYTHONPATH"}
    lines = [f"export {key}={shlex.quote(value)}" for key, value in told.items()]
    lines.append(f'export PYTHONPATH="$PYTHONPATH":{shlex.quote(str(LAB.site))}')
    wrapper = tmp_path / "python"
    wrapper.write_text("\n".join(["#!/bin/sh", *lines, f'exec {shlex.join(started.command)} "$@"']) + "\n")
    wrapper.chmod(0o755)
    add_device("pi", device(server, python=str(wrapper)), [])

    checked = json.loads(cli("device", "check", "pi", "--json").out)
    assert checked["kind"] == "emulated"
    assert (checked["machine"]["architecture"], checked["machine"]["isa"]) == ("aarch64", ["neon"])
    bundle = deployed[0] / "quadrants.edge"
    tested = json.loads(cli("selftest", bundle, "--on", "pi", "--any-isa", "--json").out)
    assert (tested["kind"], tested["passed"], tested["machine"]["architecture"]) == ("emulated", True, "aarch64")
    # Its times would be the emulator's.
    assert "whose times say nothing of a board" in cli("bench", bundle, "--on", "pi").line
