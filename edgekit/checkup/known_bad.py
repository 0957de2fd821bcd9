"""Releases that are known to fail on certain machines, each with the thread that shows it.

Precise on purpose: a release is listed for the machines on which people saw it fail, and for no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from edgekit.checkup.check import Check, Severity

__all__ = ["KNOWN_BAD", "Host", "KnownBad", "known_bad", "release"]


class Host(msgspec.Struct, frozen=True):
    """What decides whether a release fails on a machine.

    Attributes:
        architecture: ``x86_64`` or ``aarch64``.
        system: ``Linux``, ``Android``, ``Darwin``, ``Windows``.
        flags: The processor's features in the kernel's own words.
    """

    architecture: str
    system: str = "Linux"
    flags: frozenset[str] = frozenset()

    @property
    def armv8_0(self) -> bool:
        """An ARM processor without the atomic instructions of ARMv8.1, such as the Raspberry Pi's up to the 4."""
        return self.architecture == "aarch64" and self.system == "Linux" and bool(self.flags) and "atomics" not in self.flags


class KnownBad(msgspec.Struct, frozen=True):
    """One release, or a range of them, that fails on some machines.

    Attributes:
        package: The distribution.
        first: First release that fails.
        last: Last release that fails.
        severity: How badly.
        fails: What happens.
        threads: Where it is shown.
        do: What to do.
        on: Whether a machine is one of those.
    """

    package: str
    first: tuple[int, ...]
    last: tuple[int, ...]
    severity: Severity
    fails: str
    threads: str
    do: str
    on: Callable[[Host], bool]


def _armv8_0(host: Host) -> bool:
    return host.armv8_0


def _linux_aarch64(host: Host) -> bool:
    return host.architecture == "aarch64" and host.system == "Linux"


def _android(host: Host) -> bool:
    return host.system == "Android"


def _linux_fp16(host: Host) -> bool:
    return _linux_aarch64(host) and "asimdhp" in host.flags


def _no_dot_products(host: Host) -> bool:
    return host.architecture == "aarch64" and bool(host.flags) and "asimddp" not in host.flags


def _amx(host: Host) -> bool:
    return "amx_int8" in host.flags


def _sme(host: Host) -> bool:
    return "sme" in host.flags or (host.architecture == "aarch64" and host.system == "Darwin")


KNOWN_BAD: tuple[KnownBad, ...] = (
    KnownBad(
        "onnxruntime",
        (1, 21, 0),
        (1, 21, 0),
        "problem",
        "the import dies of an illegal instruction on ARMv8.0 (Raspberry Pi 3, 4 and Zero 2 W)",
        "microsoft/onnxruntime#23957 #24112 #24512",
        "pip install 'onnxruntime>1.22.0'",
        _armv8_0,
    ),
    KnownBad(
        "onnxruntime",
        (1, 22, 0),
        (1, 22, 0),
        "warning",
        "a bounds assertion aborts it on some ARM Linux boards (seen on a Raspberry Pi Zero 2 W and a Jetson Orin NX)",
        "microsoft/onnxruntime#25472 #25103",
        "if it aborts here, take a later release: pip install 'onnxruntime>1.22.0'",
        _linux_aarch64,
    ),
    KnownBad(
        "onnxruntime",
        (1, 23, 1),
        (1, 23, 1),
        "warning",
        "QLinearConv was seen to compute wrong values on processors with AMX",
        "microsoft/onnxruntime#26324",
        "take a later release, and go by what the integer probes say",
        _amx,
    ),
    KnownBad(
        "onnxruntime",
        (1, 24, 0),
        (1, 26, 99),
        "warning",
        "float convolution was seen to take more memory with every new input on ARM processors with SME (Apple M5)",
        "microsoft/onnxruntime#28231",
        "pip install 'onnxruntime>=1.27.1'",
        _sme,
    ),
    KnownBad(
        "onnxruntime",
        (1, 27, 0),
        (1, 27, 0),
        "problem",
        "float convolution with different padding on its two axes gives wrong values on ARM processors with SME",
        "k2-fsa/sherpa-onnx#3791 #3850, mended by microsoft/onnxruntime#28571",
        "pip install 'onnxruntime>=1.27.1'",
        _sme,
    ),
    KnownBad(
        "onnxruntime",
        (1, 23, 0),
        (1, 24, 0),
        "problem",
        "it was seen to die of an illegal instruction on phones with Snapdragon 8 Elite processors",
        "microsoft/onnxruntime#26361 #26760 #27884",
        "take onnxruntime 1.24.4 or newer",
        _android,
    ),
    KnownBad(
        "onnxruntime",
        (1, 24, 1),
        (1, 30, 0),
        "warning",
        "float16 models that gave numbers with 1.23.2 were seen to give NaN or infinity on ARM Linux",
        "microsoft/onnxruntime#32600, which is open",
        "compare a float16 model with float32 on the board, or ship float32",
        _linux_fp16,
    ),
    # The thread is about matrix products, which 1×1 convolutions are, too. edgekit's lab, with inputs and weights all -128 on the
    # emulated Pi 4, saw those wrong in 1.29.0 and right in 1.30.0, 1.31.1 and 1.32.0. First: the oldest that the runtime takes.
    KnownBad(
        "onnxruntime",
        (1, 22, 0),
        (1, 29, 99),
        "warning",
        "int8 matrix products overflow on ARM without dot products where weights and inputs are both -128",
        "microsoft/onnxruntime#31573, mended by #32057",
        "pip install 'onnxruntime>=1.30', or keep weights at -127 and above, as edgekit does",
        _no_dot_products,
    ),
    # No thread: edgekit's lab saw it on the emulated Pi 4, and not on the Pi 5, with a 3×3 convolution of 64 channels, in 1.29.0,
    # 1.30.0, 1.31.1 and 1.32.0.
    KnownBad(
        "onnxruntime",
        (1, 29, 0),
        (1, 32, 0),
        "warning",
        "int8 convolutions of many channels overflow on ARM without dot products where weights and inputs are both -128",
        "seen in edgekit's lab; microsoft/onnxruntime#31573 is the same in another kernel",
        "keep weights at -127 and above, as edgekit does; certify models from elsewhere",
        _no_dot_products,
    ),
    KnownBad(
        "torch",
        (2, 10, 0),
        (2, 10, 99),
        "problem",
        "the import dies of an illegal instruction on ARMv8.0 (Raspberry Pi 3, 4 and Zero 2 W)",
        "pytorch/pytorch#176993",
        "pip install 'torch>=2.11', or export on another machine: a device needs only edgekit-runtime",
        _armv8_0,
    ),
)


def known_bad(versions: Mapping[str, str], host: Host) -> list[Check]:
    """A check for each installed release that is known to fail on a machine like `host`."""
    return [
        Check(entry.severity, f"{entry.package} {versions[entry.package]}", f"{entry.fails}: {entry.threads}", entry.do)
        for entry in KNOWN_BAD
        if entry.package in versions and entry.first <= release(versions[entry.package]) <= entry.last and entry.on(host)
    ]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, ``1.31.1+cpu`` as ``(1, 31, 1)``."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in numbers.group().split(".")) if numbers else ()
