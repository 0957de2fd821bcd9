"""``edgekit doctor --target``: what one must know before a bundle is put on a target. What is not known is said to be so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.checkup.asking_pip import ask_pip
from edgekit.checkup.bundle_checks import bundle_checks, memory_checks
from edgekit.checkup.check import Check
from edgekit.checkup.known_bad import release
from edgekit.checkup.surroundings import isa_in_words
from edgekit.checkup.target_checks import WIDTHS_32, architecture_checks, device_checks, lab_checks, release_checks
from edgekit.checkup.wheel_checks import Ask, online_wheel_checks, wheel_checks
from edgekit.checkup.wheel_facts import wheel_facts
from edgekit.commands.doctor import processor_flags
from edgekit.target import Target, load_target
from edgekit_runtime.bundle import check_files, read_manifest
from edgekit_runtime.errors import InputError
from edgekit_runtime.plugins import PLUGINS

if TYPE_CHECKING:
    from edgekit.labs.emulated.boards import Board

__all__ = ["TargetCheckup", "doctor_target"]

HOST = "host"
QNN = "QNNExecutionProvider"


class TargetCheckup(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a target, and of a bundle on it.

    Attributes:
        target: The target's name.
        description: What it is.
        architecture: Its architecture, or the one that was asked for.
        isa: Instruction sets that matter to int8 and that it has.
        int8: What they mean for int8, in words.
        bundle: The bundle that was looked at; ``None`` without one.
        checks: What was checked, worst first.
    """

    target: str
    description: str
    architecture: str
    isa: tuple[str, ...]
    int8: list[str]
    bundle: str | None
    checks: list[Check]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that will not work."""
        return all(check.severity != "problem" for check in self.checks)

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit doctor --target … --json``."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return {**document, "healthy": self.healthy}


def doctor_target(
    name: str,
    *,
    bundle: str | Path | None = None,
    python: str | None = None,
    architecture: str | None = None,
    online: bool = False,
    ask: Ask = ask_pip,
) -> TargetCheckup:
    """Examines a target, without touching it. The network is left alone unless it is asked for.

    Args:
        name: The target's name, or the path of its TOML file.
        bundle: A bundle to look at with it.
        python: Python's version there, such as ``3.11``; by default those of the systems that the target runs on.
        architecture: The system's architecture where it is not the target's own, such as ``armv7l`` of a 32-bit system.
        online: Whether to ask pip which wheels there are, instead of what was tested once.
        ask: What asks pip.

    Raises:
        TargetError: There is no such target.
        BundleError: The bundle is damaged, or is none.
        InputError: `python` is no version, or there is no pip to ask.
    """
    target = load_target(name)
    here = architecture or target.architecture
    if python is not None:
        python = _minor_version(name, python)
    path = Path(bundle) if bundle is not None else None
    manifest = read_manifest(path) if path is not None else None
    if path is not None and manifest is not None:
        check_files(path, manifest)
    board = _board(target)
    checks = [*architecture_checks(target.name, here), *_software(target, board, here, python, online, ask)]
    checks += memory_checks(target.name, board, path, manifest)
    if path is not None and manifest is not None:
        checks += bundle_checks(path, manifest, target, board.isa if board else target.isa, here)
    checks += lab_checks(board)
    if target.name not in wheel_facts().without_python and target.name != HOST:
        checks += device_checks(target.name)
    return TargetCheckup(
        target=target.name,
        description=target.description,
        architecture=here,
        isa=target.isa,
        int8=isa_in_words(here, target.isa) if here in ("x86_64", "aarch64") and target.isa else [],
        bundle=str(path) if path is not None else None,
        checks=sorted(checks, key=lambda check: ("problem", "warning", "ok").index(check.severity)),
    )


def _software(target: Target, board: Board | None, architecture: str, python: str | None, online: bool, ask: Ask) -> list[Check]:
    """Wheels and releases; where Python is not what runs the model, what does."""
    facts = wheel_facts()
    if architecture in WIDTHS_32:
        return []  # there is nothing to install
    opens = facts.without_python.get(target.name)
    if opens is not None:
        system = "Android" if target.name.startswith("android") else ""
        return [
            Check("ok", "no Python is needed there", f"{opens}; which of its releases suits is not known here"),
            *release_checks(architecture, system, frozenset(), None),
        ]
    if target.provider.name == QNN:
        return [
            Check(
                "warning",
                "which system it is, and which packages there are for it, is not known here",
                f"{target.name} is reached through onnxruntime's QNN provider, which comes with packages of its own",
                "see Qualcomm's and onnxruntime's pages on the QNN execution provider",
            )
        ]
    asked = (target.name, architecture, python)
    found = online_wheel_checks(*asked, ask) if online else wheel_checks(*asked)
    plugin = PLUGINS.get(target.provider.name)
    if plugin is not None:
        why = f"{target.provider.name} comes in a package of its own, whose wheels were not tested"
        found.append(
            Check("warning", f"{plugin.package} is needed, too", why, f"pip install {plugin.package}, and edgekit doctor there")
        )
    if target.name == HOST:
        found.append(Check("ok", "the target is this machine", "it can be asked itself", "edgekit doctor, without --target"))
    newest = _newest(architecture, python)
    flags = processor_flags(board.cpuinfo) if board is not None else frozenset()
    return [*found, *release_checks(architecture, "Linux", flags, newest)]


def _newest(architecture: str, python: str | None) -> str | None:
    """The release of onnxruntime that pip would install, as far as it was tested."""
    facts = wheel_facts()
    rows = [row for row in facts.wheels if architecture in row.architectures and python in (None, row.python)]
    return max((row.packages["onnxruntime"].version for row in rows if "onnxruntime" in row.packages), key=release, default=None)


def _board(target: Target) -> Board | None:
    """The board of the target's name."""
    from edgekit.labs.emulated.boards import board_names, load_board

    return load_board(target.name) if target.name in board_names() else None


def _minor_version(name: str, text: str) -> str:
    """``3.11`` of ``3.11.2``."""
    parts = text.split(".")
    if len(parts) not in (2, 3) or not all(part.isdigit() for part in parts):
        raise InputError(f"examine {name}: {text!r} is no version of Python; give one such as 3.11")
    return ".".join(parts[:2])
