"""Rows and bars: instructions of edgekit's choice over those of each peer, and of the best one that is as near to float."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from benchmarks.arm_rivals.causes import CAUSES
from benchmarks.arm_rivals.counting import Seen
from benchmarks.arm_rivals.entries import OURS, RIVALS
from benchmarks.arm_rivals.nothing import NOTHING
from benchmarks.document import Bar, at_most
from benchmarks.rivals.judging import EQUAL_DB, EQUAL_OUTPUTS_DB, FLOAT_DB
from edgekit.labs.emulated.counts import Counts

__all__ = ["Result", "bars", "best_rival", "calls", "rows"]

LIMIT = 1.0
MILLION = 1e6


class Result(msgspec.Struct, frozen=True):
    """One peer's way on one board and network.

    Attributes:
        board: The board.
        network: The network.
        who: The peer.
        scheme: What of the peer's it is.
        seen: What the board showed; ``None`` where it failed.
        failure: Why there are no figures.
    """

    board: str
    network: str
    who: str
    scheme: str
    seen: Seen | None = None
    failure: str | None = None

    @property
    def name(self) -> str:
        """As bars and causes show it."""
        return f"{self.who} {self.scheme}"


def best_rival(ours: Result, results: Iterable[Result]) -> Result | None:
    """The peer's result with the fewest instructions, of those whose SQNR is that of ours or better.

    As among `benchmarks.peers`, float32's own rounding is one class, and SQNR on a few feeds is not known better than a tenth.
    """
    if ours.seen is None:
        return None
    least = min(ours.seen.sqnr_db, FLOAT_DB) - EQUAL_DB
    near = [one for one in results if one.who in RIVALS and one.seen is not None and min(one.seen.sqnr_db, FLOAT_DB) >= least]
    return min(near, key=_instructions, default=None)


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row a result, of one board and network, ours first."""
    ours = next((one for one in results if one.who == OURS), None)
    rival = best_rival(ours, results) if ours is not None else None
    found = []
    for result in results:
        row: dict[str, Any] = {"board": result.board, "network": result.network, "who": result.who, "scheme": result.scheme}
        if result.seen is None:
            found.append({**row, "note": result.failure})
            continue
        row |= _counted(result.seen.counts) | {
            "call_million": result.seen.nothing.instructions / MILLION,
            "sqnr_db": min(result.seen.sqnr_db, EQUAL_OUTPUTS_DB),
            "ours_over": None,
        }
        if ours is not None and ours.seen is not None and result is not ours:
            row["ours_over"] = _instructions(ours) / _instructions(result)
        if result is ours and rival is not None:
            row["best_rival"], row["over_rival"] = rival.name, _instructions(ours) / _instructions(rival)
            if row["over_rival"] > LIMIT:
                row["note"] = CAUSES.get((result.board, result.network), "lost; the cause is not known yet")
        found.append(row)
    return found


def calls(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What each peer's call costs on a board before it computes anything: a row a peer and board."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in results:
        if one.seen is not None and (one.board, one.who) not in found:
            counted = _counted(one.seen.nothing)
            row = {"board": one.board, "network": NOTHING, "who": one.who, "scheme": "one Relu of one number", **counted}
            found[one.board, one.who] = row
    return list(found.values())


def bars(groups: Iterable[Sequence[Result]]) -> list[Bar]:
    """A bar a board and network: ours over the best rival."""
    judged = []
    for results in groups:
        ours = next(one for one in results if one.who == OURS)
        rival = best_rival(ours, results)
        named = rival.name if rival is not None else "the best rival of equal or better SQNR"
        value = None if rival is None else _instructions(ours) / _instructions(rival)
        judged.append(at_most(f"{ours.board}, {ours.network}: our chosen instructions over {named}'s", value, LIMIT))
    return judged


def _instructions(result: Result) -> int:
    assert result.seen is not None
    return result.seen.counts.instructions


def _counted(counts: Counts) -> dict[str, Any]:
    """Millions of instructions, all and by class."""
    assert counts.mix is not None  # the boards are ARM
    mix: dict[str, int] = msgspec.to_builtins(counts.mix)
    return {
        "million": counts.instructions / MILLION,
        **{name: count / MILLION for name, count in mix.items()},
        "spread": counts.spread,
    }
