"""Referrals: what both sides get after the friend's first purchase, as all that was told amounts to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from services.points import ledger
from services.points.domain import activities as rules
from services.points.domain import facts
from services.points.domain.activities import Done, FirstPurchase, Granted, Referral
from services.points.handlers.granting import Lot, grant
from services.points.ledger import FLAG_REFERRED, Account, EntryRow
from services.points.ledger import activities as store
from shared.events.model import Work
from shared.ids import digest_uuid
from shared.program import Program
from shared.program.earning import Activity

FRIEND, REFERRER = "friend", "referrer"


class Sides(NamedTuple):
    """Whose lots are looked at: the friends' own, and the referrers'. Of these, and no others, all is known."""

    friends: set[int]
    referrers: set[int]

    def include(self, account: int, referral: Any) -> bool:
        """Whether this account's side of the referral is looked at."""
        friend = account == referral["account_id"] and account in self.friends
        return friend or (account == referral["referrer_id"] and account in self.referrers)


# Lot → its account, its points, the code and what is said of it, and when they count from.
Targets = dict[UUID, tuple[int, int, str, Granted]]


async def settle_referrals(
    work: Work, program: Program, accounts: Collection[Account]
) -> Collection[Account]:
    """Bring the lots that referrals of these locked accounts led to to what they shall hold.

    Returns the accounts and the others that were locked for it.
    """
    friends = {account.id for account in accounts if account.flags & FLAG_REFERRED}
    if not friends:
        return accounts
    by_activity = {one.activity: one for one in program.earning.activities if one.referrer}
    referrers = await store.referrers_of(work.conn, friends)
    # What other friends of theirs do is read without a lock: whoever changes it comes here afterwards, and waits.
    held = await store.lock_by_account(work.conn, referrers, accounts)
    rows = await store.referrals_of(work.conn, referrers)
    sides = Sides(friends, referrers)
    targets = _targets(program, by_activity, [_referral(row) for row in rows], sides)
    told = {row["activity_id"]: row for row in rows}
    found = await store.referral_lots(work.conn, [row["event_key"] for row in rows])
    causes = {row["event_key"]: row for row in rows}
    lots = [lot for lot in found if sides.include(lot["account_id"], causes[lot["event_key"]])]
    entries = _entries(work, program, held, told, targets, lots)
    await ledger.append(work.conn, entries, held.values())
    touched = {entry.account_id for entry in entries}
    return [*accounts, *(a for a in held.values() if a.id in touched and a not in accounts)]


def _entries(
    work: Work,
    program: Program,
    accounts: Mapping[int, Account],
    told: Mapping[UUID, Any],
    targets: Targets,
    lots: Sequence[Any],
) -> list[EntryRow]:
    entries: list[EntryRow] = []
    by_key = {row["event_key"]: row for row in told.values()}
    held = {row["lot_id"]: row for row in lots}
    for lot_id, row in held.items():
        if lot_id not in targets and row["points"]:
            cause = by_key[row["event_key"]]
            lot = Lot(
                lot_id,
                row["occurred_at"],
                row["event_key"],
                cause["event_id"],
                cause["fingerprint"],
            )
            why = (facts.NOT_BROUGHT, [cause["activity"]])
            entries.append(
                grant(work, program, accounts[row["account_id"]], lot, (row["points"], 0), why)
            )
    for lot_id, (account_id, points, code, granted) in targets.items():
        known = held.get(lot_id)
        current = None if known is None else known["points"]
        if current == points or (current is None and not points):
            continue
        cause = told[granted.referral.id]
        lot = Lot(lot_id, granted.at, cause["event_key"], cause["event_id"], cause["fingerprint"])
        said = [cause["activity"], cause["referrer" if code == facts.BROUGHT else "friend"]]
        account = accounts[account_id if known is None else known["account_id"]]
        why = (code if points else facts.NOT_BROUGHT, said)
        entries.append(grant(work, program, account, lot, (current, points), why))
    return entries


def _targets(
    program: Program,
    by_activity: Mapping[str, Activity],
    referrals: Sequence[Referral],
    whose: Sides,
) -> Targets:
    granted = rules.granted(one for one in referrals if one.activity in by_activity)
    sides: dict[tuple[str, int], list[Granted]] = defaultdict(list)
    found: Targets = {}
    for one in granted:
        rule = by_activity[one.referral.activity]
        if one.referral.friend in whose.friends:
            lot = _lot(one, FRIEND)
            found[lot] = (one.referral.friend, rule.points, facts.BROUGHT, one)
        if one.referral.referrer in whose.referrers:
            sides[one.referral.activity, one.referral.referrer].append(one)
    for (activity, referrer), theirs in sides.items():
        rule = by_activity[activity]
        done = [Done(one.referral.id, one.at) for one in theirs]
        counted = rules.counted(done, rule.limit, program.zone)
        for one in theirs:
            points = (rule.referrer or 0) if one.referral.id in counted else 0
            found[_lot(one, REFERRER)] = (referrer, points, facts.BRINGS, one)
    return found


def _lot(one: Granted, side: str) -> UUID:
    return digest_uuid("referral", str(one.referral.id), side, str(one.purchase))


def _referral(row: Any) -> Referral:
    first = row["purchase_id"] and FirstPurchase(row["purchase_id"], row["purchased_at"])
    return Referral(
        row["activity_id"],
        row["activity"],
        row["occurred_at"],
        row["account_id"],
        row["referrer_id"],
        first,
    )
