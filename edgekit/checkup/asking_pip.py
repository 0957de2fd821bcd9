"""Asking the index that pip is set to use which wheels there are, without fetching more than pip itself needs to tell."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import msgspec

from edgekit_runtime.errors import InputError

__all__ = ["Answer", "ask_pip", "wheel_platforms"]

TIMEOUT_S = 120
# The oldest glibc that wheels are still made for.
OLDEST_GLIBC = 17

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


class Answer(msgspec.Struct, frozen=True):
    """What pip says of one package.

    Attributes:
        package: The package as it was asked for, such as ``numpy>=2.0``.
        file: The newest wheel's file; ``None`` where there is none.
        version: Its version.
        reason: Why there is none, in pip's words.
    """

    package: str
    file: str | None = None
    version: str | None = None
    reason: str = ""


def wheel_platforms(architecture: str, glibc: str) -> list[str]:
    """The platforms whose wheels run on Linux with such a glibc, newest first, as pip's ``--platform`` takes them."""
    newest = int(glibc.split(".")[1])
    return [f"manylinux_2_{minor}_{architecture}" for minor in range(newest, OLDEST_GLIBC - 1, -1)] + [
        f"manylinux2014_{architecture}"
    ]


def ask_pip(packages: Sequence[str], python: str, platforms: Sequence[str], run: Run | None = None) -> list[Answer]:
    """Asks pip for the newest wheel of each package.

    Args:
        packages: Requirements, such as ``numpy>=2.0``.
        python: Python's version there.
        platforms: As from `wheel_platforms`.
        run: Starts a command; pip itself by default.

    Raises:
        InputError: There is no pip here.
    """
    if run is None and importlib.util.find_spec("pip") is None:
        raise InputError(
            f"ask for wheels: there is no pip in {sys.executable}; run {sys.executable} -m ensurepip, or go without --online"
        )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as nowhere:
        # pip compares requires-python with its own Python here; the tags of these wheels name theirs.
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--ignore-requires-python",
            "--no-deps",
        ]
        command += ["--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--report=-", f"--target={nowhere}"]
        command += ["--implementation=cp", f"--python-version={python}", *(f"--platform={platform}" for platform in platforms)]
        return [_answer(package, (run or _run)([*command, package])) for package in packages]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(command), 1, "", f"ERROR: pip did not answer within {TIMEOUT_S} s")


def _answer(package: str, done: subprocess.CompletedProcess[str]) -> Answer:
    try:
        (chosen,) = json.loads(done.stdout)["install"]
        return Answer(package, chosen["download_info"]["url"].rpartition("/")[2], chosen["metadata"]["version"])
    except (ValueError, KeyError, TypeError):
        said = [line.removeprefix("ERROR:").strip() for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        return Answer(package, reason=said[-1] if said else f"pip ended with {done.returncode} and gave no reason")
