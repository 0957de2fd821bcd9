"""How a command ends: one JSON document or text for a person, and the exit status."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TextIO

import msgspec

from edgekit_runtime.errors import EdgekitError

__all__ = ["Status", "finish"]


class Status(IntEnum):
    """Exit statuses of the command line."""

    DONE = 0
    PROBLEM = 1
    USAGE = 2
    GATE = 3
    INTERRUPTED = 130
    TERMINATED = 143


def finish(
    work: Callable[[], Any],
    *,
    document: Callable[[Any], Any],
    show: Callable[[Any], None],
    as_json: bool,
    debug: bool,
    gates: Callable[[Any], list[str]] = lambda _: [],
) -> None:
    """Runs a command's work and ends the process as the contract says.

    Args:
        work: The work; what it and the user's own code print goes to standard error.
        document: Its result as plain data, for JSON.
        show: Prints its result for a person.
        as_json: Print exactly one JSON document on standard output, nothing else.
        debug: Show tracebacks.
        gates: Sentences about the gates that its result does not meet.
    """
    signal.signal(signal.SIGTERM, _terminated)
    out = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = work()
        if as_json:
            _write_json(out, document(result))
        else:
            show(result)
        out.flush()
    except EdgekitError as error:
        _fail(f"error: {error}", debug)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what stood at the output before is untouched\n")
        sys.exit(Status.INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (a pager, head): nothing is wrong here.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(Status.DONE)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never sees a traceback unasked
        name = type(error).__name__
        _fail(f"internal error: {name}: {error}; this is a defect of edgekit, please report it with --debug's output", debug)
    else:
        missed = gates(result)
        for sentence in missed:
            sys.stderr.write(f"gate not met: {sentence}\n")
        if missed:
            sys.exit(Status.GATE)


def _write_json(out: TextIO, document: Any) -> None:
    out.write(msgspec.json.encode(document).decode() + "\n")


def _fail(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{message}\n")
    sys.exit(Status.PROBLEM)


def _terminated(_: int, __: Any) -> None:
    """Ends as an exception does, so that temporary folders are removed."""
    sys.exit(Status.TERMINATED)
