"""What must always hold: queries, and two recomputations, that must find nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from services.rewards import ledger
from services.rewards.domain.codes import Keyring
from services.rewards.domain.vouchers import promotions, reconcile, wanted
from services.rewards.ledger import Holdings
from shared.contracts.tiers import TierMove
from shared.db.types import Connection
from shared.invariants import Invariant
from shared.program import Program

if TYPE_CHECKING:
    from asyncpg import Record

# Rows recomputed at once.
CHUNK_ROWS = 2000

QUERIES = (
    Invariant(
        "vouchers-as-claimed",
        "every voucher is one that its cause gives, and every definition that a cause gives has"
        " its voucher while the customer's way through the levels has the cause",
        "SELECT c.account_id, c.cause_type, c.cause_id, c.definitions, v.definition FROM vouchers v"
        " JOIN claims c USING (account_id, cause_type, cause_id, claim)"
        " WHERE v.definition <> ALL (c.definitions)"
        " UNION ALL"
        " SELECT c.account_id, c.cause_type, c.cause_id, c.definitions, d.definition FROM claims c"
        " CROSS JOIN unnest(c.definitions) AS d (definition)"
        " WHERE NOT EXISTS (SELECT FROM vouchers v WHERE v.account_id = c.account_id"
        " AND v.cause_type = c.cause_type AND v.cause_id = c.cause_id"
        " AND v.definition = d.definition)",
    ),
    Invariant(
        "vouchers-follow-their-ledger",
        "dates and revocation of an unused voucher are those of its last step in the ledger",
        "SELECT v.voucher_id, v.state, e.step, v.issued_at, e.issued_at AS step_issued_at,"
        " v.expires_at, e.expires_at AS step_expires_at FROM vouchers v LEFT JOIN LATERAL ("
        " SELECT * FROM voucher_events WHERE voucher_id = v.voucher_id AND step <> 'expired'"
        " ORDER BY id DESC LIMIT 1) e ON true"
        " WHERE v.state IN ('issued', 'revoked') AND (e.step IS NULL"
        " OR (v.issued_at, v.expires_at) IS DISTINCT FROM (e.issued_at, e.expires_at)"
        " OR (v.state = 'revoked') <> (e.step = 'revoked'))",
    ),
    Invariant(
        "voucher-steps-in-order",
        "the ledger of a voucher begins with its issue, and no step repeats the one before it",
        "SELECT voucher_id, id, step, previous FROM (SELECT voucher_id, id, step,"
        " lag(step) OVER (PARTITION BY voucher_id ORDER BY id) AS previous"
        " FROM voucher_events WHERE step <> 'expired') s"
        " WHERE (previous IS NULL) <> (step = 'issued')"
        " OR (step = 'reinstated') <> (previous IS NOT DISTINCT FROM 'revoked')",
    ),
    Invariant(
        "told-expiries-are-over",
        "no voucher was told to have expired before it had",
        "SELECT voucher_id, expires_at, recorded_at FROM voucher_events"
        " WHERE step = 'expired' AND (expires_at IS NULL OR expires_at > recorded_at)",
    ),
    Invariant(
        "merged-ids-are-one-person",
        "whoever lives on as another ends in the same account as that one, and nobody else in any"
        " but their own",
        "SELECT a.customer_id, a.person_id, m.into_id, i.person_id AS into_person FROM accounts a"
        " LEFT JOIN merges m USING (account_id) LEFT JOIN accounts i ON i.account_id = m.into_id"
        " WHERE (m.into_id IS NOT NULL AND (a.person_id IS NULL OR a.person_id = a.account_id"
        " OR a.person_id IS DISTINCT FROM i.person_id))"
        " OR (m.into_id IS NULL AND a.person_id <> a.account_id)",
    ),
)


def of(program: Program, keyring: Keyring) -> Sequence[Invariant]:
    """All invariants; the recomputations need the program in force and the secrets."""
    return (
        *QUERIES,
        Invariant(
            "vouchers-as-wanted",
            "the vouchers are those that the customer's way through the levels calls for, with"
            " state and dates as if computed afresh",
            partial(_not_as_wanted, program),
        ),
        Invariant(
            "codes-fit-the-secret",
            "the stored fingerprint of every voucher is that of the code which the secret gives",
            partial(_wrong_codes, keyring),
        ),
    )


async def _not_as_wanted(program: Program, conn: Connection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for accounts in _chunks(conn, ledger.sql.told_accounts):
        held = await ledger.holdings(conn, [account["account_id"] for account in accounts])
        for account in accounts:
            holdings = held[account["account_id"]]
            timeline = ledger.timeline_of(account["calls"])
            found += _deviations(program, account["customer_id"], timeline, holdings)
    return found


def _deviations(
    program: Program, customer_id: str, timeline: list[TierMove], held: Holdings
) -> Iterator[dict[str, Any]]:
    for _, cause in promotions(timeline):
        if cause not in held.grants:
            wrong = f"not decided by program {program.version}"
            yield {"customer_id": customer_id, "cause": cause.id, "wrong": wrong}
    calls = wanted(timeline, held.grants, held.claimed)
    for change in reconcile(customer_id, held.vouchers, calls):
        yield {
            "customer_id": customer_id,
            "cause": change.after.cause.id,
            "voucher": change.after.definition,
            "wrong": f"should have been {change.step}",
        }


async def _wrong_codes(keyring: Keyring, conn: Connection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for vouchers in _chunks(conn, ledger.sql.fingerprints):
        for voucher_id, version, fingerprint in vouchers:
            if not keyring.fits(voucher_id, version, fingerprint):
                found.append({"voucher_id": voucher_id, "key_version": version})
    return found


async def _chunks(conn: Connection, text: str) -> AsyncIterator[list[Record]]:
    cursor = await conn.cursor(text)
    while rows := await cursor.fetch(CHUNK_ROWS):
        yield rows
