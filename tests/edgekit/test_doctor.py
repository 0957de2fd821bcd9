"""`edgekit doctor`: the real machine once, and every illness on made-up ones."""

import json
import platform
import re
import sys
from pathlib import Path

import msgspec
import pytest

from edgekit.checkup.integer_probes import PROBES, OnnxruntimeFacts, Probe, ProbeResult, run_probe
from edgekit.checkup.known_bad import Host, known_bad
from edgekit.checkup.packages import (
    OLDEST_ONNXRUNTIME,
    TESTED_TORCH,
    installed_versions,
    onnxruntime_distributions,
    package_checks,
)
from edgekit.checkup.plugin_probe import plugin_checks, probe_plugins
from edgekit.checkup.probe_process import ProbeReport, probe_checks, run_probes
from edgekit.checkup.surroundings import Surroundings, isa_in_words, surrounding_checks, surroundings
from edgekit.commands.doctor import doctor, processor_flags
from edgekit_runtime.machine import machine
from edgekit_runtime.plugins import OPENVINO, PLUGINS, available_providers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkup():
    return doctor()


def test_this_machine(checkup):
    assert checkup.healthy, checkup.checks
    assert checkup.onnxruntime is not None
    assert "CPUExecutionProvider" in checkup.onnxruntime.providers
    assert checkup.versions["onnxruntime"] == checkup.onnxruntime.version
    assert checkup.int8
    assert [result.name for result in checkup.probes][: len(PROBES) - 2] == [probe.name for probe in PROBES if not probe.precise]


def test_probes_agree_with_the_processor(checkup):
    status = {result.name: result.status for result in checkup.probes}
    for name in ("Conv u8s8 small values", "MatMul u8s8 small values", "Conv u8u8", "MatMul u8u8", "MatMul u8s8 reduced range"):
        assert status[name] == "exact", name
    here = machine()
    if here.architecture == "x86_64" and "vnni" not in here.isa:
        assert status["Conv u8s8"] == status["MatMul u8s8"] == "saturates"
        assert status["Conv u8s8 precise"] == status["MatMul u8s8 precise"] == "exact"
        assert any("saturate" in check.what for check in checkup.checks)
    elif here.architecture in ("x86_64", "aarch64"):
        assert status["Conv u8s8"] == status["MatMul u8s8"] == "exact"


def test_document_is_plain_finite_json(checkup):
    document = checkup.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {"severity", "what", "why", "do"} == set(document["checks"][0])


def test_doctor_does_not_import_torch():
    import subprocess

    code = "import sys; from edgekit.commands.doctor import doctor; doctor(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_probe_by_hand():
    result = run_probe(Probe("MatMulInteger", "uint8", "uint8"))
    assert (result.status, result.expected, result.got) == ("exact", 64 * 255 * 127, 64 * 255 * 127)


def test_constants_follow_the_repository():
    requires = (ROOT / "runtime" / "pyproject.toml").read_text()
    assert f"onnxruntime>={'.'.join(map(str, OLDEST_ONNXRUNTIME))}" in requires
    constraints = ROOT / "constraints.txt"
    if constraints.exists():
        pinned = re.search(r"^torch==([\d.]+)", constraints.read_text(), re.MULTILINE)
        assert pinned is not None
        assert pinned.group(1) == TESTED_TORCH


def test_installed_packages():
    assert onnxruntime_distributions() == ["onnxruntime"]
    assert installed_versions()["edgekit-runtime"] == "0.1.0"


@pytest.mark.parametrize(
    ("versions", "builds", "severity", "expected"),
    [
        ({"torch": TESTED_TORCH}, [], "problem", "not installed"),
        ({"torch": TESTED_TORCH}, ["onnxruntime", "onnxruntime-gpu"], "problem", "2 builds"),
        ({"torch": TESTED_TORCH, "onnxruntime": "1.19.2"}, ["onnxruntime"], "problem", "too old"),
        ({"torch": "2.12.1+cpu", "onnxruntime": "1.31.1"}, ["onnxruntime"], "warning", "torch 2.12.1"),
        ({"torch": None, "onnxruntime": "1.31.1"}, ["onnxruntime"], "warning", "torch is not installed"),
    ],
)
def test_package_checks(versions, builds, severity, expected):
    (check,) = package_checks(versions, builds)
    assert check.severity == severity
    assert expected in check.what
    assert "pip" in check.do


def test_tested_packages_give_no_check():
    assert package_checks({"torch": f"{TESTED_TORCH}+cpu", "onnxruntime": "1.31.1"}, ["onnxruntime"]) == []


PI_4 = Host("aarch64", flags=frozenset(["fp", "asimd", "evtstrm", "crc32", "cpuid"]))
PI_5 = Host("aarch64", flags=frozenset(["fp", "asimd", "evtstrm", "aes", "crc32", "atomics", "fphp", "asimdhp", "asimddp"]))
APPLE = Host("aarch64", system="Darwin")
XEON = Host("x86_64", flags=frozenset({"avx2", "amx_int8"}))


@pytest.mark.parametrize(
    ("versions", "host", "thread"),
    [
        ({"onnxruntime": "1.21.0"}, PI_4, "#23957"),
        ({"onnxruntime": "1.21.0"}, PI_5, None),
        ({"onnxruntime": "1.21.1"}, PI_4, None),
        ({"onnxruntime": "1.21.0"}, XEON, None),
        ({"onnxruntime": "1.22.0"}, PI_5, "#25472"),
        ({"onnxruntime": "1.23.1"}, XEON, "#26324"),
        ({"onnxruntime": "1.27.0"}, APPLE, "#3791"),
        ({"onnxruntime": "1.27.1"}, APPLE, None),
        ({"torch": "2.10.0+cpu"}, PI_4, "#176993"),
        ({"torch": "2.13.0", "onnxruntime": "1.33.0"}, PI_4, None),
        ({"onnxruntime": "1.28.0"}, PI_4, "#32057"),
        ({"onnxruntime": "1.28.0"}, Host("aarch64"), None),
        ({"onnxruntime": "1.31.1"}, PI_4, "edgekit's lab"),
        ({"onnxruntime": "1.31.1"}, PI_5, None),
        ({"onnxruntime": "1.28.0"}, PI_5, "#32600"),
        ({"onnxruntime": "1.23.2"}, PI_5, None),
        ({"onnxruntime": "1.23.2"}, Host("aarch64", system="Android"), "#27884"),
    ],
)
def test_known_bad_releases_on_their_machines_only(versions, host, thread):
    checks = known_bad(versions, host)
    assert [thread in check.why for check in checks] == ([True] if thread else [])


def report(*results: ProbeResult, **rest) -> ProbeReport:
    return ProbeReport(OnnxruntimeFacts("1.31.1", [], ""), list(results), **rest)


def test_saturation_is_a_warning_that_names_what_is_exact():
    results = (
        ProbeResult("Conv u8s8", "saturates", "QLinearConv", 2072640.0, 1057046.0),
        ProbeResult("Conv u8u8", "exact", "QLinearConv", 2072640.0, 2072640.0),
    )
    worst = next(check for check in probe_checks(report(*results), ("avx2",)) if check.severity != "ok")
    assert worst.severity == "warning"
    assert "1,057,046 for 2,072,640" in worst.what
    assert "Conv u8u8" in worst.why


@pytest.mark.parametrize(
    "result",
    [
        ProbeResult("Conv u8s8", "wrong", "QLinearConv", 100.0, 7.0),
        ProbeResult("MatMul u8s8 small values", "saturates", "QLinearMatMul", 100.0, 7.0),
    ],
)
def test_wrong_values_are_a_problem(result):
    assert "problem" in {check.severity for check in probe_checks(report(result), ())}


def test_failed_probe_is_a_check():
    checks = probe_checks(report(ProbeResult("Conv u8s8", "failed", detail="NotImplemented: no kernel")), ())
    assert [check.severity for check in checks] == ["ok", "warning"]
    assert "no kernel" in checks[1].why


def child(code: str) -> list[str]:
    return [sys.executable, "-c", code]


STARTED = """print('{"type":"started","name":"%s"}', flush=True);"""


def test_numpy_that_does_not_fit_is_recognized():
    code = STARTED % "import onnxruntime" + "raise ImportError('AttributeError: _ARRAY_API not found')"
    (check,) = probe_checks(run_probes(child(code)), ())
    assert check.severity == "problem"
    assert "numpy do not fit" in check.what
    assert "#21063" in check.why


def test_missing_onnxruntime_is_recognized():
    (check,) = probe_checks(run_probes(child("import onnxruntime_that_is_not_there")), ())
    assert "cannot be imported" in check.what
    assert "onnxruntime_that_is_not_there" in check.why


@pytest.mark.skipif(platform.system() == "Windows", reason="kills itself with a POSIX signal")
def test_crash_is_known_by_its_probe():
    code = (
        STARTED % "import onnxruntime"
        + """print('{"type":"onnxruntime","version":"9","providers":[],"build":""}', flush=True);"""
        + STARTED % "Conv u8s8"
        + "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    )
    seen = run_probes(child(code))
    assert (seen.died_in, seen.onnxruntime.version) == ("Conv u8s8", "9")
    (check,) = probe_checks(seen, ())
    assert "Conv u8s8" in check.what
    assert "SIGILL" in check.why


def test_hanging_probe_is_known():
    seen = run_probes(child(STARTED % "Conv u8s8" + "import time; time.sleep(60)"), timeout_s=1)
    assert (seen.died_in, seen.reason) == ("Conv u8s8", "no answer after 1 s")


def around(**changes) -> Surroundings:
    healthy = {
        "architecture": "aarch64",
        "system": "Linux",
        "python_bits": 64,
        "cores_total": 4,
        "cores_by_affinity": 4,
        "cores_by_quota": None,
        "cores": 4,
        "memory_limit_bytes": 8 * 10**9,
        "memory_available_bytes": 6 * 10**9,
        "temp_folder": "/tmp",
        "temp_free_bytes": 50 * 10**9,
        "variables": {},
        "cpu_topology": True,
    }
    return Surroundings(**(healthy | changes))


def test_healthy_surroundings_give_no_check():
    assert surrounding_checks(around()) == []


@pytest.mark.parametrize(
    ("changes", "severity", "expected"),
    [
        ({"python_bits": 32}, "problem", "32 bits"),
        ({"cpu_topology": False}, "warning", "/sys"),
        ({"cores_by_quota": 1.5, "cores": 2}, "warning", "1.5 of the 4 cores"),
        ({"cores_by_affinity": 2, "cores": 2}, "ok", "2 of 4 cores"),
        ({"memory_available_bytes": 10**9}, "warning", "1.00 GB of memory"),
        ({"memory_limit_bytes": 10**8}, "problem", "0.10 GB of memory"),
        ({"temp_free_bytes": 10**9}, "warning", "1.00 GB free"),
        ({"temp_free_bytes": 10**7}, "problem", "0.01 GB free"),
        ({"variables": {"OMP_NUM_THREADS": "16"}}, "warning", "OMP_NUM_THREADS=16"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "ok", "OMP_NUM_THREADS=1"),
        ({"variables": {"MKL_NUM_THREADS": "many"}}, "warning", "MKL_NUM_THREADS=many"),
        ({"variables": {"OMP_PROC_BIND": "close"}}, "warning", "OMP_PROC_BIND=close"),
        ({"variables": {"OMP_WAIT_POLICY": "ACTIVE"}}, "warning", "OMP_WAIT_POLICY=ACTIVE"),
    ],
)
def test_surrounding_checks(changes, severity, expected):
    (check,) = surrounding_checks(around(**changes))
    assert check.severity == severity
    assert expected in check.what
    assert check.why


def test_environment_is_read(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert surroundings().variables["OMP_NUM_THREADS"] == "3"


def test_instruction_sets_in_words():
    assert "saturates" in isa_in_words("x86_64", ("avx2",))[0]
    assert "exact" in isa_in_words("x86_64", ("avx2", "avx512", "vnni"))[0]
    assert "no dotprod" in isa_in_words("aarch64", ("neon",))[0]
    assert "measure" in isa_in_words("riscv64", ())[0]


def test_processor_flags():
    assert processor_flags("processor : 0\nFeatures\t: fp asimd atomics\n") == {"fp", "asimd", "atomics"}
    assert processor_flags("") == frozenset()


def plugin_probe(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def the_plugin(monkeypatch, code: str, **changes):
    """What is reported of OpenVINO's plugin, installed as `json`, where its probe runs `code`."""
    plugin = msgspec.structs.replace(PLUGINS[OPENVINO], **{"module": "json", "package": "msgspec", **changes})
    monkeypatch.setitem(PLUGINS, OPENVINO, plugin)
    return next(report for report in probe_plugins(plugin_probe(code)) if report.provider == OPENVINO)


def test_a_plugin_that_works_is_said_with_its_version(monkeypatch):
    report = the_plugin(monkeypatch, "pass")
    assert (report.works, report.version) == (True, msgspec.__version__)
    (check,) = plugin_checks([report])
    assert (check.severity, check.what) == ("ok", f"msgspec {msgspec.__version__} works")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; print('it takes no device', file=sys.stderr); sys.exit(3)", "it takes no device"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "brought its process down (SIGSEGV)"),
        ("raise ImportError('libtbb is missing')", "brought its process down (exit status 1: ImportError: libtbb is missing)"),
    ],
)
@pytest.mark.skipif(platform.system() == "Windows", reason="kills itself with a POSIX signal")
def test_a_plugin_that_does_not_work_says_why(monkeypatch, code, told):
    report = the_plugin(monkeypatch, code)
    assert not report.works
    (check,) = plugin_checks([report])
    assert check.severity == "warning"
    assert told in check.why


def test_a_plugin_that_is_not_installed_is_no_check(monkeypatch):
    report = the_plugin(monkeypatch, "raise SystemExit('never run')", module="no_such_module_of_openvino")
    assert (report.works, report.version) == (False, None)
    assert plugin_checks([report]) == []


def test_the_doctor_agrees_with_what_can_be_opened(checkup):
    assert {plugin.provider for plugin in checkup.plugins if plugin.works} == set(available_providers()) & set(PLUGINS)
    missing = {plugin.provider for plugin in checkup.plugins if plugin.version is None}
    assert missing <= set(checkup.provider_packages)
