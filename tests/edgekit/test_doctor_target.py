"""`edgekit doctor --target`: what is known of a target is told, what is not is not."""

import json
import subprocess

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.checkup.asking_pip import Answer, ask_pip, wheel_platforms
from edgekit.checkup.bundle_checks import bundle_checks, memory_checks
from edgekit.checkup.wheel_facts import wheel_facts
from edgekit.commands.doctor_target import doctor_target
from edgekit.labs.devices.address import Device
from edgekit.labs.devices.board import NEEDED
from edgekit.labs.devices.registry import add_device, devices_file
from edgekit.labs.emulated.boards import load_board
from edgekit.target import load_target, target_names
from edgekit_runtime.bundle import read_manifest
from edgekit_runtime.certificate import Certificate
from edgekit_runtime.errors import InputError
from edgekit_runtime.manifest import FileEntry

PIS = ["raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w"]


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def told(checkup, severity):
    return [check.what for check in checkup.checks if check.severity == severity]


def never(*_):
    raise AssertionError("the network was asked")


@pytest.mark.parametrize("name", target_names())
def test_every_target_is_told_about_without_the_network(name):
    checkup = doctor_target(name, ask=never)
    assert checkup.checks
    assert checkup.healthy, told(checkup, "problem")
    document = checkup.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize("name", PIS)
def test_a_pi_has_wheels_for_the_pythons_of_its_systems(name):
    wheels = [check for check in doctor_target(name).checks if check.what.startswith("wheels for Python")]
    assert [check.what.split()[3] for check in wheels] == ["3.11", "3.13"]
    assert all("onnxruntime" in check.why and "Raspberry Pi OS" in check.why for check in wheels)


def test_facts_of_wheels_fit_what_the_runtime_and_the_lab_need():
    from edgekit.labs.emulated.pins import pins

    facts = wheel_facts()
    assert set(facts.runs_on) == set(PIS)
    assert set(facts.without_python) <= set(target_names())
    for found in facts.wheels:
        assert set(found.packages) <= set(NEEDED)
    newest = facts.of("aarch64", pins().python)
    assert newest is not None
    numbers = [
        tuple(map(int, version.split(".")))
        for version in (newest.packages["onnxruntime"].version, pins().wheels["onnxruntime"].version)
    ]
    assert numbers[0] >= numbers[1]


@pytest.mark.parametrize(
    ("python", "severity", "expected"),
    [
        ("3.11", "ok", "wheels for Python 3.11 on aarch64"),
        ("3.12.4", "ok", "wheels for Python 3.12 on aarch64"),
        ("3.10", "problem", "Python 3.10 is too old"),
        ("3.15", "problem", "no wheel of onnxruntime for Python 3.15 on aarch64"),
        ("3.29", "warning", "nothing is known of wheels for Python 3.29 on aarch64"),
    ],
)
def test_pythons(python, severity, expected):
    checkup = doctor_target("raspberry-pi-4", python=python, ask=never)
    assert expected in told(checkup, severity)
    assert checkup.healthy == (severity != "problem")


def test_what_is_no_version_is_refused():
    with pytest.raises(InputError, match="'three' is no version of Python"):
        doctor_target("raspberry-pi-4", python="three")


@pytest.mark.parametrize("architecture", ["armv7l", "armhf", "armv6l"])
def test_a_32_bit_system_is_refused_with_the_way_out(architecture):
    checkup = doctor_target("raspberry-pi-4", architecture=architecture, online=True, ask=never)
    assert not checkup.healthy
    refused = checkup.checks[0]
    assert "32-bit" in refused.what
    assert "#24511" in refused.why
    assert "64-bit Raspberry Pi OS" in refused.do
    assert "python3-onnxruntime 1.21 in Debian trixie" in refused.do
    assert not [check for check in checkup.checks if check.what.startswith("wheels")]


def test_pip_is_asked_for_each_python_when_it_is_wished():
    asked = []

    def ask(packages, python, platforms):
        asked.append((python, platforms[0]))
        missing = python == "3.13"
        return [
            Answer(one, reason="none there") if missing and "onnx" in one else Answer(one, f"{one}.whl", "1") for one in packages
        ]

    checkup = doctor_target("raspberry-pi-5", online=True, ask=ask)
    assert asked == [("3.11", "manylinux_2_36_aarch64"), ("3.13", "manylinux_2_41_aarch64")]
    assert "pip finds wheels for Python 3.11 on aarch64 with glibc 2.36" in told(checkup, "ok")
    (problem,) = [check for check in checkup.checks if check.severity == "problem"]
    assert "onnxruntime>=1.22: none there" in problem.why


def test_pips_answer_is_read_and_its_refusal_told():
    commands = []
    report = {"install": [{"download_info": {"url": "file:///wheels/numpy-2-cp311.whl"}, "metadata": {"version": "2"}}]}

    def run(command):
        commands.append(command)
        if command[-1] == "numpy":
            return subprocess.CompletedProcess(command, 0, json.dumps(report), "")
        return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: No matching distribution found for other")

    found, missing = ask_pip(["numpy", "other"], "3.11", wheel_platforms("aarch64", "2.28"), run)
    assert found == Answer("numpy", "numpy-2-cp311.whl", "2")
    assert (missing.file, missing.reason) == (None, "No matching distribution found for other")
    assert "--dry-run" in commands[0]
    assert "--python-version=3.11" in commands[0]
    assert "--platform=manylinux_2_28_aarch64" in commands[0]
    assert "--platform=manylinux_2_29_aarch64" not in commands[0]


def test_pip_itself_takes_the_command(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (answer,) = ask_pip(["onnxruntime>=1.22"], "3.11", wheel_platforms("aarch64", "2.36"))
    assert answer.file is None
    assert "No matching distribution" in answer.reason


def test_releases_to_avoid_are_those_of_the_processor():
    four, five = ([check.what for check in doctor_target(name).checks] for name in ("raspberry-pi-4", "raspberry-pi-5"))
    assert "onnxruntime 1.21.0 is to be avoided there" in four
    assert "onnxruntime 1.21.0 is to be avoided there" not in five
    assert "onnxruntime 1.24.1 to 1.30.0 is to be avoided there" in five
    assert not [what for what in told(doctor_target("cpu-x64"), "ok") if "avoided" in what]


def test_what_is_no_board_gets_nothing_invented():
    for name in ("web-wasm", "iphone", "android-arm64"):
        whats = " ".join(check.what for check in doctor_target(name).checks)
        assert "no Python is needed there" in whats
        assert "wheels" not in whats
        assert "memory" not in whats
    assert "memory" not in " ".join(check.what for check in doctor_target("cpu-x64-avx2").checks)
    assert "which system it is" in told(doctor_target("snapdragon-htp"), "warning")[0]
    assert "onnxruntime-ep-openvino" in told(doctor_target("openvino-cpu"), "warning")[0]
    assert "the target is this machine" in told(doctor_target("host"), "ok")


def test_the_lab_and_the_devices_are_told(tmp_path):
    checkup = doctor_target("raspberry-pi-4")
    assert "the lab of emulated boards is not set up" in told(checkup, "warning")
    assert "no device is on the list" in told(checkup, "ok")
    add_device("kitchen", Device("raspberrypi.local", "pi"), [])
    assert any("kitchen (ssh://pi@raspberrypi.local" in what for what in told(doctor_target("raspberry-pi-4"), "ok"))
    devices_file().write_text("[kitchen")
    assert "the list of devices does not hold" in told(doctor_target("raspberry-pi-4"), "warning")


def manifest_of(deployed, **changes):
    path = deployed[0] / "quadrants.edge"
    return path, msgspec.structs.replace(read_manifest(path), **changes)


def checks_of(path, manifest, name):
    target = load_target(name)
    return {check.what: check for check in bundle_checks(path, manifest, target, target.isa, target.architecture)}


def test_a_bundle_for_another_target_is_a_warning(deployed):
    path, manifest = manifest_of(deployed, target="raspberry-pi-4")
    assert checks_of(path, manifest, "raspberry-pi-4")["quadrants.edge was deployed for raspberry-pi-4"].severity == "ok"
    other = checks_of(path, manifest, "raspberry-pi-5")["quadrants.edge was deployed for raspberry-pi-4, not for raspberry-pi-5"]
    assert (other.severity, "--target raspberry-pi-5" in other.do) == ("warning", True)


def test_instruction_sets_and_releases_that_are_missing_are_problems(deployed):
    path, manifest = manifest_of(deployed, isa={"aarch64": ["dotprod"]}, onnxruntime="9.9")
    four, five = (checks_of(path, manifest, name) for name in ("raspberry-pi-4", "raspberry-pi-5"))
    assert four["quadrants.edge needs dotprod, which the target lacks"].severity == "problem"
    assert five["quadrants.edge opens on this processor"].severity == "ok"
    assert five["it needs onnxruntime 9.9 or newer"].severity == "problem"


def test_a_certificate_that_failed_is_a_problem(deployed):
    row = Certificate(
        isa="raspberry-pi-4",
        kind="emulated",
        processor="Pi",
        features=["neon"],
        status="failed",
        reason="it loses 0.2 of the metric",
        examples=30,
        examples_of=200,
        conversions=0,
        integer_nodes=2,
        onnxruntime="1.31.1",
        created="2026-11-22T00:00:00+00:00",
        peak_rss_bytes=300_000_000,
    )
    path, manifest = manifest_of(deployed, certificates=[row])
    failed = checks_of(path, manifest, "raspberry-pi-4")["its certificate for raspberry-pi-4 says failed"]
    assert (failed.severity, failed.why) == ("problem", "it loses 0.2 of the metric")
    (memory,) = memory_checks("raspberry-pi-4", load_board("raspberry-pi-4"), path, manifest)
    assert "takes 300 MB" in memory.what
    assert "upper bound" in memory.why


@pytest.mark.parametrize(("model_bytes", "severity"), [(1_000_000, "ok"), (100_000_000, "warning"), (200_000_000, "problem")])
def test_memory_is_an_estimate_where_nobody_measured_and_says_so(deployed, model_bytes, severity):
    path, manifest = manifest_of(deployed)
    chosen = msgspec.structs.replace(
        manifest.chosen, measurement=msgspec.structs.replace(manifest.chosen.measurement, peak_rss_bytes=None)
    )
    files = {**manifest.files, manifest.model: FileEntry("0" * 64, model_bytes)}
    manifest = msgspec.structs.replace(manifest, chosen=chosen, files=files)
    (check,) = memory_checks("raspberry-pi-zero-2w", load_board("raspberry-pi-zero-2w"), path, manifest)
    assert (check.severity, "an estimate" in check.why) == (severity, True)


def test_measured_memory_says_where_it_was_measured(deployed):
    path, manifest = manifest_of(deployed)
    assert manifest.chosen.measurement.peak_rss_bytes
    (check,) = memory_checks("raspberry-pi-4", load_board("raspberry-pi-4"), path, manifest)
    assert f"measured when it was deployed for {manifest.target}, not there" in check.why


def test_weights_of_minus_128_are_told_where_sums_overflow(deployed, tmp_path):
    manifest = manifest_of(deployed)[1]

    def weights(lowest):
        tensor = numpy_helper.from_array(np.full((2, 2), lowest, np.int8), "w")
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 2])],
            [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 2])],
            [tensor],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / manifest.model)
        return [checks_of(tmp_path, manifest, name) for name in ("raspberry-pi-4", "raspberry-pi-5")]

    four, five = weights(-128)
    assert four["1 of its int8 weights hold -128, such as w"].severity == "warning"
    assert not [what for what in five if "-128" in what]
    four, _ = weights(-127)
    assert four["none of its int8 weights holds -128"].severity == "ok"


def test_the_verb(cli, deployed):
    bundle = deployed[0] / "quadrants.edge"
    document = json.loads(cli("doctor", "--target", "raspberry-pi-4", "--bundle", bundle, "--json").out)
    assert (document["target"], document["bundle"], document["healthy"]) == ("raspberry-pi-4", str(bundle), True)
    assert {"severity", "what", "why", "do"} == set(document["checks"][0])
    shown = cli("doctor", "--target", "raspberry-pi-4")
    assert shown.status == 0
    assert "wheels for Python 3.11 on aarch64" in shown.out
    assert "64-bit Raspberry Pi OS" in cli("doctor", "--target", "raspberry-pi-4", "--architecture", "armv7l").out
    assert "unknown; there are" in cli("doctor", "--target", "pie").line
    assert "does not exist" in cli("doctor", "--target", "raspberry-pi-4", "--bundle", "none.edge").line
    assert cli("doctor", "--bundle", bundle).status == 2
