"""Spending: holds, their capture, release and time-out, and points given back. Each a command on one account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.points.domain import facts, spending
from services.points.domain.spending import Hold, Part, Refused, Spendable
from services.points.handlers import spending_events as events
from services.points.handlers.covers import cover
from services.points.handlers.lines import Line
from services.points.handlers.spending_decisions import (
    Asked,
    Capture,
    Decided,
    Release,
    Wish,
    closed,
    decide,
    known,
    let_go,
    unknown_customer,
    written,
)
from services.points.handlers.sweeping import sweep
from services.points.ledger import Account
from services.points.ledger import spending as ledger
from services.points.ledger.spending import FLAG_OWES, Change, Purse
from shared import clock
from shared.contracts.points import RestoredPart
from shared.events.model import Work
from shared.ids import digest_uuid
from shared.program import Program

__all__ = ["Restored", "Spending", "Wish"]

CANCELLED, ASKED = "cancelled", "restored"


class Restored(NamedTuple):
    """A hold after points of it were given back, and where they went."""

    hold: Hold
    parts: Sequence[RestoredPart]


class Spending:
    """The commands, bound to the program in force. All raise ``Refused``; then nothing has been written."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def hold(self, work: Work, wish: Wish) -> Hold:
        """Reserve points of concrete lots for a while."""
        return await self.do(work, wish)

    async def spend(self, work: Work, wish: Wish) -> Hold:
        """Reserve and capture in one step, for tills."""
        return await self.do(work, wish._replace(spent=True))

    async def capture(self, work: Work, hold_id: UUID, points: int | None) -> Hold:
        """Spend reserved points, all or fewer; the rest is free again."""
        return await self.do(work, Capture(hold_id, points))

    async def release(self, work: Work, hold_id: UUID) -> Hold:
        """Let go of reserved points."""
        return await self.do(work, Release(hold_id))

    async def do(self, work: Work, asked: Asked) -> Hold:
        """What is asked for, on an account that is waited for if somebody else has it."""
        purse: Purse | None
        if isinstance(asked, Wish):
            purse = await ledger.lock_customer(work.conn, asked.customer_id, work.now)
            if purse is None:
                raise unknown_customer(asked.customer_id)
        else:
            purse, _ = await self._known(work, asked.hold_id)
        return await self._apply(work, decide(work, self._program, purse, asked))

    async def time_out(self, work: Work, hold_id: UUID) -> bool:
        """Write down that a hold's time is over; false if there is nothing to write."""
        purse = await ledger.lock_hold(work.conn, hold_id, work.now)
        hold = purse and purse.hold
        if not purse or not hold or hold.state != "held" or work.now < hold.expires_at:
            return False
        await self._apply(work, let_go(work, purse, hold, "expired", hold.expires_at))
        return True

    async def restore(
        self, work: Work, hold_id: UUID, points: int | None, reason: str = ASKED
    ) -> Restored:
        """Give spent points back to their lots: what was taken last comes back first."""
        purse, hold = await self._known(work, hold_id)
        if hold.state != "captured":
            raise closed(hold, work.now, "Only captured points can be given back.")
        left = hold.captured - hold.restored
        wanted = left if points is None else points
        if not 0 < wanted <= left:
            raise Refused(
                "restore-exceeds-capture",
                f"{left} of the {hold.captured} captured points are not given back yet.",
                restorable=left,
            )
        return await self._give_back(work, purse, hold, wanted, reason)

    async def restore_order(
        self, work: Work, account: Account, order_id: str
    ) -> Sequence[Restored]:
        """Give back all that the account's person spent on an order, and let go of what is reserved for it.

        For a cancellation, in its transaction: ``account`` is locked and all lines so far are appended; who has
        accounts in hand lets them catch up. Nothing spent is nothing to do.
        """
        found = []
        for row in await ledger.holds_of_order(work.conn, account, order_id):
            purse, hold = await self._known(work, row["hold_id"])
            if hold.state == "held":
                end = min(max(work.now, hold.held_at), hold.expires_at)
                state: spending.State = "expired" if end == hold.expires_at else "released"
                await self._apply(work, let_go(work, purse, hold, state, end))
            else:
                left = hold.captured - hold.restored
                found.append(await self._give_back(work, purse, hold, left, CANCELLED))
        return found

    async def _known(self, work: Work, hold_id: UUID) -> tuple[Purse, Hold]:
        return known(await ledger.lock_hold(work.conn, hold_id, work.now), hold_id)

    async def _apply(self, work: Work, decided: Decided) -> Hold:
        change = decided.change
        await ledger.store(work.conn, [change], work.now)
        decided.tell(work)
        if decided.owing:
            await cover(work, self._program, [change.account])
        return change.hold

    async def _give_back(
        self, work: Work, purse: Purse, hold: Hold, points: int, reason: str
    ) -> Restored:
        account, lots = replace(purse.account), {lot.lot_id: lot for lot in purse.lots}
        done = replace(hold, restored=hold.restored + points)
        at = max(work.now, hold.ended_at)
        lines: list[Line] = []
        parts: list[RestoredPart] = []
        for part in spending.given_back(hold.parts, hold.captured, hold.restored, points):
            back = self._returning(hold, part, lots[part.lot_id], at)
            lines.append(back)
            parts.append(
                RestoredPart(
                    lot_id=str(part.lot_id),
                    points=part.points,
                    into_lot_id=str(back.lot_id),
                    expires_at=back.dates.expires_at,
                    expired=not back.dates.counts(at) and back.dates.available_at <= at,
                )
            )
        rows = written(work, self._program, account, hold, lines)
        ends = [row.expires_at for row in rows if row.expires_at is not None]
        due = max(min(ends), at) if ends else None
        await ledger.store(work.conn, [Change(done, account, rows, due)], work.now)
        events.restored(work, done, points, parts, reason, at)
        # What comes back to a merged account moves on to the one as which it lives on.
        accounts = await sweep(work, self._program, [account])
        await cover(work, self._program, [a for a in accounts if a.flags & FLAG_OWES])
        return Restored(done, parts)

    def _returning(self, hold: Hold, part: Part, lot: Spendable, at: datetime) -> Line:
        """The line that gives points back: to their lot, or where that is over, by grace to one of their own."""
        entry_id = digest_uuid(
            spending.RESTORED, str(hold.id), str(part.lot_id), str(hold.restored)
        )
        grace, lot_id, code = self._program.grace_on_restore, part.lot_id, facts.GIVEN_BACK
        if grace is not None and lot.expires_at is not None and lot.expires_at <= at:
            ends = clock.end_of_day(at, grace, self._program.zone)
            lot = lot._replace(occurred_at=at, available_at=at, expires_at=ends)
            lot_id, code = entry_id, facts.GIVEN_NEW_LIFE
        return Line(entry_id, spending.RESTORED, code, part.points, lot_id, lot, at)
