"""What has to be looked at again when something came late: one pass, in one order, for accounts that need it."""

from __future__ import annotations

from collections.abc import Collection

from services.points.handlers.clawbacks import claw_back
from services.points.ledger import FLAG_REFUNDS, Account
from shared.events.model import Work
from shared.program import Program


async def settle(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Bring locked accounts with ``flags`` to what all they were told amounts to, by correcting entries.

    The order of the steps matters: campaign caps, tier bonus, clawbacks, who pays for what is owed.
    """
    await claw_back(work, program, [a for a in accounts if a.flags & FLAG_REFUNDS])
