"""The parts of the lab that come from Debian: the emulator with what it needs here, and the boards' userland."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from edgekit.labs.emulated.apt import Apt, Package, host_architecture, unpack
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.pins import pins
from edgekit.labs.emulated.tools import need_tool, run_tool
from edgekit.labs.emulated.wheels import sha256_of
from edgekit_runtime.errors import LabError

__all__ = ["GUESTS", "fetch_debs", "install_emulator", "install_userland", "missing_libraries"]

Advance = Callable[[int, int], None]
GUESTS = ("aarch64", "x86_64")
USERLAND = "arm64"
NOT_FOUND = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)
ROUNDS = 4


def install_emulator(lab: Lab, folder: Path, advance: Advance) -> list[Package]:
    """Puts QEMU's user mode into a folder, with those of its libraries that this machine lacks; gives what was unpacked.

    Raises:
        LabError: It cannot be fetched, or lacks a library that nothing is known of.
    """
    architecture = host_architecture()
    if architecture not in ("amd64", "arm64"):
        raise LabError(f"set up the lab: this machine is {architecture}; it runs on x86-64 and on 64-bit ARM (amd64, arm64)")
    apt = Apt(lab.downloads / f"apt-{architecture}", architecture)
    used = _unpack_all(fetch_debs(lab, apt, pins().emulator, advance), folder)
    for program in (folder / "usr" / "bin").glob("qemu-*"):
        if program.name not in [f"qemu-{guest}" for guest in GUESTS]:
            program.unlink()
    known = pins().libraries
    # A library that was fetched can need others that are missing, too.
    for _ in range(ROUNDS):
        missing = missing_libraries(folder)
        if not missing:
            break
        unknown = sorted(set(missing) - set(known))
        if unknown:
            raise LabError(
                f"set up the lab: the emulator needs {', '.join(unknown)}, which this machine lacks; install them, or set it up on "
                f"{pins().release}"
            )
        wanted = {known[soname].package: known[soname].version for soname in missing}
        used += _unpack_all(fetch_debs(lab, apt, wanted, advance), folder)
    else:
        raise LabError(f"set up the lab: the emulator still lacks {', '.join(missing)}; set it up on {pins().release}")
    _trim(folder)
    return used


def install_userland(lab: Lab, folder: Path, advance: Advance) -> list[Package]:
    """Puts Python for arm64 and the system libraries below it into a folder; gives what was unpacked.

    Raises:
        LabError: They cannot be fetched.
    """
    apt = Apt(lab.downloads / f"apt-{USERLAND}", USERLAND)
    used = _unpack_all(fetch_debs(lab, apt, pins().userland, advance), folder)
    _trim(folder)
    _keep_links_inside(folder)
    return used


def fetch_debs(lab: Lab, apt: Apt, wanted: Mapping[str, str], advance: Advance) -> list[tuple[Package, Path]]:
    """Fetches packages, of which some may be there already.

    Args:
        lab: Whose downloads they are put to, under their names once they are whole.
        apt: Where from.
        wanted: Upstream versions by package.
        advance: Told how many are there.

    Raises:
        LabError: One cannot be fetched, or is not what the signed lists say.
    """
    partial = lab.downloads / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    offered = apt.offers(wanted)
    if missing := _take_whole(offered, partial, lab.downloads, advance):
        try:
            apt.fetch(missing, partial)
        except LabError:
            # The lists can be older than the mirror, which keeps the newest security fix only.
            apt.forget_lists()
            offered = apt.offers(wanted)
            apt.fetch(_take_whole(offered, partial, lab.downloads, advance), partial)
        if missing := _take_whole(offered, partial, lab.downloads, advance):
            names = ", ".join(package.file for package in missing)
            raise LabError(f"set up the lab: {names} is not what the signed lists of packages say; run the set-up again")
    return [(package, lab.downloads / package.file) for package in offered]


def missing_libraries(folder: Path) -> list[str]:
    """Sonames of shared libraries that the emulators in `folder` need and that are neither there nor on this machine."""
    paths = ":".join(str(path) for path in sorted(folder.glob("**/*-linux-gnu")))
    # env sets it for ldd alone: the programs that run it may be linked to the same libraries.
    command = [need_tool("env", "runs ldd"), f"LD_LIBRARY_PATH={paths}", need_tool("ldd", "lists libraries that a program needs")]
    told = [
        run_tool([*command, str(folder / "usr" / "bin" / f"qemu-{guest}")], "set up the lab: list what the emulator needs")
        for guest in GUESTS
    ]
    return sorted({name for text in told for name in NOT_FOUND.findall(text)})


def _take_whole(packages: Iterable[Package], partial: Path, folder: Path, advance: Advance) -> list[Package]:
    """Moves what is whole from `partial` to `folder`; gives what is in neither."""
    packages, missing = list(packages), []
    for package in packages:
        fetched, kept = partial / package.file, folder / package.file
        if fetched.is_file() and sha256_of(fetched) == package.sha256:
            fetched.replace(kept)
        if not (kept.is_file() and sha256_of(kept) == package.sha256):
            missing.append(package)
    advance(len(packages) - len(missing), len(packages))
    return missing


def _unpack_all(fetched: list[tuple[Package, Path]], folder: Path) -> list[Package]:
    for _, file in fetched:
        unpack(file, folder)
    return [package for package, _ in fetched]


def _trim(folder: Path) -> None:
    """Removes what only people read."""
    for name in ("doc", "man", "lintian"):
        shutil.rmtree(folder / "usr" / "share" / name, ignore_errors=True)


def _keep_links_inside(folder: Path) -> None:
    """Links from the root lead to this machine's files where the emulator does not resolve them itself."""
    for link in folder.rglob("*"):
        if link.is_symlink() and link.readlink().is_absolute():
            target = folder / link.readlink().relative_to("/")
            link.unlink()
            link.symlink_to(os.path.relpath(target, link.parent))
