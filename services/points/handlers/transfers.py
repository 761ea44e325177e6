"""Points that one customer gives to another, where the program allows it: they keep the dates they had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from msgspec.structs import replace

from services.points import ledger
from services.points.domain import facts, spending
from services.points.domain.spending import Refused, Spendable
from services.points.handlers.covers import cover
from services.points.handlers.lines import Line, line
from services.points.handlers.spending_decisions import insufficient, unknown_customer
from services.points.handlers.telling import adjusted
from services.points.ledger import FLAG_SPENT, Account, EntryRow
from services.points.ledger import spending as store
from services.points.ledger.spending import Purse
from shared.contracts import points as contract
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program

REASON = "transfer"


class Transferred(NamedTuple):
    """A transfer: the lines that took and those that gave, each of the latter a lot of its own."""

    id: UUID
    taken: Sequence[EntryRow]
    given: Sequence[EntryRow]


class Transfers:
    """The command, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def transfer(
        self,
        work: Work,
        giver: str,
        receiver: str,
        points: int,
        *,
        reason: str | None = None,
        actor: str | None = None,
    ) -> Transferred:
        """Move points in spend order. Raises ``Refused``; then nothing has been written."""
        if not self._program.transfers:
            raise Refused(
                "transfers-not-allowed", "This program does not let customers give points."
            )
        if giver == receiver:
            raise Refused("same-customer", "Points are given to another customer, not to oneself.")
        purses = await self._locked(work, giver, receiver)
        from_, to = purses[giver], purses[receiver].account
        parts = spending.allocate(from_.lots, points, work.now)
        if parts is None:
            raise insufficient(spending.means(from_.lots, work.now), points)
        transfer_id = uuid4()
        lots = {lot.lot_id: lot for lot in from_.lots}
        taken: list[EntryRow] = []
        given: list[EntryRow] = []
        for part in parts:
            lot = lots[part.lot_id]
            out_id = digest_uuid(spending.TRANSFERRED, str(transfer_id), str(part.lot_id), "out")
            in_id = digest_uuid(spending.TRANSFERRED, str(transfer_id), str(part.lot_id), "in")
            out = Line(
                out_id,
                spending.TRANSFERRED,
                facts.GIVEN_TO,
                -part.points,
                part.lot_id,
                lot,
                work.now,
            )
            fresh = Spendable(in_id, 0, 0, work.now, work.now, lot.expires_at)
            into = Line(
                in_id, spending.TRANSFERRED, facts.GIVEN_BY, part.points, in_id, fresh, work.now
            )
            for account, written, rows, said in (
                (from_.account, out, taken, [receiver, reason or ""]),
                (to, into, given, [giver, reason or ""]),
            ):
                row = line(work, self._program, account, written, transfer_id, said, actor=actor)
                if account is to and lot.moves:
                    row = row._replace(active_from=row.expires_at)
                rows.append(row)
                _tell(work, account, row)
        from_.account.flags |= FLAG_SPENT
        await ledger.append(work.conn, [*taken, *given], [from_.account, to])
        await store.set_flags(work.conn, [from_.account])
        await cover(work, self._program, [from_.account, to])
        return Transferred(transfer_id, taken, given)

    async def _locked(self, work: Work, *customers: str) -> dict[str, Purse]:
        """Both accounts, locked in the order in which every writer locks."""
        ids = await store.account_ids(work.conn, customers)
        found: dict[str, Purse] = {}
        for customer in sorted(customers, key=lambda name: ids.get(name, 0)):
            purse = await store.lock_customer(work.conn, customer, work.now)
            if purse is None:
                raise unknown_customer(customer)
            found[customer] = purse
        return found


def _tell(work: Work, account: Account, row: EntryRow) -> None:
    told = replace(adjusted(account, row), reason=REASON)
    event_id = derive(contract.ADJUSTED, str(row.entry_id))
    who = account.customer_id
    work.publish(contract.TOPIC, who, contract.ADJUSTED, event_id, row.occurred_at, told)
