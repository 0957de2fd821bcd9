"""What a machine is, from the texts that the system gives; the texts here are shortened real ones."""

import os

import pytest

from edgekit_runtime import machine as here
from edgekit_runtime.machine import available_cores, cpu_name, cpu_quota, isa_features, isa_from_numpy, machine, missing_isa

ZEN3 = """processor\t: 0
model\t\t: 33
model name\t: AMD Ryzen 9 5950X 16-Core Processor
flags\t\t: fpu sse2 avx2 vaes

processor\t: 1
model name\t: AMD Ryzen 9 5950X 16-Core Processor
flags\t\t: fpu sse2 avx2 vaes
"""
SAPPHIRE_RAPIDS = (
    "model name\t: Intel(R) Xeon(R)\nflags\t\t: avx2 avx512f avx512_vnni avx512_fp16 amx_bf16 amx_tile amx_int8 avx_vnni\n"
)
PI_5 = """processor\t: 0
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
PI_3 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd03\n"
ARMV7 = "model name\t: ARMv7 Processor rev 4 (v7l)\nFeatures\t: half thumb fastmult vfp edsp neon vfpv3\n"


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (ZEN3, "AMD Ryzen 9 5950X 16-Core Processor", ("avx2",)),
        (SAPPHIRE_RAPIDS, "Intel(R) Xeon(R)", ("avx2", "avx512", "vnni", "amx", "fp16", "bf16")),
        (PI_5, "Raspberry Pi 5 Model B Rev 1.0", ("neon", "dotprod", "fp16")),
        (PI_3, "ARM part 0xd03", ("neon",)),
        (ARMV7, "ARMv7 Processor rev 4 (v7l)", ("neon",)),
    ],
)
def test_cpuinfo(text, name, features):
    assert cpu_name(text) == name
    assert isa_features(text) == features


def test_without_cpuinfo():
    assert isa_features("") == ()
    assert cpu_name("") == cpu_name("garbage\n:\n")


def test_numpy_tells_no_feature_that_cpuinfo_does_not():
    """The way of macOS and Windows, checked on Linux, where both can be asked."""
    if machine().architecture not in ("x86_64", "aarch64") or not isa_features(here._read(here.Path("/proc/cpuinfo"))):
        pytest.skip("this machine has no /proc/cpuinfo to compare with")
    assert set(isa_from_numpy()) <= set(machine().isa)
    assert "avx2" not in machine().isa or "avx2" in isa_from_numpy()


def test_this_machine():
    assert machine() is machine()
    assert 1 <= machine().cores <= machine().cores_total
    assert machine().memory_bytes is None or machine().memory_bytes > 1 << 20


def test_missing_features(monkeypatch):
    from msgspec.structs import replace

    pi = replace(machine(), architecture="aarch64", isa=("neon",))
    monkeypatch.setattr(here, "machine", lambda: pi)
    assert missing_isa({"aarch64": ["neon", "dotprod"], "x86_64": ["vnni"]}) == ["dotprod"]
    assert missing_isa({"x86_64": ["vnni"]}) == []
    assert missing_isa({}) == []


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        pytest.param({"cpu.max": "max 100000\n"}, "0::/\n", None, id="v2 without a limit"),
        pytest.param({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5, id="v2 in a container's own namespace"),
        pytest.param({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 2.0, id="v2 limit of a parent"),
        pytest.param({"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, "0::/a/b\n", 0.5, id="v2 the smallest counts"),
        pytest.param({"other/cpu.max": "100000 100000"}, "0::/a/b\n", None, id="v2 limit of somebody else"),
        pytest.param({"cpu.max": "100000 100000"}, "0::/../../x\n", 1.0, id="v2 seen from inside another namespace"),
        pytest.param(
            {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "300000", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"},
            V1,
            3.0,
            id="v1",
        ),
        pytest.param(
            {"cpu/docker/abc/cpu.cfs_quota_us": "100000", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
            V1,
            1.0,
            id="v1 mounted as cpu",
        ),
        pytest.param(
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            V1,
            2.5,
            id="v1 in a container that sees its own group as the root",
        ),
        pytest.param(
            {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"},
            V1,
            None,
            id="v1 without a limit",
        ),
        pytest.param({"cpu.max": "100000 0"}, "0::/\n", None, id="no period"),
        pytest.param({"cpu.max": "garbage"}, "0::/\n", None, id="garbage"),
        pytest.param({}, "", None, id="nothing mounted"),
    ],
)
def test_quota(tmp_path, files, membership, expected):
    assert cpu_quota(tree(tmp_path, files), membership) == expected


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.5, 1), (1.5, 2), (3.0, 3), (64.0, 8)])
def test_cores_are_the_smaller_of_affinity_and_quota(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(here, "cpu_quota", lambda *_: quota)
    assert available_cores() == cores
