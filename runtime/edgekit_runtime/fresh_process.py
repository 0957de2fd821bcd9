"""Cold start and peak memory of a model, each run in a process of its own: ``python -m edgekit_runtime.fresh_process``.

A process of its own also shows whether a model loads at all: one that brings its process down is reported as failed,
and does not take the caller with it.
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns

import msgspec
import numpy as np

from edgekit_runtime.arrays import read_arrays, write_arrays
from edgekit_runtime.errors import OutputError, SessionError
from edgekit_runtime.session import Provider, SessionConfig, open_session, short_reason

__all__ = ["FreshRun", "run_in_fresh_process"]

TIMEOUT_S = 300
INTERPRETER = "EDGEKIT_PYTHON"
# The child's exit status for a model that it could not open or run; Python's own 1 stays for everything unforeseen.
REFUSED = 3


class Order(msgspec.Struct, frozen=True):
    """What the child is told to do."""

    model: str
    feed: str
    provider: Provider
    session: SessionConfig


class FreshRun(msgspec.Struct, frozen=True):
    """What one fresh process saw.

    Attributes:
        cold_start_ms: From opening to the first output, imports excluded, the file's SHA-256 included.
        peak_rss_bytes: Peak resident memory of the whole process; ``None`` where the system does not tell.
    """

    cold_start_ms: float
    peak_rss_bytes: int | None


def run_in_fresh_process(
    model: Path, feed: dict[str, np.ndarray], provider: Provider, session: SessionConfig, timeout_s: float = TIMEOUT_S
) -> FreshRun:
    """Opens `model` and runs it once in a new Python process.

    Raises:
        InputError: `feed` holds Python objects, which are not sent to another process.
        OutputError: The feed could not be written for the new process.
        SessionError: It did not open, did not run, crashed the process, or took longer than `timeout_s`.
    """
    what = f"run {model.name} in a fresh process"
    try:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            feed_path = Path(folder) / "feed.npz"
            write_arrays(feed_path, feed)
            order = msgspec.json.encode(Order(str(model), str(feed_path), provider, session))
            done = subprocess.run(
                child_command(), input=order, capture_output=True, timeout=timeout_s, check=False, env=child_environment()
            )
    except subprocess.TimeoutExpired as error:
        raise SessionError(f"{what}: no output after {timeout_s:.0f} s; the model hangs, or needs a longer timeout") from error
    except OSError as error:
        raise OutputError(f"{what}: it could not be started: {error.strerror or error}") from error
    return answer(what, done)


def answer(what: str, done: "subprocess.CompletedProcess[bytes]") -> FreshRun:
    """What a finished process saw, or its failure as a SessionError."""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == REFUSED and said:
        raise SessionError(f"{what}: {said[-1]}")
    if done.returncode != 0:
        last_words = f": {said[-1]}" if said else ""
        raise SessionError(f"{what}: it brought its process down ({exit_name(done.returncode)}{last_words})")
    try:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=FreshRun)
    except (IndexError, msgspec.MsgspecError) as error:
        raise SessionError(f"{what}: it ended without an answer") from error


def child_command() -> list[str]:
    """The new process: this interpreter, without the working directory among the places that it imports from.

    Where Python was started through a program of its own, such as an emulator, `INTERPRETER` in the environment names that.
    """
    return [os.environ.get(INTERPRETER) or sys.executable, "-P", "-m", "edgekit_runtime.fresh_process"]


def child_environment() -> dict[str, str]:
    """This process's environment, with what it imports from handed on, so that both import the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}


def exit_name(returncode: int) -> str:
    """A name for how a process ended: its signal where it has one."""
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"


def peak_rss_bytes() -> int | None:
    """Peak resident memory of this process.

    From ``VmHWM``: ``getrusage`` would carry over the peak of the parent that started this process.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return _rusage_peak_bytes()
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(peak) * 1024 if peak else _rusage_peak_bytes()


def _rusage_peak_bytes() -> int | None:
    if os.name != "posix":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Carries out the order on standard input and prints what was seen as one line of JSON."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    feed = read_arrays(Path(order.feed))
    model = Path(order.model)
    try:
        start = perf_counter_ns()
        with model.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        session = open_session(model, order.provider, order.session).session
        session.run(None, feed)
        spent_ms = (perf_counter_ns() - start) / 1e6
    except SessionError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return REFUSED
    except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen unrelated types here
        sys.stderr.write(f"{short_reason(error)}\n")
        return REFUSED
    sys.stdout.buffer.write(msgspec.json.encode(FreshRun(spent_ms, peak_rss_bytes())) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
