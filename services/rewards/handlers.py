"""One function per kind of event: load, let the domain decide, append. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from services.rewards import ledger
from services.rewards.domain import timelines
from services.rewards.domain.announcements import announce
from services.rewards.domain.codes import Keyring
from services.rewards.domain.vouchers import (
    Claimed,
    Step,
    decide,
    decide_anew,
    promotions,
    reconcile,
    wanted,
)
from services.rewards.ledger import Account, Claim, Coded, Entry, Holdings
from shared.contracts import rewards
from shared.contracts.points import CustomersMerged, PointsEarned
from shared.contracts.tiers import TierChanged, TierMove
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.program import Program

T = TypeVar("T")
# Points tells none of these: it refused them by the same names.
ALREADY = "already-merged"
CYCLE = "merge-cycle"


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers, bound to the program in force and the secrets of the codes."""

    program: Program
    keyring: Keyring

    async def told(
        self, work: Work, events: Sequence[Event[TierChanged] | Event[PointsEarned]]
    ) -> None:
        """Give, re-date, take back or give back vouchers, so that they follow the newest timelines.

        And get to know customers who have reached no level: they have no vouchers, but they exist.
        """
        self.program.look()
        earned = [event for event in events if isinstance(event.data, PointsEarned)]
        changed = [event for event in events if isinstance(event.data, TierChanged)]
        known = _known(
            _sound(work, earned, lambda data: timelines.check_customer(data.customer_id))
        )
        sound = _sound(work, changed, timelines.check)
        customers = _known(sound)
        if not customers:
            if known:
                await ledger.add_accounts(work.last, known, work.now)
            return
        accounts, held = await ledger.lock_accounts(work.conn, customers, known, work.now)
        news = _newest(work, sound, accounts)
        if not news:
            return
        moved: list[Account] = []
        claims: list[Claim] = []
        entries: list[Entry] = []
        for account, event in news:
            try:
                new_claims, new_entries = self._follow(account, event, held[account.account_id])
            except Poison as poison:
                work.poison(event, poison.field, poison.reason)
                continue
            moved.append(account)
            claims += new_claims
            entries += new_entries
        await self._write(work, moved, claims, entries)

    async def merges(self, work: Work, events: Sequence[Event[CustomersMerged]]) -> None:
        """Let ids be one person: what was given to any of them is all of theirs from now on."""
        sound = _sound(work, events, timelines.check_merge)
        if not sound:
            return
        await work.flush()
        names = sorted({name for e in sound for name in (e.data.customer_id, e.data.into)})
        accounts = await ledger.lock_merging(work.conn, names, work.now)
        for event in sound:
            account, into = accounts[event.data.customer_id], accounts[event.data.into]
            if account.into_id is not None:
                if account.into_id == into.account_id:
                    work.duplicate(event, f"{event.data.customer_id!r} lives on as that already")
                else:
                    work.refuse(event, ALREADY)
                continue
            survivor = into.survivor
            if survivor == account.account_id:
                work.refuse(event, CYCLE)
                continue
            await ledger.add_merge(
                *(work.conn, account.account_id, into.account_id, survivor),
                *(event.key, work.now),
            )
            account.into_id = into.account_id
            for one in accounts.values():
                if one.survivor == account.account_id:
                    one.survivor = survivor

    def _follow(
        self, account: Account, event: Event[TierChanged], held: Holdings
    ) -> tuple[list[Claim], list[Entry]]:
        # Where several ids are one person, tiers says for which promotions this one is given something.
        promoted = event.data.promotions
        timeline = event.data.timeline if promoted is None else promoted
        decided = {
            **decide(timeline, held.grants, self.program),
            **decide_anew(timeline, held.claimed, held.grants, held.vouchers, self.program),
        }
        claimed = dict(held.claimed)
        for move, cause in promotions(timeline) if decided else ():
            if cause in decided:
                number = claimed[cause].number + 1 if cause in claimed else 1
                claimed[cause] = Claimed(number, self.program.at(move.since).version)
        calls = wanted(timeline, {**held.grants, **decided}, claimed)
        changes = reconcile(account.customer_id, held.vouchers, calls)
        claims = [
            Claim(account.account_id, cause, tuple(given), claimed[cause])
            for cause, given in decided.items()
        ]
        return claims, [Entry(account, change, event.id) for change in changes]

    async def _write(
        self, work: Work, moved: list[Account], claims: list[Claim], entries: list[Entry]
    ) -> None:
        version = self.keyring.current
        new = [
            Coded(entry, self.keyring.fingerprint(self.keyring.code(voucher_id, version), version))
            for entry in entries
            if entry.change.step is Step.ISSUED
            for voucher_id in (entry.change.after.id,)
        ]
        known = [entry.change.after for entry in entries if entry.change.step is not Step.ISSUED]
        # Vouchers that get the terms of another claim need it to be there; else it can go with the commit.
        anew = any(claim.by.number > 1 for claim in claims)
        if known and not anew:
            await ledger.move_vouchers(work.conn, known)
        if moved:
            await ledger.follow(
                work.conn if anew else work.last,
                moved,
                claims,
                new,
                entries,
                key_version=version,
                now=work.now,
            )
        if known and anew:
            await ledger.move_vouchers(work.conn, known)
        for entry in entries:
            _publish(work, entry)


def _sound(work: Work, events: Iterable[Event[T]], check: Callable[[T], None]) -> list[Event[T]]:
    """The events that can be acted upon; the others are on their way to the dead letters."""
    sound = []
    for event in events:
        try:
            check(event.data)
        except Poison as poison:
            work.poison(event, poison.field, poison.reason)
        else:
            sound.append(event)
    return sound


def _known(events: Iterable[Event[Any]]) -> list[str]:
    return sorted({event.data.customer_id for event in events})


def _newest(
    work: Work, events: Iterable[Event[TierChanged]], accounts: dict[str, Account]
) -> list[tuple[Account, Event[TierChanged]]]:
    """Move the accounts to the newest timeline told, and say which event told it.

    Every event carries the whole timeline, so of several revisions only the last needs to be followed;
    one that is older than the account's, or says the same, changes nothing.
    """
    news: dict[str, Event[TierChanged]] = {}
    for event in events:
        data = event.data
        account = accounts[data.customer_id]
        if data.revision < account.revision:
            work.duplicate(event, f"revision {account.revision} is known already")
        elif data.revision == account.revision and _says_the_same(data, account):
            work.duplicate(event, f"revision {data.revision} is known already")
        else:
            account.revision = data.revision
            account.timeline = msgspec.json.encode(data.timeline).decode()
            account.promotions = _stored(data.promotions)
            news[data.customer_id] = event
    return [(accounts[customer_id], event) for customer_id, event in news.items()]


def _says_the_same(data: TierChanged, account: Account) -> bool:
    held = None if account.promotions is None else ledger.timeline_of(account.promotions)
    return ledger.timeline_of(account.timeline) == data.timeline and held == data.promotions


def _stored(promotions: list[TierMove] | None) -> str | None:
    return None if promotions is None else msgspec.json.encode(promotions).decode()


def _publish(work: Work, entry: Entry) -> None:
    account, change = entry.account, entry.change
    told = announce(account.customer_id, account.revision, change.step, change.after, work.now)
    work.publish(rewards.TOPIC, account.customer_id, told.type, told.id, told.time, told.data)
