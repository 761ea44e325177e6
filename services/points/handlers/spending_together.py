"""Spending by many at once: commands that wait share a transaction, where nothing is unusual about them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.points.domain.spending import Hold, Refused
from services.points.handlers.spending_decisions import Asked, Wish, afterwards, decide
from services.points.ledger import FLAG_MERGED
from services.points.ledger import spending as ledger
from services.points.ledger.spending import FLAG_OWES, Change, Purse
from shared.events.model import Work
from shared.program import Program

# Whose accounts are left to the commands by themselves: others may have to pay for a lot, or another account does.
UNUSUAL = FLAG_OWES | FLAG_MERGED


class Together:
    """The commands of ``Spending``, many in one transaction, one after the other where they share an account."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def do(self, work: Work, asked: Sequence[Asked]) -> Sequence[Hold | Refused | None]:
        """What became of each. None: it is unknown, locked by somebody else or unusual, and was not done here."""
        customers = {one.customer_id for one in asked if isinstance(one, Wish)}
        wanted = {one.hold_id for one in asked if not isinstance(one, Wish)}
        purses, holds = await ledger.lock_free(work.conn, customers, wanted, work.now)
        changes: list[Change] = []
        found = [self._one(work, one, purses, holds, changes) for one in asked]
        if changes:
            await ledger.store(work.conn, changes, work.now)
        return found

    def _one(
        self,
        work: Work,
        asked: Asked,
        purses: dict[str, Purse],
        holds: dict[UUID, Hold],
        changes: list[Change],
    ) -> Hold | Refused | None:
        hold = None if isinstance(asked, Wish) else holds.get(asked.hold_id)
        whose = asked.customer_id if isinstance(asked, Wish) else hold and hold.customer_id
        purse = purses.get(whose) if whose else None
        if purse is None or purse.account.flags & UNUSUAL:
            return None
        try:
            decided = decide(work, self._program, purse._replace(hold=hold), asked)
        except Refused as refused:
            return refused
        if decided.owing:
            return None
        change = decided.change
        changes.append(change)
        decided.tell(work)
        # What comes next in this group finds it done.
        holds[change.hold.id] = change.hold
        after = afterwards(purse.lots, hold, change)
        purses[change.account.customer_id] = Purse(change.account, after, None)
        return change.hold
