import pytest

import edgekit.target
from edgekit.candidates import candidates_for, scheme_named
from edgekit.target import load_target, target_names
from edgekit_runtime.errors import TargetError
from edgekit_runtime.machine import Machine

NAMES = {
    "host",
    "cpu-x64",
    "cpu-x64-avx2",
    "cpu-arm64",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
    "android-arm64",
    "snapdragon-htp",
    "openvino-cpu",
    "web-wasm",
    "web-webgpu",
    "iphone",
}
CPU = ("CPUExecutionProvider",)


def machine(architecture, *isa):
    return Machine(architecture, "a processor", isa, 4, 4, None, "Linux", "3.11")


VNNI, AVX2, ARM = machine("x86_64", "avx2", "vnni"), machine("x86_64", "avx2"), machine("aarch64", "neon", "dotprod")


def test_the_names_are_those_of_the_design():
    assert target_names() == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_target_loads_says_what_it_is_and_has_candidates(name):
    target = load_target(name)
    assert target.name == name
    assert target.description
    names = [candidate.name for candidate in candidates_for(target, calibrated=True)]
    assert len(set(names)) == len(names)
    assert all(scheme_named(found.partition("@")[0]).name == found.partition("@")[0] for found in names)
    assert names
    for_size = [candidate.name for candidate in candidates_for(target, calibrated=True, optimize="size")]
    assert set(names) <= set(for_size)
    assert all(scheme_named(found.partition("@")[0]).name == found.partition("@")[0] for found in for_size)
    assert not any(found.startswith("static") for found in (one.name for one in candidates_for(target, calibrated=False)))


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(TargetError, match=r"load target 'raspberry': unknown; there are android-arm64, .*host.*toml"):
        load_target("raspberry")


@pytest.mark.parametrize(
    ("here", "like"), [(VNNI, "cpu-x64"), (AVX2, "cpu-x64-avx2"), (machine("x86_64"), "cpu-x64-avx2"), (ARM, "cpu-arm64")]
)
def test_host_is_what_this_machine_is_like(monkeypatch, here, like):
    monkeypatch.setattr(edgekit.target, "machine", lambda: here)
    host, base = load_target("host"), load_target(like)
    assert (host.name, host.isa, host.static, host.dynamic) == ("host", here.isa, base.static, base.dynamic)
    assert host.measured_on(here, CPU) == "real"


def test_host_on_an_unknown_processor_says_what_to_do(monkeypatch):
    monkeypatch.setattr(edgekit.target, "machine", lambda: machine("riscv64"))
    with pytest.raises(TargetError, match="nothing is known of riscv64; name a target"):
        load_target("host")


@pytest.mark.parametrize(
    ("name", "here", "measured"),
    [
        ("cpu-x64", VNNI, "real"),
        ("cpu-x64", AVX2, "software"),
        ("cpu-x64", ARM, "software"),
        ("cpu-arm64", ARM, "real"),
        ("cpu-arm64", machine("aarch64", "neon"), "software"),
        ("raspberry-pi-4", AVX2, "software"),
        ("raspberry-pi-5", ARM, "software"),  # another ARM processor is no Raspberry Pi
        ("openvino-cpu", VNNI, "software"),  # this onnxruntime has no OpenVINO
        ("web-wasm", AVX2, "software"),
    ],
)
def test_only_a_machine_like_the_target_gives_real_latency(name, here, measured):
    assert load_target(name).measured_on(here, CPU) == measured


def test_a_users_own_target(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text('description = "d"\narchitecture = "any"\nstatic = ["u8s8"]\nmeasured = "real"\n')
    target = load_target(str(path))
    assert target.name == "board"
    assert target.measured_on(ARM, CPU) == "real"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("description = ", "its file does not hold"),
        ('description = "d"', "architecture"),
        ('description = "d"\narchitecture = "any"\nspeed = 3', "speed"),
        ('description = "d"\narchitecture = "any"\nmeasured = "guessed"', "guessed"),
        ('description = "d"\narchitecture = "any"\nstatic = "u8s8"', "static"),
    ],
)
def test_a_file_that_does_not_hold(tmp_path, text, told):
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(TargetError, match=rf"board.toml: .*{told}"):
        load_target(str(path))
    with pytest.raises(TargetError, match="there is no such file"):
        load_target(str(tmp_path / "none.toml"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TargetError, match="does not hold"):
        load_target(str(path))
