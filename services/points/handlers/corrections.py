"""Corrections by people: each in one transaction, as new entries; what the rules refuse changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from services.points import ledger
from services.points.domain import corrections, facts
from services.points.domain.corrections import (
    ADJUSTED,
    EXTENSION,
    REVERSED,
    Adjustment,
    Line,
    Refused,
    Touched,
)
from services.points.handlers.settling import settle
from services.points.handlers.telling import adjusted
from services.points.ledger import FLAG_SPENT, Account, EntryRow
from services.points.ledger import corrections as stored
from services.points.ledger import spending as spendings
from services.points.ledger.spending import Purse
from shared.contracts import points as contract
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program


@dataclass(frozen=True, slots=True)
class Cause:
    """Whose command this is; ``id`` is the same for the same command for ever."""

    id: UUID
    actor: str


class Booked(NamedTuple):
    """The lines that a correction wrote, by column name; ``before``: when it was first sent."""

    customer_id: str
    lines: Sequence[Any]
    before: bool = False


class Waiting(NamedTuple):
    """A correction that a second person must decide, by column name; ``before``: sent before."""

    correction: Any
    before: bool = False


class _Draft(NamedTuple):
    """What all lines of one correction have in common."""

    kind: str
    cause: Cause
    code: str
    reason: str
    told: str
    said: Sequence[str]
    fingerprint: int = 0


class Corrections:
    """The commands, bound to the program."""

    def __init__(self, program: Program) -> None:
        program.look()
        self._program = program

    async def adjust(
        self, work: Work, customer_id: str, wanted: Adjustment, cause: Cause
    ) -> Booked | Waiting:
        """Give or take points; above the program's limit a second person is asked first. Raises Refused."""
        fingerprint = _fingerprint(customer_id, wanted)
        known = await self._known(work, cause, fingerprint)
        if known is not None:
            return known
        corrections.check(wanted, self._rules(work), work.now)
        purse = await _purse(work, customer_id)
        if not corrections.needs_second_person(wanted.points, self._rules(work)):
            draft = _draft(cause, wanted, "", fingerprint)
            return await self._adjust(work, purse, wanted, draft)
        account = purse.account
        # Whether it could be booked now: nobody shall approve what cannot be.
        corrections.touched(wanted, purse.lots, self._rules(work), work.now)
        await stored.ask_second_person(
            work.conn, cause.id, account, wanted, fingerprint, cause.actor, work.now
        )
        return Waiting(await stored.correction(work.conn, cause.id))

    async def decide(
        self, work: Work, correction_id: UUID, by: str, note: str | None, *, approve: bool
    ) -> Waiting:
        """Let a second person approve or decline; approving books it as of now. Raises Refused."""
        found = await self._waiting(work, correction_id)
        if found["requested_by"] == by:
            detail = "Who asked for a correction cannot decide it: a second person must."
            raise Refused("second-person-required", detail)
        # The account's lock is the correction's too: two who decide at once come one after the other.
        purse = await _purse(work, found["customer_id"])
        found = await self._waiting(work, correction_id)
        if found["state"] != "pending":
            detail = f"This correction was {found['state']} by {found['decided_by']}."
            raise Refused("already-decided", detail, state=found["state"])
        if approve:
            wanted = Adjustment(
                found["points"], found["reason_code"], found["reason"], found["expires_at"]
            )
            corrections.check(wanted, self._rules(work), work.now)
            cause = Cause(correction_id, found["requested_by"])
            await self._adjust(work, purse, wanted, _draft(cause, wanted, by, found["fingerprint"]))
        state = "approved" if approve else "declined"
        await stored.decide(work.conn, correction_id, state, by, work.now, note)
        return Waiting(await self._waiting(work, correction_id))

    async def reverse(self, work: Work, entry_id: UUID, reason: str, cause: Cause) -> Booked:
        """Undo one entry by another on the same lot, once. Raises Refused."""
        reversal = digest_uuid(REVERSED, str(entry_id))
        row = await stored.line(work.conn, entry_id, reversal)
        if row is None:
            raise Refused("entry-not-found", f"There is no ledger line {entry_id}.")
        # The very account of the line: where it lives on as another, settling moves the reversal on.
        accounts = await ledger.lock_accounts(work.conn, [row["customer_id"]])
        account = accounts[row["customer_id"]]
        row = await stored.line(work.conn, entry_id, reversal) or row
        line = Line(**{name: row[name] for name in Line.__slots__})
        corrections.check_reversal(line)
        part = Touched(line.lot_id, -line.points, row["available_at"], row["expires_at"])
        # What it reverses stands with it, for those who check.
        said = (reason, cause.actor, str(entry_id))
        draft = _Draft(REVERSED, cause, row["reason"], reason, facts.UNDONE, said)
        entry = self._row(work, account, part, reversal, draft)
        return await self._write(work, account, [entry], draft)

    async def extend(
        self, work: Work, lot_id: UUID, expires_at: datetime | None, reason: str, cause: Cause
    ) -> Booked:
        """Let what is left in a lot count longer: it moves to a new lot with the new date. Raises Refused."""
        known = await stored.lines_of_causes(work.conn, [_entry_id(EXTENSION, cause, 0)])
        if known:
            return Booked(known[0]["customer_id"], known, before=True)
        row = await stored.line(work.conn, lot_id, lot_id)
        if row is None or row["lot_id"] != lot_id:
            raise Refused("lot-not-found", f"There is no lot {lot_id}.")
        purse = await _purse(work, row["customer_id"])
        lot = next((lot for lot in purse.lots if lot.lot_id == lot_id), None)
        halves = corrections.extended(lot, expires_at, work.now)
        drafts = [
            _Draft(ADJUSTED, cause, EXTENSION, reason, told, (reason, cause.actor))
            for told in (facts.EXTENDED_OUT, facts.EXTENDED_IN)
        ]
        rows = [
            self._row(work, purse.account, half, _entry_id(EXTENSION, cause, number), draft)
            for number, (half, draft) in enumerate(zip(halves, drafts, strict=True))
        ]
        return await self._write(work, purse.account, rows, drafts[0])

    def _rules(self, work: Work) -> Program:
        """A correction happens now, so the rules of now bound it."""
        return self._program.at(work.now)

    async def _known(self, work: Work, cause: Cause, fingerprint: int) -> Booked | Waiting | None:
        """What this very command did, however long ago."""
        waiting = await stored.correction(work.conn, cause.id)
        lines = await stored.lines_of_causes(work.conn, [first_entry(cause.id)])
        before = waiting or (lines[0] if lines else None)
        if before is None:
            return None
        if before["fingerprint"] != fingerprint:
            detail = "This Idempotency-Key came with another body before."
            raise Refused("idempotency-key-reused", detail)
        if waiting:
            return Waiting(waiting, before=True)
        return Booked(before["customer_id"], lines, before=True)

    async def _waiting(self, work: Work, correction_id: UUID) -> Any:
        found = await stored.correction(work.conn, correction_id)
        if found is None:
            raise Refused("adjustment-not-found", f"No adjustment {correction_id} ever waited.")
        return found

    async def _adjust(self, work: Work, purse: Purse, wanted: Adjustment, draft: _Draft) -> Booked:
        parts = corrections.touched(wanted, purse.lots, self._rules(work), work.now)
        rows = [
            self._row(work, purse.account, part, _entry_id(ADJUSTED, draft.cause, number), draft)
            for number, part in enumerate(parts)
        ]
        return await self._write(work, purse.account, rows, draft)

    def _row(
        self, work: Work, account: Account, part: Touched, entry_id: UUID, draft: _Draft
    ) -> EntryRow:
        account.seq += 1
        account.balance += part.points
        return EntryRow(
            entry_id=entry_id,
            account_id=account.id,
            seq=account.seq,
            kind=draft.kind,
            points=part.points,
            base=0,
            bonus=0,
            balance_after=account.balance,
            lot_id=part.lot_id or entry_id,
            occurred_at=work.now,
            recorded_at=work.now,
            available_at=part.available_at,
            expires_at=part.expires_at,
            shop=None,
            order_id=None,
            event_key=draft.cause.id,
            event_id=str(draft.cause.id),
            fingerprint=draft.fingerprint,
            net_spend=Decimal(0),
            exact="0",
            tier=None,
            multiplier="1",
            reason=draft.code,
            explanation=facts.pack_fact(
                draft.told, part.points, part.points, draft.said, self._rules(work)
            ),
            actor=draft.cause.actor,
            active_from=part.expires_at if part.moves else None,
        )

    async def _write(
        self,
        work: Work,
        account: Account,
        rows: Sequence[EntryRow],
        draft: _Draft,
    ) -> Booked:
        """Append, tell, and settle: whatever leaves a lot can leave it owed later."""
        await ledger.append(work.conn, rows, [account])
        for row in rows:
            _publish(work, account, row, draft)
        if any(row.points < 0 for row in rows) and not account.flags & FLAG_SPENT:
            account.flags |= FLAG_SPENT
            await spendings.set_flags(work.conn, [account])
        if account.flags:
            # With all that settling asks for, which spending leaves out.
            accounts = await ledger.lock_accounts(work.conn, [account.customer_id])
            await settle(work, self._program, accounts.values())
        return Booked(account.customer_id, [row._asdict() for row in rows])


async def _purse(work: Work, customer_id: str) -> Purse:
    """The account of a customer, or of the one as whom they live on, locked with what it can spend."""
    purse = await spendings.lock_customer(work.conn, customer_id, work.now)
    if purse is None:
        raise Refused("customer-not-found", f"There is no customer {customer_id!r} here.")
    return purse


def _draft(cause: Cause, wanted: Adjustment, approver: str, fingerprint: int) -> _Draft:
    said = (wanted.reason, cause.actor, approver)
    return _Draft(
        ADJUSTED, cause, wanted.reason_code, wanted.reason, facts.CORRECTED, said, fingerprint
    )


def first_entry(correction_id: UUID) -> UUID:
    """The id of the first line of a correction."""
    return digest_uuid(ADJUSTED, str(correction_id), "0")


def _entry_id(what: str, cause: Cause, number: int) -> UUID:
    return digest_uuid(what, str(cause.id), str(number))


def _fingerprint(customer_id: str, wanted: Adjustment) -> int:
    until = wanted.expires_at.isoformat() if wanted.expires_at else ""
    told = digest_uuid(customer_id, str(wanted.points), wanted.reason_code, wanted.reason, until)
    return int.from_bytes(told.bytes[:8], "big", signed=True)


def _publish(work: Work, account: Account, row: EntryRow, draft: _Draft) -> None:
    work.publish(
        contract.TOPIC,
        account.customer_id,
        contract.ADJUSTED,
        derive(contract.ADJUSTED, str(row.entry_id)),
        work.now,
        replace(adjusted(account, row), kind=row.kind, actor=row.actor, note=draft.reason),
    )
