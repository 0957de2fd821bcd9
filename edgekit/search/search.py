"""The search, stage by stage: cheap measurements of many candidates, dear ones of few.

Every candidate is built, loaded, compared on a few feeds and timed in a few rounds. The best are divided between float and integers
by the time of each node, tried on other providers and with other session options, and evaluated, the fastest first, until one keeps
the budget of accuracy; where the fastest do not, corrections are tried on them. Those few that are left are timed until a verdict
can be given. What a stage leaves behind carries its reason. The order of trials does not depend on chance, and what was
measured before is taken from the ledger; see there.
"""

from collections.abc import Sequence

import msgspec

from edgekit.building import Built, is_mostly_products
from edgekit.candidates import (
    Candidate,
    candidates_for,
    first_and_later,
    of_other_flavour,
    scheme_named,
    session_for,
    static_scheme,
)
from edgekit.lineup import FLOAT
from edgekit.providers import schemes_for
from edgekit.search.correcting import enter_corrected
from edgekit.search.counting import count_instructions
from edgekit.search.entering import build, compare_outputs, enter, load
from edgekit.search.finals import FINAL_ROUNDS, reserve_s_of, time_finalists
from edgekit.search.heats import AT_ONCE, SCREENING_ROUNDS, heat, heats, seconds_of
from edgekit.search.judging import evaluate, evaluate_float, evaluation_seconds, is_accurate
from edgekit.search.options import enter_providers, enter_sessions
from edgekit.search.placing import mixed, place, place_within
from edgekit.search.standing import (
    SCREENING_NOISE,
    best_of,
    fastest_first,
    gain,
    is_hopeless,
    leaders,
    leave,
    ratio,
    running,
    surely_slower,
)
from edgekit.search.state import SearchState, Wish
from edgekit.target import Target
from edgekit_runtime.errors import SessionError, TargetError
from edgekit_runtime.session import CPU, Provider, SessionConfig

__all__ = ["open_float", "search"]

# What is clearly slower than float after the screening cannot win.
CLEARLY_SLOWER = 0.9
RACE_ROUNDS = 10
DIVIDED = 2
POLISHED = 2
# Steps in which accuracy is bought with time where the fastest candidate is not accurate enough: dB over what it has.
BOUGHT_DB = (3.0, 6.0, 10.0)
# Without a metric, what the verdict asks for and a little more.
ASKED_DB = (20.5, 23.0)


def open_float(state: SearchState) -> None:
    """Takes in the float model.

    Raises:
        SessionError: It does not run.
    """
    from edgekit_export import Float32

    built = build(state, Candidate(Float32(), state.wish.target.provider, SessionConfig()))
    state.lineup.add(built, "float")
    if built.failure is not None or not load(state, built):
        reason = built.failure or state.lineup.failures[FLOAT]
        raise SessionError(f"deploy {state.recipe.name}: the float model itself does not run: {reason}")
    compare_outputs(state, built)


def search(state: SearchState, variants: Sequence[Built] = ()) -> None:
    """Fills the lineup of an open search with candidates and their figures.

    Args:
        state: The search, with the float model in its lineup.
        variants: The recipe's other modules, built.
    """
    if state.evaluation is not None:
        evaluate_float(state)
    if state.wish.timed:
        _search_by_time(state, variants)
    elif state.wish.optimize == "instructions":
        _search_by_count(state, variants)
    else:
        _try_all(state, variants)
    _make_sure_of_the_pick(state)
    state.lineup.close_all()


def _make_sure_of_the_pick(state: SearchState) -> None:
    """A candidate that the user picks by its name is measured in full, however early the search would have left it."""
    pick, lineup = state.wish.pick, state.lineup
    if pick is None or pick == FLOAT:
        return
    if pick not in lineup.built:
        try:
            scheme = scheme_named(pick)
        except TargetError:
            return  # the verdict says that there is no such candidate, and which there are
        enter(state, [Candidate(scheme, state.wish.target.provider, session_for(scheme))], "the pick")
    if pick in lineup.built and pick not in lineup.failures:
        lineup.left.pop(pick, None)
        evaluate(state, pick)
        if state.wish.timed:
            heat(state, [pick], FINAL_ROUNDS, "the pick")
        elif state.wish.optimize == "instructions":
            count_instructions(state, [pick])


def _try_all(state: SearchState, variants: Sequence[Built]) -> None:
    """Where nothing can be timed: every candidate in full; what counts is size."""
    enter(state, _schemes(state, corrected=True), "schemes")
    _enter_built(state, variants)
    for name in state.lineup.alive:
        evaluate(state, name)


def _search_by_time(state: SearchState, variants: Sequence[Built]) -> None:
    first, later = first_and_later(_schemes(state, corrected=False))
    entered = enter(state, first, "schemes", reserve_s=reserve_s_of(state))
    _screened(state, entered + _enter_built(state, variants))
    divided = _to_divide(state)
    placed = place(state, divided, reserve_s=reserve_s_of(state))
    _screened(state, placed + enter(state, mixed(state, placed), "placement by time", reserve_s=reserve_s_of(state)))
    if state.wish.target.provider.name == CPU:
        _screened(state, enter_providers(state, reserve_s=reserve_s_of(state)))
    placements = {static_scheme(state.lineup.built[name].candidate).placement for name in divided}
    flavours = [one for one in later if of_other_flavour(one, first, placements)]
    _screened(state, enter(state, flavours, "other flavours", reserve_s=2 * reserve_s_of(state)))
    _race(state)
    best = _judge(state)
    _buy_accuracy(state, best)
    best = best_of(state)
    _screened(state, enter_sessions(state, [name for name in dict.fromkeys((best, FLOAT)) if name], reserve_s=reserve_s_of(state)))
    _judge(state)
    _polish(state)
    time_finalists(state)


def _search_by_count(state: SearchState, variants: Sequence[Built]) -> None:
    """As by time, but for what needs the time of single nodes, other providers, and session options."""
    first, later = first_and_later(_schemes(state, corrected=False))
    _screened(state, enter(state, first, "schemes") + _enter_built(state, variants))
    placements = {static_scheme(state.lineup.built[name].candidate).placement for name in _to_divide(state)}
    flavours = [one for one in later if of_other_flavour(one, first, placements)]
    _screened(state, enter(state, flavours, "other flavours", reserve_s=reserve_s_of(state)))
    _buy_accuracy(state, _judge(state))
    _polish(state)


def _schemes(state: SearchState, *, corrected: bool) -> list[Candidate]:
    """What the target asks for; with integers in and float out, too, where the graph is mostly products."""
    wish, calibrated = state.wish, state.statistics is not None
    found = candidates_for(_told_apart(wish), calibrated=calibrated, optimize=wish.optimize, corrected=corrected)
    provider = wish.target.provider
    if not calibrated or provider.name != CPU or not is_mostly_products(state.source.prepared):
        return found
    more = [Candidate(scheme, provider, session_for(scheme)) for scheme in schemes_for(provider, wish.target)]
    # Corrected forms take their time; a search comes to them where they are needed.
    return [*found, *(one for one in more if corrected or not static_scheme(one).corrections)]


def _told_apart(wish: Wish) -> Target:
    """The target with the flavours that can be told apart: without times or counts, files of one width weigh the same."""
    from edgekit_export import FLAVOURS

    target = wish.target
    if wish.timed or wish.optimize == "instructions":
        return target
    by_width = {name not in FLAVOURS or FLAVOURS[name].wide: name for name in reversed(target.static)}
    kept = tuple(name for name in target.static if name in by_width.values())
    return msgspec.structs.replace(target, static=kept, dynamic=target.dynamic[:1])


def _enter_built(state: SearchState, variants: Sequence[Built]) -> list[str]:
    """Takes in the recipe's other modules."""
    entered = []
    for built in variants:
        state.lineup.add(built, "variants")
        if built.failure is not None:
            state.lineup.fail(built.name, built.failure)
        elif load(state, built) and compare_outputs(state, built):
            entered.append(built.name)
    return entered


def _screened(state: SearchState, names: Sequence[str]) -> None:
    """Times newcomers in a few rounds, or counts; outputs that have nothing to do with float's are not worth even that."""
    for name in names:
        if is_hopeless(state, name):
            decibels = state.lineup.figures[name].sqnr_db or 0.0
            leave(state, name, f"outputs are only {decibels:.1f} dB SQNR from float's; not looked at any further", "rejected")
    hopeful = [name for name in names if name not in state.lineup.left]
    if state.wish.timed:
        heats(state, hopeful)
        _drop_slow(state, hopeful)
    elif hopeful:
        count_instructions(state, hopeful)


def _race(state: SearchState) -> None:
    """Times the fastest once more, all in the same rounds: those of the screening were timed in different ones."""
    names = fastest_first(state, running(state))[:AT_ONCE]
    if len(names) > 1 and state.left_s > reserve_s_of(state) + seconds_of(state, names, RACE_ROUNDS):
        heat(state, names, RACE_ROUNDS, "race")
        _drop_slow(state, names)


def _drop_slow(state: SearchState, names: Sequence[str]) -> None:
    """Leaves those that are clearly slower than float, where time is what is to be gained."""
    if state.wish.optimize != "latency":
        return
    for name in names:
        ends = state.lineup.figures[name].speedup_ci
        if name not in state.lineup.failures and ends is not None and ends[1] < CLEARLY_SLOWER:
            told = f"slower than float: {ratio(state, name)} in {SCREENING_ROUNDS} rounds; not looked at any further"
            leave(state, name, told, "rejected")


def _to_divide(state: SearchState) -> list[str]:
    """The fastest static candidates, one of each placement: those whose nodes can be given back to float one by one."""
    from edgekit_export import StaticInt8

    lineup = state.lineup
    of_placement: dict[str, list[str]] = {}
    for name in fastest_first(state, lineup.alive):
        scheme = lineup.built[name].candidate.scheme
        if isinstance(scheme, StaticInt8) and not is_hopeless(state, name):
            of_placement.setdefault(scheme.placement, []).append(name)
    return [leaders(state, names)[0] for names in of_placement.values()][:DIVIDED]


def _judge(state: SearchState) -> str | None:
    """Evaluates the fastest first, until one is accurate enough and none is left that may be faster; gives that one's name."""
    lineup = state.lineup
    best: str | None = None
    for name in fastest_first(state, running(state)):
        own = gain(state, name)
        if best is not None and own * SCREENING_NOISE < gain(state, best) and surely_slower(state, name, best):
            leave(state, name, f"{ratio(state, name)}; {best} is better and inside the budget: {ratio(state, best)}")
            continue
        needed = evaluation_seconds(state, name) if lineup.figures[name].metric is None else 0.0
        if best is not None and needed and state.left_s < reserve_s_of(state) + needed:
            leave(state, name, f"{ratio(state, name)}; not evaluated within the time budget of {state.wish.budget_s:g} s")
            continue
        if lineup.figures[name].metric is None:
            evaluate(state, name)
        if is_accurate(state, name) and (best is None or own > gain(state, best)):
            best = name
    return best


def _buy_accuracy(state: SearchState, best: str | None) -> None:
    """Where the fastest candidates lose too much: corrections, and other divisions, of the fastest of them."""
    lineup = state.lineup
    least = 1.0 if best is None else max(1.0, gain(state, best) * SCREENING_NOISE)
    fast = [name for name in fastest_first(state, running(state)) if gain(state, name) > least]
    inaccurate = [name for name in fast if not is_accurate(state, name)]
    for name in inaccurate[:DIVIDED]:
        reserve = reserve_s_of(state) + evaluation_seconds(state, name)
        new = enter_corrected(state, name, reserve_s=reserve)
        _screened(state, new)
        _judge(state)
        if any(is_accurate(state, one) for one in new):
            return
        if state.wish.timed and _is_static(state, name):
            known = lineup.figures[new[-1] if new else name].sqnr_db or 0.0
            wanted = [known + more for more in BOUGHT_DB] if state.evaluation is not None else list(ASKED_DB)
            corrected = new[-1] if new else None
            _screened(state, place_within(state, name, wanted, reserve_s=reserve, corrected=corrected))
            _judge(state)


def _polish(state: SearchState) -> None:
    """Where there is time left: the best candidates with learned rounding, which costs nothing on the device."""
    accurate = [name for name in running(state) if is_accurate(state, name)]
    for name in leaders(state, accurate)[:POLISHED]:
        reserve = reserve_s_of(state) + evaluation_seconds(state, name)
        _screened(state, enter_corrected(state, name, reserve_s=reserve))
        _judge(state)


def _is_static(state: SearchState, name: str) -> bool:
    from edgekit_export import StaticInt8

    candidate = state.lineup.built[name].candidate
    return isinstance(candidate.scheme, StaticInt8) and candidate.provider == Provider()
