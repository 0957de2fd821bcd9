"""The list of devices and its verbs; addresses; what boards are refused. No device is connected to here."""

import stat
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.labs.devices.address import Device, parse_address
from edgekit.labs.devices.board import Board, check_board, wheel_platforms
from edgekit.labs.devices.payload import model_payload, runtime_payload, wheels_payload
from edgekit.labs.devices.registry import add_device, devices_file, read_devices, remove_device
from edgekit.progress import Quiet
from edgekit_runtime.errors import BundleError, DeviceError

PI = Board("aarch64", "aarch64", "Linux", (3, 11, 2), "CPython", 64, ("glibc", "2.36"), {}, "/home/pi/.edgekit", 10**10)
THERE = {"numpy": "2.1.0", "onnxruntime": "1.22.1", "msgspec": "0.19.0"}


def board(**changes):
    import msgspec

    return msgspec.structs.replace(PI, **changes)


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize(
    ("address", "device"),
    [
        ("ssh://pi@raspberrypi.local", Device("raspberrypi.local", "pi")),
        ("ssh://Kitchen-Pi:2222", Device("Kitchen-Pi", None, 2222)),
        ("ssh://pi@[fe80::1]:22", Device("fe80::1", "pi", 22)),
        ("ssh://me@10.0.0.7/", Device("10.0.0.7", "me")),
    ],
)
def test_addresses_are_read(address, device):
    assert parse_address(address) == device
    assert parse_address(device.address) == device


@pytest.mark.parametrize(
    "address",
    ["pi@raspberrypi", "http://pi@host", "ssh://", "ssh://pi@", "ssh://pi@host:none", "ssh://pi@host:70000", "ssh://pi@host:0",
     "ssh://pi@host/home", "ssh://pi@host?x", "ssh://-oProxyCommand=x", "ssh://-x@host", "ssh://pi@ho st", "ssh://pi@host;ls"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address):
    with pytest.raises(DeviceError, match="expected ssh://user@host"):
        parse_address(address)


@given(st.text("abcXYZ019%:/#?+!", min_size=0, max_size=12))
def test_no_password_is_kept_or_repeated(secret):
    from urllib.parse import quote

    password = quote(f"hidden{secret}", safe="")
    with pytest.raises(DeviceError, match="passwords are kept in no file") as refused:
        parse_address(f"ssh://pi:{password}@host:22")
    assert "hidden" not in str(refused.value)
    assert "ssh-copy-id -p 22 pi@host" in str(refused.value)


def test_the_list_comes_back_as_it_was():
    assert read_devices() == {}
    pi = Device("raspberrypi.local", "pi", 2222, '~/my "venv"/bin/python', "/home/me/.ssh/ключ")
    other = Device("other")
    add_device("pi", pi, ["host"])
    add_device("other", other, ["host"])
    assert read_devices() == {"pi": pi, "other": other}
    add_device("other", Device("moved"), ["host"])
    remove_device("pi")
    assert read_devices() == {"other": Device("moved")}
    assert [path.name for path in devices_file().parent.iterdir()] == ["devices.toml"]


def test_names_of_other_places_and_no_names_are_refused():
    with pytest.raises(DeviceError, match="has that name already"):
        add_device("host", Device("a"), ["host"])
    for name in ("", "Pi", "a b", "-a", "../a", "a.b"):
        with pytest.raises(DeviceError, match="small letters, digits and hyphens"):
            add_device(name, Device("a"), [])
    with pytest.raises(DeviceError, match="not on the list, which has none"):
        remove_device("pi")
    assert not devices_file().exists()


@pytest.mark.parametrize(
    "text", ["[pi]\nhost = 3\n", "[pi]\nuser = 'a'\n", "[pi", "[pi]\nhost='a'\npassword='b'\n", "[PI]\nhost='a'\n"]
)
def test_a_list_that_does_not_hold_is_refused(text):
    devices_file().parent.mkdir(parents=True)
    devices_file().write_text(text)
    with pytest.raises(DeviceError):
        read_devices()


def test_a_list_that_cannot_be_read_or_written_is_told(tmp_path, cli, monkeypatch):
    (tmp_path / "config").write_text("a file")
    assert "read the list of devices" in cli("device", "add", "pi", "ssh://pi@host").line
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/no-such")
    assert "write /proc/no-such/edgekit/devices.toml" in cli("device", "add", "pi", "ssh://pi@host").line


def test_add_list_and_remove_by_the_command_line(cli, tmp_path):
    key = tmp_path / "key"
    key.write_text("a key")
    assert cli("device", "list").out == "no devices; add one with: edgekit device add NAME ssh://user@address\n"
    added = cli("device", "add", "pi", "ssh://pi@raspberrypi:2222", "--identity", key, "--python", "/opt/python", "--json")
    assert '"address":"ssh://pi@raspberrypi:2222"' in added.out
    assert str(key) in cli("device", "list").out
    assert cli("device", "list", "--json").out.startswith('{"devices":[{"name":"pi"')
    assert cli("device", "remove", "pi").status == 0
    assert '{"devices":[]}' in cli("device", "list", "--json").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "raspberry-pi-4", "ssh://pi@host"), "has that name already"),
        (("add", "pi", "ssh://pi:secret@host"), "passwords are kept in no file"),
        (("add", "pi", "ssh://pi@host", "--identity", "/nowhere/key"), "there is no key"),
        (("add", "pi", "ssh://pi@host", "--python", "-c"), "an absolute path on the device"),
        (("remove", "pi"), "not on the list"),
        (("check", "pi"), "not on the list"),
    ],
)
def test_problems_are_one_line(cli, arguments, told):
    ended = cli("device", *arguments)
    assert ended.status == 1
    assert told in ended.line
    assert "secret" not in ended.err


@pytest.mark.parametrize("word", ["add", "list", "remove", "check"])
def test_every_verb_has_help_and_json(cli, word):
    ended = cli("device", word, "-h")
    assert ended.status == 0
    assert "--json" in ended.out


def test_asyncssh_is_asked_for_by_the_exact_command(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    add_device("pi", Device("raspberrypi"), [])
    assert "pip install '.[ssh]'" in cli("device", "check", "pi").line


def test_boards_that_have_everything_need_no_wheels():
    check_board("pi", board(packages=THERE))
    check_board("pi", board(packages=THERE, machine="armv7l", bits=32))
    assert board(packages=THERE).lacking == []
    assert board(packages=THERE | {"onnxruntime": "1.16.3"}).lacking == ["onnxruntime"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"python": (3, 9, 2)}, r"its Python is 3\.9\.2, needed is 3\.11 or newer"),
        ({"machine": "armv7l", "bits": 32}, "64-bit Raspberry Pi OS"),
        ({"libc": ("", "")}, "wheels from here are for Linux with glibc"),
        ({"system": "Darwin"}, "wheels from here are for Linux with glibc, it is Darwin"),
        ({"machine": "riscv64"}, "it is Linux on riscv64"),
        ({"implementation": "PyPy"}, "the wheels are for CPython"),
    ],
)
def test_boards_that_the_runtime_cannot_run_on_are_told_the_way_out(changes, told):
    with pytest.raises(DeviceError, match=told):
        check_board("pi", board(**changes))


def test_wheels_are_for_what_the_board_is():
    assert wheel_platforms("pi", PI)[0] == "manylinux_2_36_aarch64"
    assert wheel_platforms("pi", PI)[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def test_a_python_under_an_emulator_is_noticed():
    assert board(shell_machine="x86_64").emulated
    assert not PI.emulated
    assert not board(shell_machine="aarch64", machine="armv7l").emulated
    assert not board(shell_machine="").emulated


def test_wheels_are_fetched_once_and_whole_or_not(tmp_path, monkeypatch):
    from edgekit.labs.devices import payload

    asked = []

    def fetch(command, what):
        asked.append(command)
        folder = command[[part.startswith("--dest") for part in command].index(True) + 1]
        from pathlib import Path

        Path(folder).mkdir()
        Path(folder, "numpy-2-cp311.whl").write_bytes(b"half")
        if len(asked) == 1:
            raise DeviceError("killed")
        Path(folder, "msgspec-0.whl").write_bytes(b"other half")

    monkeypatch.setattr(payload, "_fetch", fetch)
    with pytest.raises(DeviceError, match="killed"):
        wheels_payload("pi", PI, tmp_path, Quiet())
    assert list((tmp_path / "wheels").iterdir()) == []
    assert sorted(wheels_payload("pi", PI, tmp_path, Quiet()).sources) == ["msgspec-0.whl", "numpy-2-cp311.whl"]
    assert wheels_payload("pi", PI, tmp_path, Quiet()) == wheels_payload("pi", PI, tmp_path, Quiet())
    assert len(asked) == 2
    assert "--platform=manylinux_2_28_aarch64" in asked[1]
    assert "--python-version=3.11" in asked[1]


def test_pips_own_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DeviceError, match=r"for Python 3\.11 on aarch64, for pi: pip says: No matching distribution"):
        wheels_payload("pi", PI, tmp_path, Quiet())


def test_the_runtime_is_all_of_it_and_nothing_else():
    names = runtime_payload().sources
    assert {"edgekit_runtime/__init__.py", "edgekit_runtime/worker.py", "edgekit_runtime/py.typed"} <= set(names)
    assert all(name.endswith((".py", "py.typed")) for name in names)
    assert runtime_payload() == runtime_payload()


def test_what_a_bundle_or_a_model_is_made_of(deployed, tmp_path):
    folder = deployed[0]
    bundle = model_payload(folder / "quadrants.edge")
    assert {path.name for path in (folder / "quadrants.edge").iterdir()} == set(bundle.sources)
    assert bundle.folder.startswith("bundles/quadrants-")
    assert bundle.opened == ""
    model = model_payload(folder / "quadrants.onnx")
    assert (list(model.sources), model.opened) == (["quadrants.onnx"], "quadrants.onnx")
    with pytest.raises(BundleError, match="does not exist"):
        model_payload(tmp_path / "none.edge")


def test_a_damaged_bundle_is_not_sent(deployed, tmp_path):
    import shutil

    shutil.copytree(deployed[0] / "quadrants.edge", tmp_path / "q.edge")
    model = tmp_path / "q.edge" / "model.onnx"
    model.chmod(model.stat().st_mode | stat.S_IWUSR)
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match="damaged"):
        model_payload(tmp_path / "q.edge")


def external_model(folder, location):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((4,), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    data = (folder / "m.onnx").read_bytes()
    (folder / "m.onnx").write_bytes(data.replace(b"w.data", location.encode()))
    return folder / "m.onnx"


def test_weights_beside_a_model_go_with_it_and_others_do_not(tmp_path):
    (tmp_path / "in").mkdir()
    assert sorted(model_payload(external_model(tmp_path / "in", "w.data")).sources) == ["m.onnx", "w.data"]
    (tmp_path / "x.da").write_bytes(b"secret")
    with pytest.raises(BundleError, match="which is no file beside it"):
        model_payload(external_model(tmp_path / "in", "../x.d"))
