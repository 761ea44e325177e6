"""Write side: one small function per named statement of sql/ledger.sql."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec

from services.rewards.domain.terms import Terms, terms_from_json, terms_to_json
from services.rewards.domain.vouchers import Change, Claimed, State, Step, Voucher
from shared.contracts.rewards import Cause
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.db.closing import Writer
from shared.db.types import Connection

sql = statements.load(Path(__file__).parent / "sql" / "ledger.sql")

timeline_of = msgspec.json.Decoder(list[TierMove]).decode


@dataclass(slots=True)
class Account:
    """A customer's row, locked; ``timeline``, ``promotions``: the stored JSON until a newer revision comes."""

    account_id: int
    customer_id: str
    revision: int
    timeline: str
    promotions: str | None


@dataclass(slots=True)
class Holdings:
    """What was decided for an account, and the vouchers that came of it."""

    grants: dict[Cause, dict[str, Terms]] = field(default_factory=dict)
    claimed: dict[Cause, Claimed] = field(default_factory=dict)
    vouchers: list[Voucher] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a cause gives an account, decided now, by the version of the program in force at it."""

    account_id: int
    cause: Cause
    definitions: tuple[str, ...]
    by: Claimed


@dataclass(frozen=True, slots=True)
class Entry:
    """A step of a voucher on its way into the ledger, with the event that caused it."""

    account: Account
    change: Change
    event_id: str


@dataclass(frozen=True, slots=True)
class Expired:
    """A voucher whose last day has passed."""

    customer_id: str
    revision: int
    voucher: Voucher


async def add_accounts(conn: Writer, customer_ids: Collection[str], now: datetime) -> None:
    """Open an account for each customer that has none."""
    await conn.execute(sql.add_accounts, now, list(customer_ids))


async def lock_accounts(
    conn: Connection, customer_ids: Collection[str], known: Collection[str], now: datetime
) -> tuple[dict[str, Account], dict[int, Holdings]]:
    """The customers' accounts, locked until commit, and what each account holds.

    Made where missing, as for all others who are ``known``, of whom nothing is asked.
    """
    wanted = list(customer_ids)
    everybody = list({*wanted, *known})
    rows: list[asyncpg.Record] = []
    while len({row["account_id"] for row in rows}) < len(wanted):
        # Once more only where another transaction was making an account at the same time.
        rows = await conn.fetch(sql.lock_accounts, now, everybody, wanted)
    accounts = {
        row["customer_id"]: Account(
            *(row["account_id"], row["customer_id"], row["revision"]),
            *(row["timeline"], row["promotions"]),
        )
        for row in rows
    }
    held: dict[int, Holdings] = defaultdict(Holdings)
    _add_holdings(held, [row for row in rows if not row["changed"]])
    if changed := {row["account_id"] for row in rows if row["changed"]}:
        held.update(await holdings(conn, changed))
    return accounts, held


async def holdings(conn: Connection, account_ids: Collection[int]) -> dict[int, Holdings]:
    """What the accounts hold, by account."""
    found: dict[int, Holdings] = defaultdict(Holdings)
    _add_holdings(found, await conn.fetch(sql.claims_and_vouchers, list(account_ids)))
    return found


def _add_holdings(found: dict[int, Holdings], rows: Iterable[asyncpg.Record]) -> None:
    for row in rows:
        if row["cause_type"] is None:
            continue
        account = found[row["account_id"]]
        cause, claim = Cause(row["cause_type"], row["cause_id"]), row["claim"]
        newest = account.claimed.get(cause)
        if newest is None or newest.number < claim:
            newest = account.claimed[cause] = Claimed(claim, row["program_version"])
            account.grants[cause] = {}
        if row["voucher_id"] is not None:
            voucher = _voucher(row)
            if newest.number == claim:
                account.grants[cause][voucher.definition] = voucher.terms
            account.vouchers.append(voucher)


@dataclass(frozen=True, slots=True)
class Coded:
    """A new voucher with the fingerprint of its code."""

    entry: Entry
    fingerprint: bytes


async def follow(
    conn: Writer,
    moved: Sequence[Account],
    claims: Sequence[Claim],
    new: Sequence[Coded],
    entries: Sequence[Entry],
    *,
    key_version: int,
    now: datetime,
) -> None:
    """Keep the accounts' newest ways, what new causes give, new vouchers, and every step into the ledger."""
    vouchers = [item.entry.change.after for item in new]
    await conn.execute(
        sql.follow,
        [account.account_id for account in moved],
        [account.revision for account in moved],
        [account.timeline for account in moved],
        [account.promotions for account in moved],
        now,
        [claim.account_id for claim in claims],
        [claim.cause.type for claim in claims],
        [claim.cause.id for claim in claims],
        [claim.by.number for claim in claims],
        [claim.by.version for claim in claims],
        [msgspec.json.encode(claim.definitions).decode() for claim in claims],
        key_version,
        [voucher.id for voucher in vouchers],
        [item.entry.account.account_id for item in new],
        [voucher.cause.type for voucher in vouchers],
        [voucher.cause.id for voucher in vouchers],
        [voucher.definition for voucher in vouchers],
        [terms_to_json(voucher.terms) for voucher in vouchers],
        [voucher.state for voucher in vouchers],
        [voucher.issued_at for voucher in vouchers],
        [voucher.expires_at for voucher in vouchers],
        [item.fingerprint for item in new],
        [voucher.claim for voucher in vouchers],
        *_steps(entries),
    )


@dataclass(slots=True)
class Merging:
    """An account that is merged, or lives on: as which other it does, and in which account it ends."""

    account_id: int
    into_id: int | None
    survivor: int


async def lock_merging(
    conn: Connection, customer_ids: Collection[str], now: datetime
) -> dict[str, Merging]:
    """Have merges to ourselves until commit, and these customers' accounts, made where missing."""
    await conn.execute(sql.lock_merging)
    await add_accounts(conn, customer_ids, now)
    rows = await conn.fetch(sql.merging, list(customer_ids))
    return {
        row["customer_id"]: Merging(row["account_id"], row["into_id"], row["survivor"])
        for row in rows
    }


async def add_merge(
    conn: Connection, account: int, into: int, survivor: int, event: UUID, now: datetime
) -> None:
    """Let an account, and whoever lives on as it, end in the survivor's."""
    await conn.execute(sql.add_merge, account, into, event, now, survivor)


async def move_vouchers(conn: Connection, vouchers: Sequence[Voucher]) -> None:
    """Give known vouchers their new state, dates and, by another claim, terms."""
    await conn.execute(
        sql.move_vouchers,
        [voucher.id for voucher in vouchers],
        [voucher.state for voucher in vouchers],
        [voucher.issued_at for voucher in vouchers],
        [voucher.expires_at for voucher in vouchers],
        [terms_to_json(voucher.terms) for voucher in vouchers],
        [voucher.claim for voucher in vouchers],
    )


def _steps(entries: Sequence[Entry]) -> tuple[list[object], ...]:
    """Steps as the columns of ``voucher_events``."""
    before = [entry.change.before for entry in entries]
    after = [entry.change.after for entry in entries]
    return (
        [voucher.id for voucher in after],
        [entry.change.step for entry in entries],
        [entry.account.revision for entry in entries],
        [voucher.issued_at for voucher in after],
        [voucher.expires_at for voucher in after],
        [voucher and voucher.issued_at for voucher in before],
        [voucher and voucher.expires_at for voucher in before],
        [entry.event_id for entry in entries],
    )


async def take_expired(conn: Connection, now: datetime, count: int) -> list[Expired]:
    """Mark at most ``count`` vouchers as told to have expired, and return them."""
    rows = await conn.fetch(sql.take_expired, now, count)
    return [Expired(row["customer_id"], row["revision"], _voucher(row)) for row in rows]


async def add_expiries(conn: Connection, expired: Iterable[Expired], now: datetime) -> None:
    """Append the expiries to the ledger; no event caused them, time did."""
    vouchers = [item.voucher for item in expired]
    nothing = [None] * len(vouchers)
    await conn.execute(
        sql.add_voucher_events,
        now,
        [voucher.id for voucher in vouchers],
        [Step.EXPIRED] * len(vouchers),
        [item.revision for item in expired],
        [voucher.issued_at for voucher in vouchers],
        [voucher.expires_at for voucher in vouchers],
        nothing,
        nothing,
        nothing,
    )


def _voucher(row: asyncpg.Record) -> Voucher:
    voucher_id: UUID = row["voucher_id"]
    return Voucher(
        # asyncpg's own UUID class compares equal but is slower to derive from.
        id=UUID(int=voucher_id.int),
        cause=Cause(row["cause_type"], row["cause_id"]),
        definition=row["definition"],
        terms=terms_from_json(row["terms"]),
        state=State(row["state"]),
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        claim=row["claim"],
    )
