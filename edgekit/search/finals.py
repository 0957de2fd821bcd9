"""Finals: those that may still win are timed in as many rounds as a verdict needs, and what would ship once more."""

from edgekit.lineup import FLOAT
from edgekit.search.entering import load
from edgekit.search.examining import EXAMINATION_S
from edgekit.search.heats import heat, seconds_of
from edgekit.search.judging import is_accurate
from edgekit.search.standing import fastest_first, gain, running
from edgekit.search.state import SearchState

__all__ = ["FINAL_ROUNDS", "confirm_start", "confirmation", "reserve_s_of", "time_finalists"]

FINALISTS = 4
FINAL_ROUNDS = 25
CONFIRMATION_ROUNDS = 50
CONFIRMATION_STARTS = 3
# A verdict takes 2 % for a difference, and the final's rounds tell no less than this apart: who is so close is confirmed, too.
CLOSE = 1.04
CONFIRMED = 3
# Where instructions are counted there is nothing to confirm: what is left is to count the last candidates.
COUNTING_S = 10.0


def time_finalists(state: SearchState) -> None:
    """Times those that may still win in as many rounds as a verdict needs."""
    finalists = [name for name in fastest_first(state, running(state)) if is_accurate(state, name)][:FINALISTS]
    heat(state, finalists, FINAL_ROUNDS, "final")
    ends = {name: state.lineup.figures[name].speedup_ci for name in finalists if name not in state.lineup.failures}
    if any(interval and interval[0] > 1.0 for interval in ends.values()):
        return
    # A noisy spell may leave none that is faster beyond doubt: more rounds, rather than the benefit of the doubt.
    undecided = [name for name in ends if (state.lineup.figures[name].speedup or 0.0) > 1.0]
    heat(state, undecided, CONFIRMATION_ROUNDS, "undecided")


def confirmation(state: SearchState, name: str) -> list[str]:
    """Times what would ship, and those as close to it as noise, against float once more; gives their names.

    They are timed in rounds of their own: the fastest of many was picked partly for its luck, and figures from fresh rounds are
    free of that.

    Args:
        state: The search.
        name: What would ship, not float.
    """
    lineup = state.lineup
    rivals = [
        one
        for one in fastest_first(state, running(state))
        if one != name and gain(state, one) * CLOSE >= gain(state, name) > 1.0 and is_accurate(state, one)
    ]
    close = [name, *(rivals[: CONFIRMED - 1] if state.wish.optimize == "latency" and state.wish.pick is None else [])]
    heat(state, close, CONFIRMATION_ROUNDS, "confirmation")
    return [one for one in close if one not in lineup.failures]


def confirm_start(state: SearchState, name: str) -> None:
    """Loads what ships, and float, in several fresh processes each: peak memory and cold start that can be relied upon."""
    for one in (FLOAT, name):
        load(state, state.lineup.built[one], CONFIRMATION_STARTS)


def reserve_s_of(state: SearchState) -> float:
    """Seconds that the end of the search needs: the finalists' rounds, the confirmation, the starts, and the report's figures."""
    if not state.wish.timed:
        return COUNTING_S
    names = fastest_first(state, running(state))[:FINALISTS]
    starts = 2 * CONFIRMATION_STARTS * 1.0 + EXAMINATION_S
    return seconds_of(state, names, FINAL_ROUNDS) + seconds_of(state, names[: CONFIRMED - 1], CONFIRMATION_ROUNDS) + starts
