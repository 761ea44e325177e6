"""The write side: one module per kind of thing written; each function a named statement for a whole batch."""

from __future__ import annotations

from services.points.ledger.entries import (
    FLAG_CAPPED,
    FLAG_HEIR,
    FLAG_MERGED,
    FLAG_REFERRED,
    FLAG_REFUNDS,
    FLAG_SPENT,
    FLAG_WITHDRAWN,
    Account,
    EntryRow,
    Known,
    UncreditedRow,
    add_uncredited,
    append,
    lock_accounts,
    lock_and_know,
    take_timelines,
)

__all__ = [
    "FLAG_CAPPED",
    "FLAG_HEIR",
    "FLAG_MERGED",
    "FLAG_REFERRED",
    "FLAG_REFUNDS",
    "FLAG_SPENT",
    "FLAG_WITHDRAWN",
    "Account",
    "EntryRow",
    "Known",
    "UncreditedRow",
    "add_uncredited",
    "append",
    "lock_accounts",
    "lock_and_know",
    "take_timelines",
]
