"""What an account keeps between batches so that most entries need no new walk – and the proof that they need none.

A move happens only at an entry whose window amount reaches the next level's threshold, at an entry in a grace,
at a deadline, or at a refund; and what tells of refunds is always walked. So nothing moves as long as all of the
following holds for the entries that are added:

- none is at or after the next deadline, and the account is in no grace;
- all are later than what was walked, refunds included, and their sum stays below ``room``, which is the next
  threshold (the lowest by the rules from then on) less an upper bound of what the window can hold from then on: no
  window reaches the threshold; or
- no move was ever made and everything ever earned, also what was given back since, stays below the first threshold
  by any rules (``late_room``): then no window of the past reached it either, wherever the entries fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import localcontext

from services.tiers.domain.progression import Later, Timeline, announces_base, first_asks
from services.tiers.domain.qualification import Amount, Qualifying
from shared.money import EXACT
from shared.program.model import Tiers


@dataclass(frozen=True, slots=True)
class Standing:
    """Until when a timeline was walked, and what may be added unseen: a room of None has no end."""

    computed_until: datetime | None
    due_at: datetime | None
    room: Amount | None
    late_room: Amount | None


def standing_of(timeline: Timeline, rules: Tiers, later: Later = ()) -> Standing:
    """The standing after a full walk by these rules."""
    following, first = timeline.next_asks, timeline.first_asks
    with localcontext(EXACT):
        room = None if following is None else following - timeline.ceiling
        late_room = None if first is None else first - timeline.total
    return Standing(
        computed_until=timeline.until,
        due_at=timeline.due_at,
        room=room if timeline.grace_until is None else 0,
        late_room=0 if timeline.moves or _announces(rules, later) else late_room,
    )


def first_standing(rules: Tiers, later: Later = ()) -> Standing:
    """The standing of a customer of whom nothing is known yet."""
    if _announces(rules, later):
        return Standing(None, None, 0, 0)
    room = first_asks((rules, *(one for _, one in later)))
    return Standing(None, None, room, room)


def _announces(rules: Tiers, later: Later) -> bool:
    """Whether a first entry may be one that announces the base level."""
    return announces_base(rules) or any(announces_base(one) for _, one in later)


def unmoved(standing: Standing, added: Sequence[Qualifying]) -> Standing | None:
    """The standing with these entries if they provably make no move, else None: walk again."""
    newest = max(entry.occurred_at for entry in added)
    if standing.due_at is not None and newest >= standing.due_at:
        return None
    oldest = min(entry.occurred_at for entry in added)
    late = standing.computed_until is not None and oldest <= standing.computed_until
    bound = standing.late_room if late else standing.room
    with localcontext(EXACT):
        amount = sum((entry.amount for entry in added), start=0)
        if bound is not None and amount >= bound:
            return None
        return Standing(
            computed_until=max(newest, standing.computed_until or newest),
            due_at=standing.due_at,
            room=_less(standing.room, amount),
            late_room=_less(standing.late_room, amount),
        )


def _less(room: Amount | None, amount: Amount) -> Amount | None:
    return None if room is None else max(0, room - amount)
