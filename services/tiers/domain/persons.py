"""Ids that turned out to be one person: one way by all they bought, and the promotions that each id keeps.

A merge is an instant: until then its id went its own way, from then on it is the survivor's. What was reached by
then stays reached, by whom it was; see docs/decisions/0044-one-way-for-one-person.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from services.tiers.domain.progression import Timeline
from services.tiers.domain.qualification import Qualifying
from shared.contracts.tiers import TierMove

# A pure walk of entries until an instant, by the rules in force.
Walk = Callable[[Sequence[Qualifying], datetime], Timeline]


class Merge(NamedTuple):
    """Since ``at`` an account lives on as the account ``into``."""

    into: int
    at: datetime


class Way(NamedTuple):
    """An account's way: a survivor's by all that it and those who live on as it bought, else its own.

    That of a merged account ends with the merge. ``promotions`` are the upgrades for which there is something to
    be given under this id, numbered anew by level; None: those of the way itself.
    """

    timeline: Timeline
    promotions: tuple[TierMove, ...] | None


def ways(
    entries: Mapping[int, Sequence[Qualifying]],
    merges: Mapping[int, Merge],
    survivor: int,
    until: datetime,
    walk: Walk,
) -> dict[int, Way]:
    """The ways of all accounts of a person; ``merges`` has each but the ``survivor``, who is walked ``until``."""
    joined = _joined(merges, survivor)
    found: dict[int, Way] = {}
    reached: dict[int, set[str]] = {}
    for account, others in joined.items():
        end = until if account == survivor else merges[account].at
        stages = sorted(at for at in others if at < end or account == survivor)
        pooled = list(entries.get(account, ()))
        way = walk(pooled, stages[0] if stages else end)
        given = _upgrades(way)
        levels = {move.tier for move in given}
        for at, following in pairwise([*stages, end]):
            for other in others[at]:
                pooled += entries.get(other, ())
                levels |= reached[other]
            way = walk(pooled, following)
            # What all of them together had reached long before is news only if none of them had.
            new = [m for m in _upgrades(way) if m.since > at or m.tier not in levels]
            given += new
            levels |= {move.tier for move in new}
        reached[account] = {move.tier for move in given}
        found[account] = Way(way, _numbered(given) if others else None)
    return found


def _joined(merges: Mapping[int, Merge], survivor: int) -> dict[int, dict[datetime, list[int]]]:
    """Who came to live on as each account, at which instant; whoever did comes before whom they live on as."""
    heirs: defaultdict[int, list[int]] = defaultdict(list)
    for account, merge in merges.items():
        heirs[merge.into].append(account)
    order = [survivor]
    for account in order:
        order += heirs[account]
    found: dict[int, dict[datetime, list[int]]] = {}
    for account in reversed(order):
        joined: defaultdict[datetime, list[int]] = defaultdict(list)
        for merged in heirs[account]:
            joined[merges[merged].at].append(merged)
            for at, others in found[merged].items():
                # Who was theirs comes along with them.
                joined[max(at, merges[merged].at)] += others
        found[account] = dict(joined)
    return found


def _upgrades(way: Timeline) -> list[TierMove]:
    return [move for move in way.moves if move.kind == "upgraded"]


def _numbered(given: Sequence[TierMove]) -> tuple[TierMove, ...]:
    counts: Counter[str] = Counter()
    numbered = []
    for move in given:
        counts[move.tier] += 1
        numbered.append(replace(move, reach=counts[move.tier]))
    return tuple(numbered)
