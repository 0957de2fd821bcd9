"""Counting: instructions of candidates, under emulation of a target that cannot be timed here."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import TYPE_CHECKING

import msgspec

from edgekit.lineup import FLOAT
from edgekit.search.entering import identity
from edgekit.search.state import SearchState
from edgekit_runtime.errors import InputError, LabError, SessionError

if TYPE_CHECKING:
    from edgekit.labs.emulated.counts import Counter

__all__ = ["count_instructions"]


class Counted(msgspec.Struct, frozen=True):
    """Instructions of one call, or why they could not be counted."""

    instructions: int | None = None
    failure: str | None = None


def count_instructions(state: SearchState, names: Sequence[str]) -> None:
    """Fills in the instructions that one call takes on the target's emulated board; what does not run there has failed.

    Args:
        state: A search whose wish names a board.
        names: Candidates, float not among them.

    Raises:
        LabError: The board does not run, or not float.
    """
    from edgekit.labs.emulated.boards import load_board
    from edgekit.labs.emulated.counts import Counter, start_counter

    assert state.wish.board is not None  # or nobody asks for counts
    board = load_board(state.wish.board)
    with ExitStack() as stack:

        @cache
        def counter() -> Counter:
            return stack.enter_context(start_counter(board))

        for done, name in enumerate((FLOAT, *names), start=1):
            state.progress.stage(f"count instructions of {name} on {board.name}")
            measure = partial(_counted, state, name, counter)
            details = identity(state.lineup.built[name]), repr(board)
            found = state.ledger.remember(f"count {name} on {board.name}", details, measure, Counted)
            if found.failure is None:
                state.lineup.update(name, instructions=found.instructions)
            elif name == FLOAT:
                raise LabError(f"count instructions of float on {board.name}: {found.failure}")
            else:
                state.lineup.fail(name, found.failure)
            state.progress.advance(done, len(names) + 1)


def _counted(state: SearchState, name: str, counter: "Callable[[], Counter]") -> Counted:
    built = state.lineup.built[name]
    assert built.path is not None  # it was loaded here
    try:
        found = counter().count(built.path, state.source.example, built.candidate.provider, built.candidate.session)
    except (InputError, SessionError) as error:
        return Counted(failure=str(error))
    return Counted(found.instructions)
