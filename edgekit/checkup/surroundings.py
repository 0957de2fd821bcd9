"""What the system leaves to this process: cores, memory, disk, and environment variables that set threads."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekit.checkup.check import Check

__all__ = ["Surroundings", "isa_in_words", "surrounding_checks", "surroundings"]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
)
PINNING = ("OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")

GB = 1e9
# Importing torch and exporting a small network takes about 1 GB; a bundle and its candidates a few hundred MB of disk.
MEMORY_TO_EXPORT = 2 * GB
MEMORY_TO_RUN = 0.25 * GB
DISK_TO_DEPLOY = 2 * GB
DISK_AT_ALL = 0.2 * GB


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the system leaves to this process.

    Attributes:
        architecture: ``x86_64``, ``aarch64``, or what the system calls it.
        system: Operating system.
        python_bits: 64, or 32 on an old system.
        cores_total: Cores of the machine.
        cores_by_affinity: Cores that this process may be scheduled on.
        cores_by_quota: Cores' worth of CPU time that the container allows; ``None`` without a limit.
        cores: What edgekit uses of them.
        memory_limit_bytes: Physical memory, or the container's limit; ``None`` where unknown.
        memory_available_bytes: Memory that is free now; ``None`` where unknown.
        temp_folder: Where temporary files go.
        temp_free_bytes: Free space there; ``None`` where unknown.
        variables: Environment variables that set threads.
        cpu_topology: Whether the kernel lists its processors where onnxruntime looks for them.
    """

    architecture: str
    system: str
    python_bits: int
    cores_total: int
    cores_by_affinity: int
    cores_by_quota: float | None
    cores: int
    memory_limit_bytes: int | None
    memory_available_bytes: int | None
    temp_folder: str
    temp_free_bytes: int | None
    variables: dict[str, str]
    cpu_topology: bool


def surroundings() -> Surroundings:
    """Reads them."""
    from edgekit_runtime.machine import CGROUP, available_cores, cpu_quota, machine, memory_limit

    total = os.cpu_count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    membership = _read(Path("/proc/self/cgroup"))
    folder = tempfile.gettempdir()
    return Surroundings(
        architecture=machine().architecture,
        system=platform.system(),
        python_bits=64 if sys.maxsize > 2**32 else 32,
        cores_total=total,
        cores_by_affinity=len(affinity(0)) if affinity else total,
        cores_by_quota=cpu_quota(CGROUP, membership),
        cores=available_cores(),
        memory_limit_bytes=memory_limit(),
        memory_available_bytes=_memory_available(_read(Path("/proc/meminfo"))),
        temp_folder=folder,
        temp_free_bytes=_free(folder),
        variables={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        cpu_topology=platform.system() != "Linux" or Path("/sys/devices/system/cpu/possible").is_file(),
    )


def surrounding_checks(around: Surroundings) -> list[Check]:
    """Checks of what the system leaves to this process; what is well gives none."""
    return [*_platform(around), *_cores(around), *_memory(around), *_disk(around), *_variables(around.variables, around.cores)]


def isa_in_words(architecture: str, isa: tuple[str, ...]) -> list[str]:
    """What this processor's instruction sets mean for int8."""
    if architecture == "x86_64":
        return _x86_in_words(isa)
    if architecture == "aarch64":
        return _arm_in_words(isa)
    return [f"{architecture}: nothing is known about int8 here; measure, and go by the integer probes"]


def _x86_in_words(isa: tuple[str, ...]) -> list[str]:
    words = []
    if "vnni" in isa:
        words.append("vnni: int8 multiplies in one exact instruction; U8S8 per channel is the flavour to use")
    elif "avx2" in isa:
        words.append(
            "avx2 without vnni: U8S8 saturates in 16 bits, and onnxruntime computes S8S8 as U8S8; edgekit tries U8U8 and "
            "weights of reduced range here"
        )
    else:
        words.append("no avx2: int8 runs on slow kernels and will hardly beat float")
    if "amx" in isa:
        words.append("amx: int8 matrix tiles; OpenVINO uses bf16 tiles for float models too, so compare with it")
    if "avx512" in isa and "vnni" not in isa:
        words.append("avx512 without vnni: wider vectors, but the same 16-bit saturation")
    return words


def _arm_in_words(isa: tuple[str, ...]) -> list[str]:
    words = []
    if "i8mm" in isa:
        words.append("i8mm: int8 matrix products in one instruction; S8S8 per channel is the flavour to use")
    elif "dotprod" in isa:
        words.append("dotprod: int8 is about as fast as ARM gets before i8mm; S8S8 per channel is the flavour to use")
    else:
        words.append(
            "no dotprod (as on a Raspberry Pi up to the 4): int8 gains little over float in time, but still in size; measure"
        )
    if "fp16" in isa:
        words.append("fp16: half-precision arithmetic in hardware")
    return words


def _platform(around: Surroundings) -> list[Check]:
    checks = []
    if around.python_bits == 32:
        checks.append(
            Check(
                "problem",
                "this Python has 32 bits",
                "onnxruntime has no wheels for 32-bit systems (microsoft/onnxruntime#24511)",
                "install a 64-bit system (Raspberry Pi OS 64-bit on a Pi 3 or later), or build onnxruntime from source",
            )
        )
    if around.architecture == "aarch64" and not around.cpu_topology:
        checks.append(
            Check(
                "warning",
                "the list of processors in /sys is missing",
                "onnxruntime's import was seen to abort on ARM where a sandbox hides it (microsoft/onnxruntime#10038)",
                "mount /sys into the container, or run on a system that shows it",
            )
        )
    return checks


def _cores(around: Surroundings) -> list[Check]:
    if around.cores_by_quota is not None and around.cores_by_quota < around.cores_by_affinity:
        return [
            Check(
                "warning",
                f"the container may use {around.cores_by_quota:g} of the {around.cores_by_affinity} cores that it sees",
                "libraries that start a thread a core are throttled by the quota, and latency then jumps "
                "(microsoft/onnxruntime#10113)",
                f"edgekit starts {around.cores}; set intra_op_num_threads={around.cores} in code of your own, or raise the quota",
            )
        ]
    if around.cores_by_affinity < around.cores_total:
        return [
            Check(
                "ok",
                f"this process may use {around.cores_by_affinity} of {around.cores_total} cores",
                "onnxruntime's own default would ask for all of them and fail to pin its threads (microsoft/onnxruntime#8313); "
                f"edgekit starts {around.cores}",
            )
        ]
    return []


def _memory(around: Surroundings) -> list[Check]:
    known = [value for value in (around.memory_limit_bytes, around.memory_available_bytes) if value is not None]
    memory = min(known, default=None)
    if memory is None or memory >= MEMORY_TO_EXPORT:
        return []
    if memory >= MEMORY_TO_RUN:
        why, do = "exporting with torch takes about 2 GB", "export on a larger machine; running a bundle here is fine"
    else:
        why, do = "even a small bundle needs about 250 MB with Python", "stop other programs, or raise the container's limit"
    return [Check("warning" if memory >= MEMORY_TO_RUN else "problem", f"{memory / GB:.2f} GB of memory to use", why, do)]


def _disk(around: Surroundings) -> list[Check]:
    free = around.temp_free_bytes
    if free is None or free >= DISK_TO_DEPLOY:
        return []
    return [
        Check(
            "warning" if free >= DISK_AT_ALL else "problem",
            f"{free / GB:.2f} GB free in {around.temp_folder}",
            "every candidate of a deployment is written there before it is measured",
            "free some space, or point TMPDIR to a larger disk",
        )
    ]


def _variables(variables: Mapping[str, str], cores: int) -> list[Check]:
    checks = []
    for name, value in variables.items():
        if name.endswith("_NUM_THREADS"):
            checks += _thread_count(name, value, cores)
        elif name in PINNING and value.lower() not in ("false", "disabled", "none", ""):
            checks.append(
                Check(
                    "warning",
                    f"{name}={value}",
                    "it pins threads of torch and numpy to cores that onnxruntime's threads use, too, and falsifies timings",
                    f"unset {name} while measuring",
                )
            )
        elif name == "OMP_WAIT_POLICY" and value.lower() == "active":
            checks.append(
                Check(
                    "warning", f"{name}={value}", "idle threads of torch spin and take time from what is measured", f"unset {name}"
                )
            )
    return checks


def _thread_count(name: str, value: str, cores: int) -> list[Check]:
    first = value.split(",")[0].strip()
    if not first.isdigit() or int(first) < 1:
        return [Check("warning", f"{name}={value}", "it is not a number of threads, and is ignored or worse", f"unset {name}")]
    if int(first) > cores:
        return [
            Check(
                "warning",
                f"{name}={value}, with {cores} cores to use",
                "torch and numpy start more threads than there are cores and slow each other down",
                f"unset {name}, or set it to {cores}",
            )
        ]
    if int(first) < cores:
        return [
            Check(
                "ok",
                f"{name}={value}, with {cores} cores to use",
                "torch and numpy stay on fewer cores; onnxruntime does not read it, give edgekit --threads instead",
            )
        ]
    return []


def _memory_available(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
