"""What has to be looked at again when something came late: one pass, in one order, for accounts that need it."""

from __future__ import annotations

from collections.abc import Collection

from services.points.handlers.campaigns import settle as settle_campaigns
from services.points.handlers.clawbacks import claw_back
from services.points.handlers.covers import cover
from services.points.handlers.referrals import settle_referrals
from services.points.handlers.sweeping import borrow
from services.points.handlers.withdrawals import withdraw
from services.points.ledger import FLAG_REFUNDS, FLAG_WITHDRAWN, Account
from shared.events.model import Work
from shared.program import Program


async def settle(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Bring locked accounts with ``flags`` to what all they were told amounts to, by correcting entries.

    The order of the steps matters: referrals, campaign caps, tier bonus, clawbacks, withdrawals, who pays for what
    is owed.
    """
    accounts = await borrow(work, await settle_referrals(work, program, accounts))
    await settle_campaigns(work, program, accounts)
    await claw_back(work, program, [a for a in accounts if a.flags & FLAG_REFUNDS], accounts)
    await withdraw(work, program, [a for a in accounts if a.flags & FLAG_WITHDRAWN])
    await cover(work, program, accounts)
