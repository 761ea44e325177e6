"""Spending by many at once: commands that wait share a transaction, where nothing is unusual about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
        left = Counter(_whose(one, holds) for one in asked)
        changes: list[Change] = []
        found: list[Hold | Refused | None] = []
        for one in asked:
            whose = _whose(one, holds)
            left[whose] -= 1
            change = self._one(work, one, purses.get(whose), holds)
            found.append(change.hold if isinstance(change, Change) else change)
            if isinstance(change, Change):
                changes.append(change)
                if left[whose]:
                    # What comes next in this group finds it done.
                    before = None if isinstance(one, Wish) else holds[one.hold_id]
                    after = afterwards(purses[whose].lots, before, change)
                    purses[whose] = Purse(change.account, after, None)
                    holds[change.hold.id] = change.hold
        if changes:
            await ledger.store(work.last, changes, work.now)
        return found

    def _one(
        self, work: Work, asked: Asked, purse: Purse | None, holds: Mapping[UUID, Hold]
    ) -> Change | Refused | None:
        if purse is None or purse.account.flags & UNUSUAL:
            return None
        if not isinstance(asked, Wish):
            purse = purse._replace(hold=holds[asked.hold_id])
        try:
            decided = decide(work, self._program, purse, asked)
        except Refused as refused:
            return refused
        if decided.owing:
            return None
        decided.tell(work)
        return decided.change


def _whose(asked: Asked, holds: Mapping[UUID, Hold]) -> str:
    """The customer whose account is asked for; nobody's where it is unknown or somebody else has it."""
    if isinstance(asked, Wish):
        return asked.customer_id
    hold = holds.get(asked.hold_id)
    return hold.customer_id if hold else ""
