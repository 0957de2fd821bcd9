"""How a command ends: one JSON document or text for a person, and the exit status."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, NoReturn

import msgspec

from edgekit_runtime.errors import EdgekitError, RecipeError

__all__ = ["Status", "finish", "finish_plainly"]


class Status(IntEnum):
    """Exit statuses of the command line."""

    DONE = 0
    PROBLEM = 1
    USAGE = 2
    GATE = 3
    INTERRUPTED = 130
    TERMINATED = 143


class TerminatedError(BaseException):
    """SIGTERM came; like KeyboardInterrupt, nothing on the way should take it for an error of its own."""


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
    try:
        with _standard_output_kept():
            result = _worked(work)
            missed = gates(result)
            text = msgspec.json.encode(document(result)).decode() if as_json else ""
        _print(text, result, show)
    except EdgekitError as error:
        # One clear line, whatever the texts below it look like.
        _fail(f"error: {' '.join(str(error).split())}", debug)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what stood at the output before is untouched\n")
        sys.exit(Status.INTERRUPTED)
    except TerminatedError:
        sys.stderr.write("terminated; what stood at the output before is untouched\n")
        sys.exit(Status.TERMINATED)
    except MemoryError:
        _fail("error: out of memory; close other programs, or use a machine with more of it", debug)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never sees a traceback unasked
        name = type(error).__name__
        _fail(f"internal error: {name}: {error}; this is a defect of edgekit, please report it with --debug's output", debug)
    for sentence in missed:
        sys.stderr.write(f"gate not met: {sentence}\n")
    if missed:
        sys.exit(Status.GATE)


def finish_plainly(work: Callable[[], Any], as_json: bool, debug: bool) -> None:
    """Ends a command whose result is shown a field a line."""
    from edgekit.cli.tables import show_fields

    finish(work, document=msgspec.to_builtins, show=show_fields, as_json=as_json, debug=debug)


def _worked(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except SystemExit as error:
        raise RecipeError(f"the recipe's own code called sys.exit({error.code!r}); let it return or raise instead") from error


@contextlib.contextmanager
def _standard_output_kept() -> Iterator[None]:
    """Sends what is printed meanwhile to standard error, also by C libraries and by programs that are started."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            sys.__stdout__.flush() if sys.__stdout__ else None
            kept = os.dup(1)
        except OSError:
            yield  # standard output is closed: there is nothing to keep
            return
        os.dup2(2, 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _print(text: str, result: Any, show: Callable[[Any], None]) -> None:
    """Prints the result; a reader that went away (a pager, head) is no failure, a full disk is."""
    try:
        if text:
            sys.stdout.write(f"{text}\n")
        else:
            show(result)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        _fail(f"error: write standard output: {error.strerror or error}", debug=False)


def _discard_output() -> None:
    """What is still buffered goes nowhere, so that Python does not fail again when it closes standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(message: str, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{message}\n")
    sys.exit(Status.PROBLEM)


def _terminated(_: int, __: Any) -> None:
    """Ends as an exception does, so that temporary folders are removed."""
    raise TerminatedError
