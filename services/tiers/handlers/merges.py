"""Ids that are one person, as points decided: from then on there is one way for all that was bought."""

from __future__ import annotations

from collections.abc import Sequence

from services.tiers import ledger
from services.tiers.domain import validation
from services.tiers.domain.persons import Merge
from services.tiers.domain.rules import Rules
from services.tiers.handlers.walking import walk_persons
from shared.contracts.points import CustomersMerged
from shared.errors import Poison
from shared.events.model import Event, Work

# Points tells none of these: it refused them by the same names.
ALREADY = "already-merged"
CYCLE = "merge-cycle"


class Merges:
    """The handler, bound to the rules in force."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    async def handle(self, work: Work, events: Sequence[Event[CustomersMerged]]) -> None:
        """Let customers live on as others, and walk whoever they are now."""
        sound = [event for event in events if _is_sound(work, event)]
        if not sound:
            return
        # Whom this batch has walked already is looked at again.
        await work.flush()
        await ledger.lock_merging(work.conn)
        rules = self._rules
        rules.look()
        accounts = await ledger.lock_accounts(
            work.conn,
            {name for event in sound for name in (event.data.customer_id, event.data.into)},
            rules.version,
            rules.first_standing,
            work.now,
        )
        merged = await ledger.merged_into(work.conn, [one.id for one in accounts.values()])
        persons: set[int] = set()
        for event in sound:
            account, into = accounts[event.data.customer_id], accounts[event.data.into]
            survivor = into.person_id or into.id
            if account.id in merged:
                if merged[account.id] == into.id:
                    work.duplicate(event, f"{account.customer_id!r} lives on as that already")
                else:
                    work.refuse(event, ALREADY)
                continue
            if survivor == account.id:
                work.refuse(event, CYCLE)
                continue
            merge = Merge(into.id, event.data.occurred_at)
            await ledger.add_merge(work.conn, account.id, merge, survivor, event.key, work.now)
            merged[account.id] = into.id
            into.person_id = survivor
            for one in accounts.values():
                if one.id in (account.id, survivor) or one.person_id == account.id:
                    one.person_id = survivor
            persons = (persons - {account.id}) | {survivor}
        await walk_persons(work, rules, persons)


def _is_sound(work: Work, event: Event[CustomersMerged]) -> bool:
    try:
        validation.check_texts(event.data.customer_id, event.data.into)
        validation.check_instant(event.data.occurred_at, "data.occurred_at")
    except Poison as poison:
        work.poison(event, poison.field, poison.reason)
        return False
    return True
