"""What the doctor knows of a target before anything is put on it: its width, releases that fail there, the lab, devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.checkup.check import Check
from edgekit.checkup.known_bad import KNOWN_BAD, Host, KnownBad, known_bad, release
from edgekit.checkup.wheel_facts import wheel_facts
from edgekit_runtime.errors import DeviceError

if TYPE_CHECKING:
    from edgekit.labs.emulated.boards import Board

__all__ = [
    "WIDTHS_32",
    "architecture_checks",
    "device_checks",
    "lab_checks",
    "release_checks",
]

# How systems call 32-bit processors.
WIDTHS_32 = ("armv7l", "armv7", "armhf", "armv6l", "arm", "i386", "i686")


def architecture_checks(target: str, architecture: str) -> list[Check]:
    """Refuses 32-bit systems; what is well gives none."""
    if architecture not in WIDTHS_32:
        return []
    way_out = "install a 64-bit system"
    if architecture.startswith("arm"):
        # Debian's own package is what facts know of 32-bit ARM; the runtime asks for 1.22.
        way_out = (
            "install the 64-bit Raspberry Pi OS, which every Raspberry Pi since the 3 and the Zero 2 W runs; a system that must "
            "stay 32-bit has python3-onnxruntime 1.21 in Debian trixie (armhf), too old for the runtime: open the bundle's "
            f"model.onnx with it by your own means, untested on {target}"
        )
    return [
        Check(
            "problem",
            f"{architecture} is a 32-bit system: edgekit-runtime is not for it",
            f"PyPI has no wheel of onnxruntime for it (microsoft/onnxruntime#24511; pip found none on {wheel_facts().tested})",
            way_out,
        )
    ]


def release_checks(architecture: str, system: str, cpuinfo_flags: frozenset[str], newest: str | None) -> list[Check]:
    """Releases of onnxruntime that fail on such a processor: those to avoid, and whether the newest is one of them.

    Args:
        architecture: ``aarch64``, ``x86_64``, …
        system: ``Linux``, ``Android``, …
        cpuinfo_flags: The processor's features in the kernel's own words; empty where they are not known.
        newest: The release that pip would install; ``None`` where that is not known.
    """
    host = Host(architecture, system, cpuinfo_flags)
    hit = known_bad({"onnxruntime": newest}, host) if newest else []
    others = [
        entry
        for entry in KNOWN_BAD
        if entry.package == "onnxruntime" and entry.on(host) and not (newest and entry.first <= release(newest) <= entry.last)
    ]
    avoided = [
        Check("ok", f"onnxruntime {_range(entry)} is to be avoided there", f"{entry.fails}: {entry.threads}", entry.do)
        for entry in others
    ]
    return [*hit, *avoided]


def lab_checks(board: Board | None) -> list[Check]:
    """Whether the emulated lab can stand in for the board; none where there is no such board."""
    if board is None:
        return []
    from edgekit.labs.emulated.counts import can_count
    from edgekit.labs.emulated.folder import Lab, lab_folder
    from edgekit.labs.emulated.setup import unfinished

    lab = Lab(lab_folder())
    missing = unfinished(lab)
    if missing:
        return [
            Check(
                "warning",
                "the lab of emulated boards is not set up",
                f"what a bundle computes on {board.name}, and how many instructions that takes, cannot be seen here without it",
                "edgekit lab setup",
            )
        ]
    if not can_count(board, lab):
        return [
            Check(
                "warning",
                f"the lab runs {board.name}, but counts no instructions",
                "the counting plugin could not be compiled, or this machine is of another architecture",
                "edgekit lab setup says why",
            )
        ]
    return [
        Check(
            "ok",
            f"the lab can emulate {board.name}",
            "it shows what a bundle computes there and counts its instructions; it gives no times",
            f"edgekit bench BUNDLE --on {board.name}; edgekit certify BUNDLE --isa {board.name}",
        )
    ]


def device_checks(target: str) -> list[Check]:
    """Which devices are on the list. What each of them is, is known only once it is asked."""
    from edgekit.labs.devices.registry import read_devices

    try:
        devices = read_devices()
    except DeviceError as error:
        return [Check("warning", "the list of devices does not hold", str(error), "mend it, or remove it and add the devices anew")]
    if not devices:
        return [
            Check(
                "ok",
                "no device is on the list",
                f"true latency comes from a device itself, and edgekit cannot reach a {target} yet",
                "edgekit device add NAME ssh://user@address; edgekit bench BUNDLE --on NAME",
            )
        ]
    told = ", ".join(f"{name} ({device.address})" for name, device in sorted(devices.items()))
    return [
        Check(
            "ok",
            f"devices on the list: {told}",
            f"whether one of them is a {target} shows when it is asked",
            "; ".join(f"edgekit device check {name}" for name in sorted(devices)),
        )
    ]


def _range(entry: KnownBad) -> str:
    first, last = (".".join(map(str, end)) for end in (entry.first, entry.last))
    return first if first == last else f"{first} to {last.replace('.99', '.x')}"
