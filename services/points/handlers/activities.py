"""Activities: points for what is not a purchase, once per activity and reference, within the program's limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.points import ledger
from services.points.domain import activities as rules
from services.points.domain import facts, validation
from services.points.handlers.granting import Lot, grant
from services.points.handlers.settling import settle
from services.points.handlers.whose import follow
from services.points.ledger import FLAG_REFERRED, Account, EntryRow
from services.points.ledger import activities as store
from services.points.ledger.activities import ActivityRow
from shared.contracts.activities import ActivityCompleted
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.ids import digest_uuid
from shared.program import Program
from shared.program.earning import Activity

_encode = msgspec.json.Encoder(decimal_format="string", order="sorted").encode
_fixed = (facts.COUNTS_NOW, facts.NO_LONGER)


class Act(NamedTuple):
    """An activity that passed its checks; ``id`` is a function of activity and reference."""

    event: Event[ActivityCompleted]
    id: UUID
    fingerprint: int
    referred_by: str | None
    verdict: str | None


class Activities:
    """The handler of completed activities, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._rules = {one.activity: one for one in program.earning.activities}

    async def handle(self, work: Work, events: Sequence[Event[ActivityCompleted]]) -> None:
        """Record activities, and give what counts of them; a late one decides anew what those after it count."""
        acts = self._checked(work, events)
        customers = {act.event.data.customer_id for act in acts}
        customers |= {act.referred_by for act in acts if act.referred_by}
        accounts = await follow(work, await ledger.lock_accounts(work.conn, customers))
        known = await store.known_activities(
            work.conn, [act.id for act in acts], [act.event.key for act in acts]
        )
        fresh = _unknown(work, acts, known)
        await store.add_activities(
            work.conn, [_row(act, accounts, work) for act in fresh], FLAG_REFERRED
        )
        told: set[tuple[int, str]] = set()
        for act in fresh:
            account, rule = (
                accounts[act.event.data.customer_id],
                self._rules.get(act.event.data.activity),
            )
            if act.verdict is not None:
                work.refuse(act.event, act.verdict)
            elif rule is not None and rule.referrer is not None:
                account.flags |= FLAG_REFERRED
            else:
                told.add((account.id, act.event.data.activity))
        by_id = {account.id: account for account in accounts.values()}
        by_id = await self._decide(work, told, by_id)
        await settle(work, self._program, [a for a in by_id.values() if a.flags])

    async def join(self, work: Work, heir: Account, held: Mapping[int, Account]) -> None:
        """Decide again what counts of all that a person did, by any of their ids: limits are a person's."""
        # Referrals are decided by both sides.
        kinds = [name for name, rule in self._rules.items() if rule.referrer is None]
        await self._decide(work, {(heir.id, name) for name in kinds}, held)

    async def _decide(
        self, work: Work, told: Collection[tuple[int, str]], held: Mapping[int, Account]
    ) -> dict[int, Account]:
        """Write what is missing or too much of these kinds; returns the accounts, and others locked for it."""
        acts = await store.activities_of(work.conn, told)
        wanted = {row["account_id"] for row in acts}
        accounts = await store.lock_by_account(work.conn, wanted, held.values())
        rows = self._decided(work, accounts, acts)
        await ledger.append(work.conn, rows, accounts.values())
        return accounts

    def _checked(self, work: Work, events: Sequence[Event[ActivityCompleted]]) -> list[Act]:
        found: list[Act] = []
        for event in events:
            data = event.data
            rule = self._rules.get(data.activity)
            try:
                for name in ("activity", "customer_id", "reference"):
                    validation.check_id(getattr(data, name), f"data.{name}")
                validation.check_instant(data.occurred_at, work.now)
                content = _encode(data)
                if b"\\u0000" in content:
                    raise Poison("data.data", "contains a NUL character")
                referred_by = _referrer(data, rule)
            except Poison as poison:
                work.poison(event, poison.field, poison.reason)
                continue
            verdict = None
            if rule is None:
                verdict = rules.UNKNOWN
            elif referred_by == data.customer_id:
                verdict = rules.SELF
            fingerprint = int.from_bytes(
                blake2b(content, digest_size=8).digest(), "big", signed=True
            )
            act_id = digest_uuid("activity", data.activity, data.reference)
            found.append(Act(event, act_id, fingerprint, referred_by, verdict))
        return found

    def _decided(
        self, work: Work, accounts: Mapping[int, Account], rows: Sequence[asyncpg.Record]
    ) -> list[EntryRow]:
        """The entries that bring the lots of all these acts to what they amount to together."""
        groups: dict[tuple[int, str], list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            groups[row["person"], row["activity"]].append(row)
        entries: list[EntryRow] = []
        for (_, activity), acts in groups.items():
            rule = self._rules[activity]
            done = [rules.Done(row["activity_id"], row["occurred_at"]) for row in acts]
            counted = rules.counted(done, rule.limit, self._program.zone)
            for row in sorted(acts, key=lambda row: (row["occurred_at"], row["activity_id"])):
                target = rule.points if row["activity_id"] in counted else 0
                entries += self._grant(work, accounts[row["account_id"]], rule, row, target)
        return entries

    def _grant(
        self, work: Work, account: Account, rule: Activity, row: asyncpg.Record, target: int
    ) -> list[EntryRow]:
        held = row["points"]
        if held == target:
            return []
        said = [rule.activity]
        if held is not None:
            code = _fixed[target < held]
        elif target:
            code = facts.ACTIVITY
        else:
            code = facts.LIMITED
            said += _limit(rule)
        lot = Lot(
            row["activity_id"],
            row["occurred_at"],
            row["event_key"],
            row["event_id"],
            row["fingerprint"],
        )
        return [grant(work, self._program, account, lot, (held, target), (code, said))]


def _limit(rule: Activity) -> list[str]:
    if rule.limit is None:
        return []
    return [str(rule.limit.times), str(rule.limit.per or "")]


def _referrer(data: ActivityCompleted, rule: Activity | None) -> str | None:
    if rule is None or rule.referrer is None:
        return None
    referred_by = data.data.get("referred_by")
    if not isinstance(referred_by, str):
        raise Poison("data.data.referred_by", "is missing: a referral names who brought this one")
    validation.check_id(referred_by, "data.data.referred_by")
    return referred_by


def _row(act: Act, accounts: Mapping[str, Account], work: Work) -> ActivityRow:
    data = act.event.data
    verdict, referrer = act.verdict, None
    if act.referred_by is not None:
        referrer = accounts[act.referred_by].id
    return ActivityRow(
        activity_id=act.id,
        event_key=act.event.key,
        account_id=accounts[data.customer_id].id,
        activity=data.activity,
        reference=data.reference,
        referrer_id=referrer,
        event_id=act.event.id,
        fingerprint=act.fingerprint,
        occurred_at=data.occurred_at,
        recorded_at=work.now,
        data=msgspec.json.encode(data.data).decode(),
        verdict=verdict,
    )


def _unknown(work: Work, acts: Sequence[Act], known: Sequence[Any]) -> list[Act]:
    """Those not seen before; the others are duplicates, or poison if they say something else than then."""
    seen: dict[UUID, int] = {}
    for activity_id, event_key, fingerprint in known:
        seen[activity_id] = seen[event_key] = fingerprint
    fresh: list[Act] = []
    for act in acts:
        data = act.event.data
        for key, field, what in (
            (act.event.key, "id", f"event {act.event.id!r}"),
            (act.id, "data.reference", f"{data.activity} {data.reference!r}"),
        ):
            if key not in seen:
                continue
            if seen[key] == act.fingerprint:
                work.duplicate(act.event, f"{what} is known")
            else:
                work.poison(act.event, field, f"{what} is known with other content")
            break
        else:
            fresh.append(act)
            seen[act.event.key] = seen[act.id] = act.fingerprint
    return fresh
