"""The programs that the set-up runs: apt-get, dpkg, pip, a C compiler."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgekit_runtime.errors import LabError

__all__ = ["need_tool", "run_tool", "stop_tools"]

TIMEOUT_S = 600.0
WAY_OUT = "run the set-up in a container of Debian 12, or measure on a real board: edgekit device add NAME ssh://user@address"


_running: set["subprocess.Popen[str]"] = set()


def need_tool(name: str, used_for: str) -> str:
    """The path of a program.

    Raises:
        LabError: It is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise LabError(f"set up the lab: there is no {name} here, which {used_for}; {WAY_OUT}")
    return found


def run_tool(command: Sequence[str], what: str, *, folder: Path | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """Runs a program to its end and gives what it printed.

    Args:
        command: The program and its arguments.
        what: What it does, for messages.
        folder: Its working directory.
        timeout_s: How long it may take.

    Raises:
        LabError: It failed, with the last of what it said; or it could not be started, or took too long.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise LabError(f"{what}: {command[0]} could not be started: {error.strerror or error}") from error
    with process:
        _running.add(process)
        try:
            told, complained = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{what}: {command[0]} did not end within {timeout_s:.0f} s; run the set-up again to go on") from error
        finally:
            process.kill()
            _running.discard(process)
    if process.returncode != 0:
        raise LabError(f"{what}: {Path(command[0]).name} ended with {process.returncode}{_last_words(complained or told)}")
    return told


def stop_tools() -> None:
    """Ends the programs that run in this process's threads; `run_tool` raises there."""
    for process in tuple(_running):
        process.kill()


def _last_words(text: str) -> str:
    """What a program complained of: its lines of errors, or else its last line."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR:", "error:")) or ": error:" in line]
    chosen = errors[:3] or lines[-1:]
    return f": {'; '.join(chosen)}" if chosen else ""
