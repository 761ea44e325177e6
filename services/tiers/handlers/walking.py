"""Walking accounts anew from all their entries: store and publish what changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from services.tiers import ledger
from services.tiers.domain import changes
from services.tiers.domain.persons import Way, ways
from services.tiers.domain.qualification import Qualifying
from services.tiers.domain.rules import Rules
from services.tiers.domain.standing import Standing
from services.tiers.ledger import Account, ChangeRow, Person, Told
from shared.contracts import tiers as contract
from shared.contracts.tiers import TierChanged, TierMove
from shared.events.model import Work
from shared.ids import derive

TYPES: dict[str, str] = {
    "upgraded": contract.UPGRADED,
    "retained": contract.RETAINED,
    "downgraded": contract.DOWNGRADED,
}


async def walk(
    work: Work, rules: Rules, accounts: Sequence[Account], until: Callable[[Account], datetime]
) -> int:
    """Walk locked accounts anew from all their entries; store and publish what changed. Returns how many did.

    None of them may be one of several of a person.
    """
    if not accounts:
        return 0
    ids = [account.id for account in accounts]
    entries = await ledger.entries_of(work.conn, ids, rules.basis)
    news = News(work, rules)
    for account in accounts:
        found = rules.walk(entries.get(account.id, ()), until(account))
        news.take(account, Way(found, None), rules.standing_of(found))
    return await news.write()


async def walk_persons(
    work: Work, rules: Rules, persons: Collection[int], at_least: datetime | None = None
) -> int:
    """Lock and walk persons with several accounts, all of them; the survivors' on until ``at_least``."""
    if persons:
        await work.flush()
    found = await ledger.lock_persons(work.conn, persons) if persons else []
    if not found:
        return 0
    ids = [account_id for person in found for account_id in person.accounts]
    entries = await ledger.entries_of(work.conn, ids, rules.basis)
    news = News(work, rules)
    for person in found:
        until = _until(person, entries, at_least)
        for account_id, way in ways(
            entries, person.merges, person.survivor, until, rules.walk
        ).items():
            room = rules.standing_of(way.timeline)
            if account_id != person.survivor:
                # Its way is at its end: no time and no entry moves it by itself.
                room = replace(room, due_at=None)
            news.take(person.accounts[account_id], way, room)
    return await news.write()


def _until(
    person: Person, entries: Mapping[int, Sequence[Qualifying]], at_least: datetime | None
) -> datetime:
    """The last instant at which anything is known of them, or to which they were walked."""
    known = [entry.known_until for account in person.accounts for entry in entries.get(account, ())]
    walked = person.accounts[person.survivor].standing.computed_until
    merged = [merge.at for merge in person.merges.values()]
    return max(moment for moment in (*known, *merged, walked, at_least) if moment is not None)


class News:
    """What came of walking accounts, until it is written in one statement."""

    def __init__(self, work: Work, rules: Rules) -> None:
        self._work = work
        self._rules = rules
        self._standings: dict[int, Standing] = {}
        self._timelines: dict[int, Told] = {}
        self._history: list[ChangeRow] = []

    def take(self, account: Account, way: Way, room: Standing) -> None:
        """Note how an account stands now; publish what of its way is new."""
        self._standings[account.id] = room
        moves, told = way.timeline.moves, account.told()
        if moves == told and way.promotions == account.promoted():
            return
        account.revision += 1
        level = None if way.timeline.level is None else way.timeline.level.id
        self._timelines[account.id] = Told(account.revision, level, moves, way.promotions)
        self._history += _history(account, told, moves, self._work.now)
        _publish(self._work, account, told, way, self._rules)

    async def write(self) -> int:
        """Store it all; returns how many accounts changed."""
        rules, now = self._rules.version, self._work.now
        await ledger.walked(
            self._work.last, self._standings, self._timelines, self._history, rules, now
        )
        return len(self._timelines)


def _history(
    account: Account, told: Sequence[TierMove], moves: Sequence[TierMove], now: datetime
) -> list[ChangeRow]:
    return [
        ChangeRow(
            account_id=account.id,
            revision=account.revision,
            number=number,
            kind=change.kind,
            tier=change.move.tier,
            previous=change.move.previous,
            multiplier=change.move.multiplier,
            since=change.move.since,
            valid_until=change.move.valid_until,
            reach=change.move.reach,
            cause=change.move.cause,
            replaced=None if change.replaced is None else ledger.encode(change.replaced),
            recorded_at=now,
        )
        for number, change in enumerate(changes.between(told, moves))
    ]


def _publish(
    work: Work, account: Account, told: Sequence[TierMove], way: Way, rules: Rules
) -> None:
    """An event for each move that is new, each with the whole way: a receiver needs only the newest."""
    moves = way.timeline.moves
    promotions = None if way.promotions is None else list(way.promotions)
    # Where only promotions changed, the last move tells it.
    for move in changes.announced(told, moves, rules.tiers) or moves[-1:]:
        work.publish(
            contract.TOPIC,
            account.customer_id,
            TYPES[move.kind],
            derive(
                "tier",
                account.customer_id,
                str(account.revision),
                move.kind,
                move.tier,
                move.since.isoformat(),
            ),
            move.since,
            TierChanged(account.customer_id, account.revision, move, list(moves), promotions),
        )
