"""Finding a place by its name, and what is measured at one."""

import json
import shutil
from pathlib import Path

import pytest

from edgekit.labs.devices.address import Device
from edgekit.labs.devices.registry import add_device
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.setup import unfinished
from edgekit.labs.place import HostPlace, find_place, place_names
from edgekit_runtime.arrays import read_arrays, write_arrays
from edgekit_runtime.bundle import file_entry
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.manifest import decode_manifest, encode_manifest

# Where the user's own lab is, before tests are given a cache of their own.
LAB = Lab(lab_folder())


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_this_machine():
    place = find_place("host")
    assert isinstance(place, HostPlace)
    assert (place.name, place.kind) == ("host", "host")
    assert place.put(Path("model.onnx")) == str(Path("model.onnx").absolute())


def test_every_board_is_an_emulated_place():
    boards = place_names()["emulated"]
    assert {"raspberry-pi-3", "raspberry-pi-5"} <= set(boards)
    for name in boards:
        place = find_place(name)
        assert (place.name, place.kind) == (name, "emulated")


def test_a_device_that_was_added():
    add_device("pi", Device("raspberrypi.local", "pi"), [])
    place = find_place("pi")
    assert (place.name, place.kind) == ("pi", "device")


def test_an_unknown_place_is_told_what_there_is():
    add_device("pi", Device("raspberrypi.local"), [])
    told = r"no such one; emulated boards are .*raspberry-pi-4.*; devices are pi; host is this machine"
    with pytest.raises(DeviceError, match=told):
        find_place("pie")


def test_bench_and_selftest_say_where_they_were(deployed, cli):
    bundle = deployed[0] / "quadrants.edge"
    benched = json.loads(cli("bench", bundle, "--on", "host", "--rounds", 1, "--json").out)
    assert (benched["place"], benched["kind"]) == ("host", "host")
    assert benched["latency_ms"] > 0
    assert json.loads(cli("run", deployed[0] / "quadrants.onnx", "--on", "host", "--json").out)["place"] == "host"
    tested = json.loads(cli("selftest", bundle, "--json").out)
    assert (tested["place"], tested["kind"], tested["passed"]) == ("host", "host", True)


def test_a_self_test_that_fails_is_printed_and_ends_with_3(deployed, cli, tmp_path):
    bundle = tmp_path / "q.edge"
    shutil.copytree(deployed[0] / "quadrants.edge", bundle)
    golden = read_arrays(bundle / "golden.npz")
    write_arrays(bundle / "golden.npz", {key: array + (not key.startswith("input/")) for key, array in golden.items()})
    manifest = decode_manifest((bundle / "manifest.json").read_bytes(), "here")
    manifest.files["golden.npz"] = file_entry(bundle / "golden.npz")
    (bundle / "manifest.json").write_bytes(encode_manifest(manifest))
    ended = cli("selftest", bundle, "--json")
    assert ended.status == 3
    assert json.loads(ended.out)["passed"] is False
    assert "gate not met: self-test of" in ended.err


def test_a_plain_model_has_no_self_test_and_an_unknown_place_no_bench(deployed, cli):
    assert "self-test a bundle" in cli("selftest", deployed[0] / "quadrants.onnx").line
    for verb in ("bench", "run", "selftest"):
        assert "there is no such one" in cli(verb, deployed[0] / "quadrants.edge", "--on", "nowhere").line


@pytest.mark.lab
def test_an_emulated_board_gives_counts_and_never_times(deployed, cli, monkeypatch):
    if unfinished(LAB):
        pytest.skip("the lab is not set up; run: edgekit lab setup")
    monkeypatch.setenv("EDGEKIT_CACHE", str(LAB.folder.parent))
    benched = json.loads(cli("bench", deployed[0] / "quadrants.edge", "--on", "raspberry-pi-5", "--any-isa", "--json").out)
    assert (benched["place"], benched["kind"], benched["machine"]["architecture"]) == ("raspberry-pi-5", "emulated", "aarch64")
    assert benched["instructions"] > 1000
    assert sum(benched["mix"].values()) == benched["instructions"]
    assert benched["caches"]["l1_misses"] >= benched["caches"]["l2_misses"]
    assert sum(benched["operators"].values()) == benched["nodes"]
    assert not [name for name in benched if "_ms" in name or "latency" in name or "speed" in name]
