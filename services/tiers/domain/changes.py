"""What a new walk changed: the moves that came, what each stands in place of, and what is told of it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.tiers.domain.progression import NO_TIER, base_level, multiplier_text
from shared.contracts.tiers import ChangeKind, TierMove
from shared.program.model import Tiers

WITHDRAWN: Literal["withdrawn"] = "withdrawn"


@dataclass(frozen=True, slots=True)
class Change:
    """A move that came into the timeline, or was withdrawn from it without another in its place."""

    kind: ChangeKind | Literal["withdrawn"]
    move: TierMove
    replaced: TierMove | None


def between(told: Sequence[TierMove], moves: Sequence[TierMove]) -> list[Change]:
    """The changes from one timeline to another, in the new one's order, withdrawals last.

    A move takes the place of one that went if both say the same of the same level – of an upgrade: reached for
    the same time – so that a corrected ``since`` is told from a new move.
    """
    kept = frozenset(moves) & frozenset(told)
    gone: dict[object, deque[TierMove]] = defaultdict(deque)
    for move in told:
        if move not in kept:
            gone[_what(move)].append(move)
    found: list[Change] = []
    for move in moves:
        if move not in kept:
            replaceable = gone[_what(move)]
            found.append(Change(move.kind, move, replaceable.popleft() if replaceable else None))
    return found + [Change(WITHDRAWN, move, move) for rest in gone.values() for move in rest]


def announced(
    told: Sequence[TierMove], moves: Sequence[TierMove], rules: Tiers
) -> Sequence[TierMove]:
    """The moves to publish. Something is told of every change, also where moves only went."""
    known = frozenset(told)
    new = [move for move in moves if move not in known]
    if new or moves == told:
        return new
    if moves:
        return moves[-1:]
    # Only other rules can leave nothing at all of a way: told as a fall to where everybody begins.
    last, base = told[-1], base_level(rules)
    return [
        TierMove(
            kind="downgraded",
            tier=NO_TIER if base is None else base.id,
            previous=last.tier,
            multiplier="1" if base is None else multiplier_text(base.multiplier),
            since=last.since,
            valid_until=None,
            reach=0,
            cause=None,
        )
    ]


def _what(move: TierMove) -> tuple[str, str, int]:
    return move.kind, move.tier, move.reach
