"""What this machine is: architecture, the instruction sets that matter to int8, and the cores this process may use."""

import os
import platform
from functools import cache
from importlib import import_module
from math import ceil
from pathlib import Path

import msgspec

__all__ = ["Machine", "available_cores", "machine", "missing_isa"]

CGROUP = Path("/sys/fs/cgroup")

# Flags of /proc/cpuinfo, by the name that targets and manifests use.
FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "amx": ("amx_int8",),
    "neon": ("asimd", "neon"),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "fp16": ("fphp", "asimdhp", "avx512_fp16"),
    "bf16": ("bf16", "avx512_bf16", "amx_bf16"),
}
# What numpy calls the same where there is no /proc/cpuinfo (macOS, Windows); it looks for no others.
NUMPY_FEATURES = {
    "avx2": ("AVX2",),
    "avx512": ("AVX512F",),
    "vnni": ("AVX512VNNI",),
    "neon": ("NEON", "ASIMD"),
    "dotprod": ("ASIMDDP",),
    "fp16": ("FPHP", "ASIMDHP", "AVX512FP16"),
    "bf16": ("AVX512BF16",),
}
ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


class Machine(msgspec.Struct, frozen=True):
    """One machine.

    Attributes:
        architecture: ``x86_64``, ``aarch64``, or what the system calls it.
        cpu: The processor's name.
        isa: Names of the instruction sets that matter to int8, as in `FEATURES`.
        cores: Cores that this process may use.
        cores_total: Cores that the machine has.
        memory_bytes: Physical memory, or the container's limit where that is lower; ``None`` where unknown.
        system: Operating system with its release.
        python: Python's version.
    """

    architecture: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    cores_total: int
    memory_bytes: int | None
    system: str
    python: str


@cache
def machine() -> Machine:
    """This machine, read once."""
    name = platform.machine().lower()
    info = _read(Path("/proc/cpuinfo"))
    return Machine(
        architecture=ARCHITECTURES.get(name, name),
        cpu=cpu_name(info),
        isa=isa_features(info) or isa_from_numpy(),
        cores=available_cores(),
        cores_total=os.cpu_count() or 1,
        memory_bytes=memory_limit(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def missing_isa(required: dict[str, list[str]]) -> list[str]:
    """Features among `required` (by architecture) that this machine lacks; none for an architecture not named."""
    here = machine()
    return [feature for feature in required.get(here.architecture, []) if feature not in here.isa]


def cpu_name(cpuinfo: str) -> str:
    """The processor's name from the text of /proc/cpuinfo."""
    for key in ("model name", "Model", "CPU part"):
        for line in cpuinfo.splitlines():
            left, _, right = line.partition(":")
            if left.strip() == key and right.strip():
                return right.strip() if key != "CPU part" else f"ARM part {right.strip()}"
    return platform.processor() or platform.machine()


def isa_features(cpuinfo: str) -> tuple[str, ...]:
    """The `FEATURES` that the text of /proc/cpuinfo names."""
    words: set[str] = set()
    for line in cpuinfo.splitlines():
        left, _, right = line.partition(":")
        if left.strip() in ("flags", "Features"):
            words.update(right.split())
    return tuple(name for name, flags in FEATURES.items() if words.intersection(flags))


def isa_from_numpy() -> tuple[str, ...]:
    """The features that numpy found in the processor itself; none where this numpy does not tell."""
    try:
        found: dict[str, bool] = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return ()
    return tuple(name for name, flags in NUMPY_FEATURES.items() if any(found.get(flag, False) for flag in flags))


def available_cores() -> int:
    """Cores that affinity and the container's CPU quota leave to this process, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota(CGROUP, _read(Path("/proc/self/cgroup")))
    return max(1, min(cores, ceil(quota)) if quota else cores)


def cpu_quota(root: Path, membership: str) -> float | None:
    """Cores' worth of CPU time that cgroups allow, or ``None`` without a limit.

    Args:
        root: Where the cgroup file system is mounted.
        membership: The text of /proc/self/cgroup.
    """
    limits = []
    for folder in cgroup_folders(root, membership, "cpu"):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory_limit() -> int | None:
    """Bytes of memory that this process may use at the most; ``None`` where unknown."""
    limits = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder in cgroup_folders(CGROUP, _read(Path("/proc/self/cgroup")), "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdigit():
                limits.append(int(text))
    return min(limits, default=None)


def cgroup_folders(root: Path, membership: str, controller: str) -> list[Path]:
    """Folders whose limits bind this process, innermost first, for cgroup v2 and v1."""
    folders = []
    for line in membership.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy != "0" and controller not in controllers.split(","):
            continue
        base = root if hierarchy == "0" else root / controllers
        if hierarchy != "0" and not base.exists():
            base = root / controller
        inner = base / path.lstrip("/")
        while inner != base and base in inner.parents:
            folders.append(inner)
            inner = inner.parent
        folders.append(base)
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
