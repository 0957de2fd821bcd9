"""How a board is doing while it is measured: its temperature, its clock, and whether it is held back, where it tells."""

import re
import subprocess
from pathlib import Path

import msgspec

__all__ = ["BoardHealth", "board_health"]

SYS = Path("/sys")
# Bits of the firmware's word on a Raspberry Pi (vcgencmd get_throttled, raspberrypi.com/documentation/computers/os.html).
FLAGS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage since boot",
    17: "frequency capped since boot",
    18: "throttled since boot",
    19: "soft temperature limit since boot",
}
# Zones of thermal sensors that sit on or beside the processor, as Linux drivers call them.
PROCESSOR_ZONES = re.compile(r"cpu|soc|pkg|coretemp|k10temp|big|little", re.IGNORECASE)
PLAUSIBLE_C = (-40.0, 150.0)
TIMEOUT_S = 5.0


class BoardHealth(msgspec.Struct, frozen=True):
    """What a board tells of itself; ``None`` for what it does not tell.

    Attributes:
        temperature_c: Of the processor, the hottest sensor.
        throttling: What the firmware says holds the board back, or did since it was booted; empty where nothing did.
        frequency_mhz: The first core's clock now.
        frequency_max_mhz: The highest that it may have.
    """

    temperature_c: float | None = None
    throttling: list[str] | None = None
    frequency_mhz: float | None = None
    frequency_max_mhz: float | None = None


def board_health(root: Path = SYS) -> BoardHealth:
    """What this machine tells of its temperature, clock and throttling.

    Args:
        root: Where sysfs is mounted.
    """
    clock = root / "devices" / "system" / "cpu" / "cpu0" / "cpufreq"
    return BoardHealth(
        temperature_c(root),
        throttling(root),
        _scaled(clock / "scaling_cur_freq", 1e3),
        _scaled(clock / "cpuinfo_max_freq", 1e3),
    )


def temperature_c(root: Path) -> float | None:
    """The hottest of the processor's thermal zones, or of all zones where none calls itself the processor's."""
    zones = []
    for zone in sorted((root / "class" / "thermal").glob("thermal_zone*")):
        degrees = _scaled(zone / "temp", 1e3)
        if degrees is not None and PLAUSIBLE_C[0] < degrees < PLAUSIBLE_C[1]:
            zones.append((_text(zone / "type"), degrees))
    near = [degrees for kind, degrees in zones if PROCESSOR_ZONES.search(kind)]
    return max(near or [degrees for _, degrees in zones], default=None)


def throttling(root: Path) -> list[str] | None:
    """What the firmware of a Raspberry Pi says: from sysfs where the kernel has it there, else from vcgencmd."""
    told = _text(root / "devices" / "platform" / "soc" / "soc:firmware" / "get_throttled")
    if not told:
        try:
            asked = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None  # not a Raspberry Pi
        told = asked.stdout
    return throttling_flags(told)


def throttling_flags(told: str) -> list[str] | None:
    """The flags in ``throttled=0x50005`` or ``50005``; ``None`` for any other text."""
    word = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", told.strip())
    if word is None:
        return None
    bits = int(word.group(1), 16)
    return [flag for bit, flag in FLAGS.items() if bits >> bit & 1]


def _scaled(path: Path, unit: float) -> float | None:
    text = _text(path)
    return int(text) / unit if re.fullmatch(r"-?\d+", text) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
