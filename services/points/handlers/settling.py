"""What has to be looked at again when something came late: one pass, in one order, for accounts that need it."""

from __future__ import annotations

from collections.abc import Collection

from services.points.ledger import Account
from shared.events.model import Work
from shared.program import Program


async def settle(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Bring locked accounts with ``flags`` to what all they were told amounts to, by correcting entries."""
    del work, program, accounts
