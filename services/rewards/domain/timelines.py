"""Checks what tiers told about a customer before anything is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.contracts.envelope import ID_CHARS_MAX
from shared.contracts.points import CustomersMerged
from shared.contracts.tiers import TierChanged, TierMove
from shared.errors import Poison

REVISION_MAX = 2**63 - 1
NUL = "\x00"


def check(data: TierChanged) -> None:
    """Raise Poison, naming the field, for what no tiers service can have meant."""
    check_customer(data.customer_id)
    if not 1 <= data.revision <= REVISION_MAX:
        raise Poison("data.revision", f"must be from 1 to {REVISION_MAX}")
    _check_moves(data.timeline, "data.timeline")
    if data.promotions is not None:
        _check_moves(data.promotions, "data.promotions")


def _check_moves(moves: Sequence[TierMove], name: str) -> None:
    reached: set[tuple[str, int]] = set()
    for place, move in enumerate(moves):
        path = f"{name}[{place}]"
        _check_instant(move.since, f"{path}.since")
        if move.kind != "upgraded":
            continue
        if NUL in move.tier or not move.tier:
            raise Poison(f"{path}.tier", "is empty or contains a NUL character")
        if move.reach < 1:
            raise Poison(f"{path}.reach", "must be at least 1 for an upgrade")
        if (move.tier, move.reach) in reached:
            raise Poison(f"{path}.reach", f"{move.tier} is reached twice as #{move.reach}")
        reached.add((move.tier, move.reach))


def check_merge(data: CustomersMerged) -> None:
    """Raise Poison for ids that no shop's customers have."""
    check_customer(data.customer_id)
    check_customer(data.into, "data.into")


def check_customer(customer_id: str, path: str = "data.customer_id") -> None:
    """Raise Poison for an id that no shop's customer has."""
    if not customer_id:
        raise Poison(path, "is empty")
    if len(customer_id) > ID_CHARS_MAX:
        raise Poison(path, f"has more than {ID_CHARS_MAX} characters")
    if NUL in customer_id:
        raise Poison(path, "contains a NUL character")


def _check_instant(instant: datetime, path: str) -> None:
    if instant.tzinfo is None:
        raise Poison(path, "has no time zone")
